//! Results of attention over part of the keys, and how two of them become one.

use crate::simd::{Kernel, LANES, Simd, math};

// A partial result is attention of one query row over some keys: the greatest score `max`, the
// sum `total` of `e^(score - max)`, and the sum of values weighted by the same. In memory:
// `[max, total, (padding), values ...]`, the values padded to whole vectors. Without keys, `max`
// is minus infinity.

/// Floats before the values.
pub(super) const HEADER: usize = LANES;

/// Floats of a partial result.
pub(super) fn partial_len(v_dim: usize) -> usize {
    HEADER + v_dim.next_multiple_of(LANES)
}

/// The weighted mean of the values of a partial result.
pub(super) fn result(partial: &[f32], out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(&partial[HEADER..]) {
        *out = value / partial[1];
    }
}

/// Merges partial results `from` of later keys into those of earlier ones, row by row.
pub(super) struct Merge<'a> {
    pub(super) v_dim: usize,
    pub(super) into: &'a mut [f32],
    pub(super) from: &'a [f32],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = partial_len(self.v_dim);
        for (into, from) in self
            .into
            .chunks_exact_mut(len)
            .zip(self.from.chunks_exact(len))
        {
            if from[0] == f32::NEG_INFINITY {
                continue;
            }
            if into[0] == f32::NEG_INFINITY {
                into.copy_from_slice(from);
                continue;
            }
            let max = if from[0] > into[0] { from[0] } else { into[0] };
            let (a, b) = (exp(s, into[0] - max), exp(s, from[0] - max));
            into[0] = max;
            into[1] = into[1].mul_add(a, from[1] * b);
            let (a, b) = (s.splat(a), s.splat(b));
            let values = into[HEADER..].as_chunks_mut::<LANES>().0;
            for (x, y) in values.iter_mut().zip(from[HEADER..].as_chunks::<LANES>().0) {
                s.store(s.fma(s.load(x), a, s.mul(s.load(y), b)), x);
            }
        }
    }
}

/// `e^x` of one number.
#[inline(always)]
fn exp<S: Simd>(s: S, x: f32) -> f32 {
    s.to_array(math::exp(s, s.splat(x)))[0]
}
