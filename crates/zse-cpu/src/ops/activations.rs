//! Activations rounded to 8 bits for products with quantized weights, by the contract of
//! [`zse_quant::contract`].

use zse_quant::contract::GROUP;

use crate::par::{SharedSlice, chunk_len};
use crate::simd::{Kernel, LANES, Simd, array};

use super::{Ctx, resize};

/// Columns of activations as the contract rounds them.
#[derive(Default)]
pub(crate) struct Activations {
    /// Length of a column, a multiple of 32.
    k: usize,
    /// Signed bytes, `[n, k]`.
    q: Vec<u8>,
    /// `[n, k / 32]`.
    scale: Vec<f32>,
    /// `[n, k / 32, 2]`.
    sums: Vec<[i32; 2]>,
}

/// One column of [`Activations`], group by group of 32.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    /// Rounded activations, signed bytes.
    pub(crate) q: &'a [[u8; GROUP]],
    /// Their scales.
    pub(crate) scale: &'a [f32],
    /// Their sums by halves.
    pub(crate) sums: &'a [[i32; 2]],
}

impl Activations {
    /// Rounds `x`, `[n, k]`, in place of what was here.
    pub(crate) fn round(&mut self, ctx: &Ctx<'_>, x: &[f32], k: usize) {
        let groups = x.len() / GROUP;
        self.k = k;
        resize(&mut self.q, x.len(), 0);
        resize(&mut self.scale, groups, 0.0);
        resize(&mut self.sums, groups, [0; 2]);
        let q = SharedSlice::new(self.q.as_chunks_mut::<GROUP>().0);
        let (scale, sums) = (
            SharedSlice::new(&mut self.scale),
            SharedSlice::new(&mut self.sums),
        );
        let x = x.as_chunks::<GROUP>().0;
        let chunk = chunk_len(ctx.step, groups, 2 * GROUP);
        ctx.step.run(groups.div_ceil(chunk), &|i| {
            let (first, len) = (i * chunk, chunk.min(groups - i * chunk));
            // SAFETY: chunk numbers are handed out once, so parts are disjoint.
            let (q, scale, sums) = unsafe {
                (
                    q.part(first, len),
                    scale.part(first, len),
                    sums.part(first, len),
                )
            };
            ctx.arch.run(Round {
                x: &x[first..first + len],
                q,
                scale,
                sums,
            });
        });
    }

    /// Column `i`.
    #[inline(always)]
    pub(crate) fn column(&self, i: usize) -> Column<'_> {
        let groups = self.k / GROUP;
        Column {
            q: self.q[i * self.k..][..self.k].as_chunks().0,
            scale: &self.scale[i * groups..][..groups],
            sums: &self.sums[i * groups..][..groups],
        }
    }

    /// Bytes that `len` activations take.
    pub(crate) fn bytes_of(len: usize) -> usize {
        len + (4 + 8) * (len / GROUP)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.q.capacity() + 4 * self.scale.capacity() + 8 * self.sums.capacity()
    }
}

struct Round<'a> {
    x: &'a [[f32; GROUP]],
    q: &'a mut [[u8; GROUP]],
    scale: &'a mut [f32],
    sums: &'a mut [[i32; 2]],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let magnitude = s.splat_i32(i32::MAX);
        let out = self.q.iter_mut().zip(self.scale).zip(self.sums);
        for (x, ((q, scale), sums)) in self.x.iter().zip(out) {
            let halves = x.as_chunks::<LANES>().0;
            let x = [s.load(&halves[0]), s.load(&halves[1])];
            // As bit patterns, of which NaN and infinity are the greatest.
            let bits: [S::I; 2] = array!(s.to_bits(x[0]); h => s.and(s.to_bits(x[h]), magnitude));
            let amax = s
                .to_i32_array(s.max_i32(bits[0], bits[1]))
                .into_iter()
                .fold(0, i32::max);
            let amax = f32::from_bits(amax as u32);
            let inv = 127.0 / amax;
            if !amax.is_finite() || !inv.is_finite() {
                *q = [0; GROUP];
                *sums = [0; 2];
                *scale = if amax.is_finite() { 0.0 } else { f32::NAN };
                continue;
            }
            *scale = amax / 127.0;
            for (h, half) in q.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let rounded = s.round(s.mul(x[h], s.splat(inv)));
                sums[h] = s.to_i32_array(rounded).iter().sum();
                s.store_low_bytes(rounded, half);
            }
        }
    }
}
