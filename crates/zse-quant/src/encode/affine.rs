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

/// Scales of runs as multiples of a d.
#[derive(Clone, Copy)]
struct Rounded<const S: usize> {
    /// Error that they add.
    cost: [f32; S],
    /// The best offsets with them.
    offset: [f32; S],
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
        for round in 1..=ROUNDS {
            let is_last = round == ROUNDS;
            let (found, refitted) =
                self.descend::<L, N, S>(runs, &sums, start, &mut wanted, is_last);
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
        // A limit of 0 has one step, which is 0.
        let steps = |largest: f32| {
            let steps = tops(self.top).map(move |top| f16_scale(largest / top));
            steps.take(if largest == 0.0 { 1 } else { usize::MAX })
        };
        // Eight dmins side by side. Behind the last it is repeated: of equals the first is taken.
        let mut dmins = [F32x8::default(); MOST_TOPS.div_ceil(8)];
        let mut count = 0;
        for dmin in steps(-largest_offset) {
            dmins[count / 8].0[count % 8..].fill(dmin);
            count += 1;
        }
        // For each dmin the least cost, and the number of the first d that has it.
        let mut least = [(F32x8::splat(f32::INFINITY), F32x8::default()); MOST_TOPS.div_ceil(8)];
        let mut number = F32x8::default();
        for d in steps(largest_scale) {
            let rounded = self.round_scales(targets, d);
            for (dmins, (cost, first)) in dmins[..count.div_ceil(8)].iter().zip(&mut least) {
                let costs = self.rounding_costs(&rounded, &weights, *dmins);
                *first = cost.if_above(costs, number, *first);
                *cost = cost.if_above(costs, costs, *cost);
            }
            number += F32x8::splat(1.0);
        }
        let mut best = (f32::INFINITY, f32::INFINITY, 0.0);
        for (dmins, (cost, first)) in dmins.iter().zip(&least) {
            for k in 0..8 {
                let (cost, first) = (cost.0[k], first.0[k]);
                if cost < best.0 || cost == best.0 && first < best.1 {
                    best = (cost, first, dmins.0[k]);
                }
            }
        }
        let d = steps(largest_scale).nth(best.1 as usize);
        d.map_or((0.0, 0.0), |d| (d, best.2))
    }

    /// What comes of the two integers beside each run's wanted scale.
    #[inline(always)]
    fn round_scales<const S: usize>(&self, targets: &Targets<S>, d: f32) -> [Rounded<S>; 2] {
        let mut rounded = [Rounded {
            cost: [0.0; S],
            offset: [0.0; S],
        }; 2];
        let d = F32x8::splat(d);
        for i in 0..S / 8 {
            let load = |field: &[f32; S]| F32x8(field.as_chunks().0[i]);
            let (scale, curvature) = (load(&targets.scale), load(&targets.curvature));
            let (offset, mean_q) = (load(&targets.offset), load(&targets.mean_q));
            let exact = (scale * d.inverse()).clamp(0.0, self.top);
            let near = exact.round();
            let one = F32x8::splat(1.0);
            let other = near.if_above(exact, near - one, near + one);
            let integers = [near, other.clamp(0.0, self.top)];
            for (rounded, integer) in rounded.iter_mut().zip(integers) {
                let miss = d * integer - scale;
                rounded.cost.as_chunks_mut().0[i] = (curvature * (miss * miss)).0;
                rounded.offset.as_chunks_mut().0[i] = (offset - mean_q * miss).0;
            }
        }
        rounded
    }

    /// Error that all runs gain for each of eight dmins, offsets made multiples of them, with the
    /// better of the two scales.
    #[inline(always)]
    fn rounding_costs<const S: usize>(
        &self,
        rounded: &[Rounded<S>; 2],
        weights: &[f32; S],
        dmins: F32x8,
    ) -> F32x8 {
        let inverse = dmins.inverse();
        let mut sums = [F32x8::default(); 8];
        for j in 0..S {
            let mut costs = [F32x8::default(); 2];
            for (cost, rounded) in costs.iter_mut().zip(rounded) {
                let offset = F32x8::splat(rounded.offset[j]);
                let min = (F32x8::default() - offset * inverse).clamp(0.0, self.top);
                let miss = dmins * min.round() + offset;
                *cost = F32x8::splat(rounded.cost[j]) + F32x8::splat(weights[j]) * (miss * miss);
            }
            let [near, other] = costs;
            sums[j % 8] += near.if_above(other, other, near);
        }
        let [a, b, c, d, e, f, g, h] = sums;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
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
    /// become those found; and the best d and dmin for the levels that result, unless it `is_last`.
    #[inline(always)]
    fn descend<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        sums: &[(f32, f32); S],
        (d, dmin): (f32, f32),
        wanted: &mut Targets<S>,
        is_last: bool,
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
            if is_last {
                continue;
            }
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
        match is_last {
            true => (found, (d, dmin)),
            false => (found, normal.solve((d, dmin))),
        }
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
