//! Superblocks with minima, `x ~ d * scale * q - dmin * min`: Q2_K, Q4_K, Q5_K.

use std::array::from_fn;

use super::fit::{Fits, Offset, Sample};
use super::lanes::F32x8;
use super::levels::{Integers, Levels};
use super::superblock::{MOST_TOPS, ROUNDS, Targets, constant, f16_scale, nearest_product, tops};

/// How one type is searched.
pub(super) struct AffineSearch {
    /// For [`Sample::fit_affine`].
    pub(super) grid: &'static [(F32x8, f32)],
    /// Greatest integer scale and minimum.
    pub(super) top: f32,
}

/// Scales tried for a run: integers off the nearest, in the direction of rounding.
const SCALE_STEPS: F32x8 = F32x8([0.0, 0.0, 1.0, 1.0, -1.0, -1.0, 2.0, 2.0]);

/// The scales and minima of a superblock.
#[derive(Clone, Copy)]
pub(super) struct Affine<const S: usize> {
    /// Exactly an f16.
    pub(super) d: f32,
    /// Exactly an f16; negative where all weights are positive.
    pub(super) dmin: f32,
    /// Integers.
    pub(super) scales: [f32; S],
    /// Integers.
    pub(super) mins: [f32; S],
    error: f32,
}

impl AffineSearch {
    /// The scales with the least weighted error found, and the codes that go with them.
    #[inline(always)]
    pub(super) fn run<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
    ) -> (Affine<S>, [[u8; N]; S]) {
        let best = match constant(runs) {
            Some(x) => self.constant::<L, S>(x),
            None => self.search::<L, N, S>(runs),
        };
        let mut codes = [[0; N]; S];
        for (j, codes) in codes.iter_mut().enumerate() {
            *codes = runs[j].codes::<L>(best.d * best.scales[j], -(best.dmin * best.mins[j]));
        }
        (best, codes)
    }

    /// All weights `x`: a product where it is positive, a minimum where it is negative.
    fn constant<L: Levels, const S: usize>(&self, x: f32) -> Affine<S> {
        let (mut d, mut scale, mut dmin, mut min) = (0.0, 0.0, 0.0, 0.0);
        if x > 0.0 {
            (d, scale) = nearest_product::<L>(x, 0.0, self.top);
        } else {
            (dmin, min) = nearest_product::<Integers<1, 1>>(-x, 0.0, self.top);
        }
        let (scales, mins, error) = ([scale; S], [min; S], 0.0);
        Affine {
            d,
            dmin,
            scales,
            mins,
            error,
        }
    }

    /// Follows the most promising d and dmin to a local minimum. (To follow three takes twice the
    /// time, for 0.2 to 3% of the squared error.)
    #[inline(always)]
    fn search<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
    ) -> Affine<S> {
        let positive = runs.iter().flat_map(|run| run.x).all(|x| *x >= 0.0);
        let allowed = if positive {
            Offset::NotBelow0
        } else {
            Offset::NotAbove0
        };
        let mut fits = [Fits::default(); S];
        let mut sums = [(0.0, 0.0); S];
        for (j, run) in runs.iter().enumerate() {
            fits[j] = run.fit_affine::<L>(self.grid, allowed);
            sums[j] = run.sums();
        }
        let targets = Targets::choose(&fits, self.top);
        let mut best = Affine {
            d: 0.0,
            dmin: 0.0,
            scales: [0.0; S],
            mins: [0.0; S],
            error: f32::INFINITY,
        };
        let mut start = self.start(&targets, &sums);
        let mut wanted = self.nearest_fits::<L, N, S>(runs, &fits, start);
        for _ in 0..ROUNDS {
            let (found, refitted) = self.descend::<L, N, S>(runs, &sums, start, &mut wanted);
            if found.error >= best.error {
                break;
            }
            best = found;
            if refitted == start {
                break;
            }
            start = refitted;
        }
        best
    }

    /// The d and dmin for which rounding the wanted scales and offsets costs least.
    #[inline(always)]
    fn start<const S: usize>(&self, targets: &Targets<S>, sums: &[(f32, f32); S]) -> (f32, f32) {
        let (largest_scale, largest_offset) = (targets.largest_scale(), targets.largest_offset());
        let weights: [f32; S] = from_fn(|j| sums[j].0);
        let mut best = (f32::INFINITY, (0.0, 0.0));
        // A limit of 0 has one step, which is 0.
        let steps = |largest: f32| {
            let steps = tops(self.top).map(move |top| f16_scale(largest / top));
            steps.take(if largest == 0.0 { 1 } else { usize::MAX })
        };
        let mut dmins = [0.0; MOST_TOPS];
        let mut count = 0;
        for dmin in steps(-largest_offset) {
            dmins[count] = dmin;
            count += 1;
        }
        for d in steps(largest_scale) {
            for dmin in &dmins[..count] {
                let mut cost = F32x8::default();
                for i in 0..S / 8 {
                    cost += self.rounding_cost(targets, &weights, i, (d, *dmin));
                }
                let cost = cost.sum();
                if cost < best.0 {
                    best = (cost, (d, *dmin));
                }
            }
        }
        best.1
    }

    /// Error that eight runs from `8 i` gain when scales and offsets become integers, the better
    /// of the two scales beside the wanted one.
    #[inline(always)]
    fn rounding_cost<const S: usize>(
        &self,
        targets: &Targets<S>,
        weights: &[f32; S],
        i: usize,
        (d, dmin): (f32, f32),
    ) -> F32x8 {
        let load = |field: &[f32; S]| F32x8(field.as_chunks().0[i]);
        let (scale, curvature) = (load(&targets.scale), load(&targets.curvature));
        let (offset, weights) = (load(&targets.offset), load(weights));
        let mean_q = load(&targets.mean_q);
        let (d, dmin) = (F32x8::splat(d), F32x8::splat(dmin));
        let (inverse_d, inverse_dmin) = (d.inverse(), dmin.inverse());
        let exact = (scale * inverse_d).clamp(0.0, self.top);
        let near = exact.round();
        let other = near.if_above(exact, near - F32x8::splat(1.0), near + F32x8::splat(1.0));
        let mut costs = [F32x8::default(); 2];
        for (cost, integer) in costs.iter_mut().zip([near, other.clamp(0.0, self.top)]) {
            let miss = d * integer - scale;
            let offset = offset - mean_q * miss;
            let min = (F32x8::default() - offset * inverse_dmin).clamp(0.0, self.top);
            let offset_miss = dmin * min.round() + offset;
            *cost = curvature * (miss * miss) + weights * (offset_miss * offset_miss);
        }
        let [near, other] = costs;
        near.if_above(other, other, near)
    }

    /// The best for each run among its fits, rounded to multiples of d and dmin.
    #[inline(always)]
    fn nearest_fits<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        fits: &[Fits; S],
        (d, dmin): (f32, f32),
    ) -> Targets<S> {
        let (d, dmin) = (F32x8::splat(d), F32x8::splat(dmin));
        let mut lanes = [0; S];
        let mut fits = *fits;
        for ((lane, fits), run) in lanes.iter_mut().zip(&mut fits).zip(runs) {
            let scale = d * (fits.scale * d.inverse()).clamp(0.0, self.top).round();
            let offset = fits.offset - fits.mean_q * (scale - fits.scale);
            fits.offset = dmin * (offset * dmin.inverse()).clamp(-self.top, 0.0).round();
            fits.scale = scale;
            *lane = run.errors::<L>(fits.scale, fits.offset).least();
        }
        Targets::of(&fits, lanes)
    }

    /// The best integer scale and minimum of each run given d and dmin, near those wanted, which
    /// become those found; and the best d and dmin for the levels that result.
    #[inline(always)]
    fn descend<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        sums: &[(f32, f32); S],
        (d, dmin): (f32, f32),
        wanted: &mut Targets<S>,
    ) -> (Affine<S>, (f32, f32)) {
        let (inverse_d, inverse_dmin) = (F32x8::splat(d).inverse(), F32x8::splat(dmin).inverse());
        let mut found = Affine {
            d,
            dmin,
            scales: [0.0; S],
            mins: [0.0; S],
            error: 0.0,
        };
        let mut normal = NormalEquations::default();
        for (j, run) in runs.iter().enumerate() {
            let exact = (F32x8::splat(wanted.scale[j]) * inverse_d).clamp(0.0, self.top);
            let nearest = exact.round();
            let away = if exact.0[0] < nearest.0[0] { -1.0 } else { 1.0 };
            let scales = (nearest + SCALE_STEPS * F32x8::splat(away)).clamp(0.0, self.top);
            let scale = F32x8::splat(d) * scales;
            // The best offset falls with the mean of q when the scale grows.
            let miss = scale - F32x8::splat(wanted.scale[j]);
            let offset = F32x8::splat(wanted.mean_q[j]) * miss - F32x8::splat(wanted.offset[j]);
            let exact = (offset * inverse_dmin).clamp(0.0, self.top);
            // Rounded to nearest in even lanes, the other way in odd ones.
            let mut mins = exact.round();
            for k in [1, 3, 5, 7] {
                mins.0[k] += if exact.0[k] < mins.0[k] { -1.0 } else { 1.0 };
            }
            let mins = mins.clamp(0.0, self.top);
            let offset = F32x8::default() - F32x8::splat(dmin) * mins;

            let errors = run.errors::<L>(scale, offset);
            let lane = errors.least();
            (found.scales[j], found.mins[j]) = (scales.0[lane], mins.0[lane]);
            found.error += errors.0[lane];
            let moments = run.moments::<L>(scale.0[lane], offset.0[lane]);
            (wanted.scale[j], wanted.offset[j]) = (scale.0[lane], offset.0[lane]);
            wanted.mean_q[j] = moments.q / sums[j].0;
            let (a, b) = (scales.0[lane], -mins.0[lane]);
            normal.aa += a * a * moments.qq;
            normal.ab += a * b * moments.q;
            normal.bb += b * b * sums[j].0;
            normal.ax += a * moments.xq;
            normal.bx += b * sums[j].1;
        }
        (found, normal.solve((d, dmin)))
    }
}

/// Least squares for `x ~ d * a + dmin * b`: sums of products.
#[derive(Default)]
struct NormalEquations {
    aa: f32,
    ab: f32,
    bb: f32,
    ax: f32,
    bx: f32,
}

impl NormalEquations {
    /// The best `(d, dmin)` as f16, each keeping its sign; as they were where undetermined.
    fn solve(&self, (d, dmin): (f32, f32)) -> (f32, f32) {
        let determinant = self.aa * self.bb - self.ab * self.ab;
        let (new_d, new_dmin) = if determinant > 1e-6 * self.aa * self.bb {
            (
                (self.ax * self.bb - self.bx * self.ab) / determinant,
                (self.bx * self.aa - self.ax * self.ab) / determinant,
            )
        } else if self.aa > 0.0 {
            ((self.ax - dmin * self.ab) / self.aa, dmin)
        } else if self.bb > 0.0 {
            (d, self.bx / self.bb)
        } else {
            (d, dmin)
        };
        let keep_sign = |new: f32, old: f32| if new * old > 0.0 { f16_scale(new) } else { old };
        (keep_sign(new_d, d), keep_sign(new_dmin, dmin))
    }
}
