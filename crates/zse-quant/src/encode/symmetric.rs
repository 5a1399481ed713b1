//! Superblocks without minima, `x ~ d * scale * q`: Q3_K, Q6_K, IQ4_XS.

use super::fit::{Fits, Sample};
use super::lanes::{F32x8, round};
use super::levels::Levels;
use super::superblock::{MOST_RUNS, ROUNDS, constant, f16_scale, nearest_product, transposed};

/// How one type is searched.
pub(super) struct SymmetricSearch {
    /// For [`Sample::fit_scale`].
    pub(super) grid: &'static [F32x8],
    /// Least and greatest integer scale.
    pub(super) range: (f32, f32),
    /// Scales tried for a run whose scale would be `t`: `sign * (round(t) + step)`, steps in the
    /// direction in which t was rounded off.
    pub(super) neighbours: (F32x8, F32x8),
}

/// A scale, its first neighbours, and the same negated: for levels that are not symmetric.
pub(super) const BOTH_SIGNS: (F32x8, F32x8) = (
    F32x8([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]),
    F32x8([0.0, 1.0, -1.0, 2.0, 0.0, 1.0, -1.0, 2.0]),
);

/// A scale and its neighbours on both sides.
pub(super) const ONE_SIGN: (F32x8, F32x8) = (
    F32x8::splat(1.0),
    F32x8([0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0]),
);

/// Ratio of one value of d that is tried to the next.
const FINER: f32 = 0.99;

/// Least value of d that is tried, relative to the greatest: bounds the time where an outlier
/// does not count.
const FINEST: f32 = 1e-5;

/// The scales of a superblock.
#[derive(Clone, Copy)]
pub(super) struct Symmetric<const S: usize> {
    /// Exactly an f16.
    pub(super) d: f32,
    /// Integers.
    pub(super) scales: [f32; S],
    error: f32,
}

impl SymmetricSearch {
    /// The scales with the least weighted error found, and the codes that go with them.
    #[inline(always)]
    pub(super) fn run<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
    ) -> (Symmetric<S>, [[u8; N]; S]) {
        const { assert!(S <= MOST_RUNS && S.is_multiple_of(8)) }
        let (low, high) = self.range;
        let best = match constant(runs) {
            Some(x) => {
                let (d, scale) = nearest_product::<L>(x, low, high);
                let (scales, error) = ([scale; S], 0.0);
                Symmetric { d, scales, error }
            }
            None => self.search::<L, N, S>(runs),
        };
        debug_assert!(best.scales.iter().all(|s| (low..=high).contains(s)));
        let mut codes = [[0; N]; S];
        for (j, codes) in codes.iter_mut().enumerate() {
            *codes = runs[j].codes::<L>(best.d * best.scales[j], 0.0);
        }
        (best, codes)
    }

    /// Follows the most promising d to a local minimum.
    #[inline(always)]
    fn search<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
    ) -> Symmetric<S> {
        let mut fits = [Fits::default(); S];
        for (fits, run) in fits.iter_mut().zip(runs) {
            *fits = run.fit_scale::<L>(self.grid);
        }
        let mut best = Symmetric {
            d: 0.0,
            scales: [0.0; S],
            error: f32::INFINITY,
        };
        let mut d = self.start(&fits);
        let mut wanted = self.nearest_fits::<L, N, S>(runs, &fits, d);
        for round in 1..=ROUNDS {
            let is_last = round == ROUNDS;
            let (found, refitted) = self.descend::<L, N, S>(runs, d, &mut wanted, is_last);
            if found.error >= best.error {
                break;
            }
            best = found;
            if refitted == d {
                break;
            }
            d = refitted;
        }
        best
    }

    /// The d for which rounding the scales costs least.
    #[inline(always)]
    fn start<const S: usize>(&self, fits: &[Fits; S]) -> f32 {
        // The range of d: from cutting the largest scale a little short, where its run has other
        // fits the least of them, to leaving nearly half of the integers unused.
        let (mut least, mut most) = (0.0f32, 0.0f32);
        for fits in fits {
            let size = fits.scale.map(f32::abs);
            least = least.max(size.min());
            most = most.max(size.max());
        }
        let (low, _) = self.range;
        let least = least.max(most * FINEST);
        let (mut d, end) = (most / (0.6 * low), least / (1.06 * low));
        let mut abreast = [[Fits::default(); 8]; MOST_RUNS / 8];
        for (eight, fits) in abreast.iter_mut().zip(fits.as_chunks().0) {
            *eight = transposed(fits);
        }
        let mut best = (f32::INFINITY, 0.0);
        while d <= end && d < 0.0 {
            let candidate = f16_scale(d);
            let cost = self.rounding_cost(&abreast[..S / 8], candidate);
            if cost < best.0 {
                best = (cost, candidate);
            }
            d *= FINER;
        }
        best.1
    }

    /// Error, up to a constant, when each run takes its best fit, scales made multiples of d. The fits
    /// of each eight runs are [`transposed`].
    #[inline(always)]
    fn rounding_cost(&self, fits: &[[Fits; 8]], d: f32) -> f32 {
        let (low, high) = self.range;
        let (d, inverse) = (F32x8::splat(d), F32x8::splat(d).inverse());
        let mut total = F32x8::default();
        for eight in fits {
            let mut least = F32x8::splat(f32::INFINITY);
            for fits in eight {
                let miss = d * (fits.scale * inverse).clamp(low, high).round() - fits.scale;
                let cost = fits.curvature * (miss * miss) - fits.gain;
                least = least.if_above(cost, cost, least);
            }
            total += least;
        }
        total.sum()
    }

    /// The best for each run among its fits, their scales rounded to multiples of d.
    #[inline(always)]
    fn nearest_fits<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        fits: &[Fits; S],
        d: f32,
    ) -> [f32; S] {
        let (low, high) = self.range;
        let d = F32x8::splat(d);
        let mut nearest = [0.0; S];
        for ((nearest, run), fits) in nearest.iter_mut().zip(runs).zip(fits) {
            let scales = d * (fits.scale * d.inverse()).clamp(low, high).round();
            *nearest = scales.0[run.errors::<L>(scales, F32x8::default()).least()];
        }
        nearest
    }

    /// The best integer scale of each run given d and the scales wanted, which become those
    /// found; and the best d for the levels that result, unless it `is_last`.
    #[inline(always)]
    fn descend<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        d: f32,
        wanted: &mut [f32; S],
        is_last: bool,
    ) -> (Symmetric<S>, f32) {
        let (low, high) = self.range;
        let (sign, step) = self.neighbours;
        let inverse = F32x8::splat(d).inverse();
        let mut found = Symmetric {
            d,
            scales: [0.0; S],
            error: 0.0,
        };
        let (mut xq, mut qq) = (0.0, 0.0);
        for ((run, wanted), chosen) in runs.iter().zip(wanted).zip(&mut found.scales) {
            let exact = (F32x8::splat(*wanted) * inverse).clamp(low, high);
            let nearest = exact.round();
            let away = if exact.0[0] < nearest.0[0] { -1.0 } else { 1.0 };
            let tried = (sign * (nearest + step * F32x8::splat(away))).clamp(low, high);
            let errors = run.errors::<L>(F32x8::splat(d) * tried, F32x8::default());
            let lane = errors.least();
            *chosen = tried.0[lane];
            found.error += errors.0[lane];
            if is_last {
                continue;
            }
            *wanted = d * *chosen;
            let moments = run.moments::<L>(*wanted, 0.0);
            xq += *chosen * moments.xq;
            qq += *chosen * *chosen * moments.qq;
        }
        debug_assert!(found.scales.iter().all(|s| *s == round(*s)));
        (found, if qq > 0.0 { f16_scale(xq / qq) } else { d })
    }
}
