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

/// Rounds groups, 16 at a time: what is one number for a group is a lane here.
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
        let out = self
            .q
            .chunks_mut(LANES)
            .zip(self.scale.chunks_mut(LANES))
            .zip(self.sums.chunks_mut(LANES));
        for (x, ((q, scale), sums)) in self.x.chunks(LANES).zip(out) {
            // As bit patterns, of which NaN and infinity are the greatest.
            let mut amax = [s.zero(); LANES];
            for (x, amax) in x.iter().zip(&mut amax) {
                let halves = x.as_chunks::<LANES>().0;
                let bits: [S::I; 2] = array!(magnitude; h =>
                    s.and(s.to_bits(s.load(&halves[h])), magnitude));
                *amax = s.from_bits(s.max_i32(bits[0], bits[1]));
            }
            let lanes = s.transpose(amax);
            let mut amax = s.to_bits(lanes[0]);
            for lane in &lanes[1..] {
                amax = s.max_i32(amax, s.to_bits(*lane));
            }
            let amax = s.from_bits(amax);
            let inv = s.to_array(s.div(s.splat(127.0), amax));
            let scales = s.to_array(s.div(amax, s.splat(127.0)));
            let amax = s.to_array(amax);

            let mut rounded = [[s.zero(); LANES]; 2];
            for (g, (x, q)) in x.iter().zip(&mut *q).enumerate() {
                let (halves, q) = (x.as_chunks::<LANES>().0, q.as_chunks_mut::<LANES>().0);
                for h in 0..2 {
                    let r = s.round(s.mul(s.load(&halves[h]), s.splat(inv[g])));
                    rounded[h][g] = s.from_bits(r);
                    s.store_low_bytes(r, &mut q[h]);
                }
            }
            let totals: [[i32; LANES]; 2] = array!([0; LANES]; h => {
                let lanes = s.transpose(rounded[h]);
                let mut total = s.to_bits(lanes[0]);
                for lane in &lanes[1..] {
                    total = s.add_i32(total, s.to_bits(*lane));
                }
                s.to_i32_array(total)
            });

            for (g, (scale, sums)) in scale.iter_mut().zip(sums).enumerate() {
                if amax[g].is_finite() && inv[g].is_finite() {
                    *scale = scales[g];
                    *sums = [totals[0][g], totals[1][g]];
                } else {
                    q[g] = [0; GROUP];
                    *sums = [0; 2];
                    *scale = if amax[g].is_finite() { 0.0 } else { f32::NAN };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zse_model::conformance::Rng;
    use zse_quant::contract::QuantizedColumn;

    use super::*;
    use crate::isa::{Arch, Isa};
    use crate::pool::Pool;

    #[test]
    fn rounded_as_the_contract_says() {
        let mut rng = Rng::new(4);
        for groups in [1, 15, 16, 17, 40] {
            let (n, k) = (1 + rng.below(3), groups * GROUP);
            let mut x: Vec<f32> = (0..n * k).map(|_| rng.normal()).collect();
            for x in x.chunks_exact_mut(GROUP) {
                let at = rng.below(GROUP);
                match rng.below(8) {
                    0 => x.fill(0.0),
                    1 => x.iter_mut().for_each(|x| *x *= 1e-40),
                    2 => x[at] = f32::NAN,
                    3 => x[at] = f32::NEG_INFINITY,
                    4 => x[at] *= 100.0,
                    _ => {}
                }
            }
            for isa in Isa::available() {
                let ctx = Ctx {
                    arch: Arch::of(isa).unwrap(),
                    step: &Pool::global().step(2),
                };
                let mut rounded = Activations::default();
                rounded.round(&ctx, &x, k);
                for (i, x) in x.chunks_exact(k).enumerate() {
                    let (got, expected) = (rounded.column(i), QuantizedColumn::new(x));
                    let expected = expected.blocks();
                    let q = got.q.as_flattened().iter().map(|&q| q as i8);
                    assert!(q.eq(expected.q.iter().copied()), "{isa} {groups}");
                    assert_eq!(got.sums.as_flattened(), expected.sums, "{isa} {groups}");
                    let bits = |x: &[f32]| -> Vec<u32> {
                        x.iter()
                            .map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() })
                            .collect()
                    };
                    assert_eq!(bits(got.scale), bits(expected.scale), "{isa} {groups}");
                }
            }
        }
    }
}
