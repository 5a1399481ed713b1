//! Activations rounded to 8 bits for products with quantized weights, by the contract of
//! [`zse_quant::contract`].

use zse_quant::contract::GROUP;

use crate::par::{SharedSlice, chunk_len};
use crate::simd::{Kernel, LANES, Simd, array};

use super::{Ctx, resize};

/// Columns that lie beside each other, group by group.
pub(crate) const PANEL: usize = 16;

/// 32 activations of a column, rounded.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Group {
    /// Signed bytes.
    pub(crate) q: [u8; GROUP],
    /// What they are multiples of.
    pub(crate) scale: f32,
    /// Their sum.
    pub(crate) total: f32,
    /// Their sums by halves.
    pub(crate) sums: [f32; 2],
}

impl Group {
    pub(crate) const ZERO: Self = Self {
        q: [0; GROUP],
        scale: 0.0,
        total: 0.0,
        sums: [0.0; 2],
    };
}

/// Columns of activations as the contract rounds them.
#[derive(Default)]
pub(crate) struct Activations {
    /// Groups of a column.
    groups: usize,
    /// By panel of [`PANEL`] columns (the last may have fewer), then group, then column.
    panels: Vec<Group>,
}

/// One column of [`Activations`].
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    /// From its first group on.
    panel: &'a [Group],
    /// Columns of its panel.
    stride: usize,
}

impl<'a> Column<'a> {
    /// Activations `32 i ..`.
    #[inline(always)]
    pub(crate) fn group(self, i: usize) -> &'a Group {
        &self.panel[i * self.stride]
    }
}

impl Activations {
    /// Rounds `x`, `[n, k]`, in place of what was here.
    pub(crate) fn round(&mut self, ctx: &Ctx<'_>, x: &[f32], k: usize) {
        self.groups = k / GROUP;
        let x = x.as_chunks::<GROUP>().0;
        resize(&mut self.panels, x.len(), Group::ZERO);
        let (groups, n) = (self.groups, x.len() / self.groups);
        let to = SharedSlice::new(&mut self.panels);
        let chunk = chunk_len(ctx.step, x.len(), 2 * GROUP);
        ctx.step.run(x.len().div_ceil(chunk), &|i| {
            let (start, end) = (i * chunk, x.len().min((i + 1) * chunk));
            let mut rounded = [Group::ZERO; LANES];
            for first in (start..end).step_by(LANES) {
                let rounded = &mut rounded[..LANES.min(end - first)];
                ctx.arch.run(Round {
                    x: &x[first..][..rounded.len()],
                    to: rounded,
                });
                for (i, group) in (first..).zip(rounded) {
                    let (panel, stride) = place(n, groups, i / groups);
                    // SAFETY: chunk numbers are handed out once, and no two groups of columns
                    // have the same place.
                    let to = unsafe { to.part(panel + i % groups * stride, 1) };
                    to[0] = *group;
                }
            }
        });
    }

    /// Columns.
    fn columns(&self) -> usize {
        self.panels.len() / self.groups
    }

    /// Column `i`.
    #[inline(always)]
    pub(crate) fn column(&self, i: usize) -> Column<'_> {
        let (first, stride) = place(self.columns(), self.groups, i);
        Column {
            panel: &self.panels[first..],
            stride,
        }
    }

    /// Group by group, `columns` beside each other, if they lie so.
    #[inline(always)]
    pub(crate) fn panel(&self, columns: &[u32; PANEL]) -> Option<&[[Group; PANEL]]> {
        let first = columns[0] as usize;
        let follow = (first as u32..)
            .zip(columns)
            .all(|(i, &column)| i == column);
        (follow && first.is_multiple_of(PANEL)).then(|| {
            let panel = &self.panels[first * self.groups..][..PANEL * self.groups];
            panel.as_chunks().0
        })
    }

    /// Bytes that `len` activations take.
    pub(crate) fn bytes_of(len: usize) -> usize {
        size_of::<Group>() * (len / GROUP)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Group>() * self.panels.capacity()
    }
}

/// Where the first group of column `i` of `n` is, and how far the next is from it.
#[inline(always)]
fn place(n: usize, groups: usize, i: usize) -> (usize, usize) {
    let lane = i % PANEL;
    let first = i - lane;
    (first * groups + lane, PANEL.min(n - first))
}

/// Rounds up to 16 groups: what is one number for a group is a lane here.
struct Round<'a> {
    x: &'a [[f32; GROUP]],
    to: &'a mut [Group],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, to } = self;
        let magnitude = s.splat_i32(i32::MAX);
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
        for (g, (x, to)) in x.iter().zip(&mut *to).enumerate() {
            let (halves, q) = (x.as_chunks::<LANES>().0, to.q.as_chunks_mut::<LANES>().0);
            for h in 0..2 {
                let r = s.round(s.mul(s.load(&halves[h]), s.splat(inv[g])));
                rounded[h][g] = s.from_bits(r);
                s.store_low_bytes(r, &mut q[h]);
            }
        }
        let totals: [[f32; LANES]; 2] = array!([0.0; LANES]; h => {
            let lanes = s.transpose(rounded[h]);
            let mut total = s.to_bits(lanes[0]);
            for lane in &lanes[1..] {
                total = s.add_i32(total, s.to_bits(*lane));
            }
            s.to_array(s.to_f32(total))
        });

        for (g, to) in to.iter_mut().enumerate() {
            if amax[g].is_finite() && inv[g].is_finite() {
                to.scale = scales[g];
                to.sums = [totals[0][g], totals[1][g]];
            } else {
                to.q = [0; GROUP];
                to.sums = [0.0; 2];
                to.scale = if amax[g].is_finite() { 0.0 } else { f32::NAN };
            }
            to.total = to.sums[0] + to.sums[1];
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
            let (n, k) = (1 + rng.below(40), groups * GROUP);
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
                    let got: Vec<Group> = (0..groups).map(|g| *got.group(g)).collect();
                    let q = got.iter().flat_map(|got| got.q).map(|q| q as i8);
                    assert!(q.eq(expected.q.iter().copied()), "{isa} {groups}");
                    let sums = got.iter().flat_map(|got| got.sums);
                    let expected_sums = expected.sums.iter().map(|&sum| sum as f32);
                    assert!(sums.eq(expected_sums), "{isa} {groups}");
                    let totals = expected.sums.chunks(2).map(|s| (s[0] + s[1]) as f32);
                    assert!(totals.eq(got.iter().map(|got| got.total)), "{isa} {groups}");
                    let scale: Vec<f32> = got.iter().map(|got| got.scale).collect();
                    let bits = |x: &[f32]| -> Vec<u32> {
                        x.iter()
                            .map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() })
                            .collect()
                    };
                    assert_eq!(bits(&scale), bits(expected.scale), "{isa} {groups}");
                }
            }
        }
    }
}
