//! Superblocks without minima, `x ~ d * scale * q`: Q3_K, Q6_K, IQ4_XS.

use std::array::from_fn;

use super::fit::{Fits, Sample};
use super::lanes::{F32x8, round};
use super::levels::Levels;
use super::superblock::{ROUNDS, Starts, constant, f16_scale, nearest_product};

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

/// Values of d of which the best is taken.
const NEIGHBOURS: usize = 4;

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
    pub(super) fn run<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
    ) -> (Symmetric<S>, [[u8; N]; S]) {
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
        let codes = |j: usize| runs[j].codes::<L>(best.d * best.scales[j], 0.0);
        (best, from_fn(codes))
    }

    /// Follows the most promising values of d.
    fn search<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
    ) -> Symmetric<S> {
        let fits: [Fits; S] = from_fn(|j| runs[j].fit_scale::<L>(self.grid));
        let mut best = Symmetric {
            d: 0.0,
            scales: [0.0; S],
            error: f32::INFINITY,
        };
        for start in self.starts(&fits).best() {
            let mut d = start;
            let mut wanted = self.nearest_fits::<L, N, S>(runs, &fits, d);
            let mut last = f32::INFINITY;
            for _ in 0..ROUNDS {
                let (found, refitted) = self.descend::<L, N, S>(runs, d, &mut wanted);
                if found.error < best.error {
                    best = found;
                }
                if found.error >= last || refitted == d {
                    break;
                }
                (last, d) = (found.error, refitted);
            }
        }
        best
    }

    /// Values of d worth following: the best of each few neighbours, so that they lead to
    /// different ends.
    fn starts<const S: usize>(&self, fits: &[Fits; S]) -> Starts<f32> {
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
        let mut starts = Starts::new();
        while d <= end && d < 0.0 {
            let mut best = (f32::INFINITY, d);
            for _ in 0..NEIGHBOURS {
                let candidate = f16_scale(d);
                let cost = self.rounding_cost(fits, candidate);
                if cost < best.0 {
                    best = (cost, candidate);
                }
                d *= FINER;
            }
            starts.offer(best.0, best.1);
        }
        starts
    }

    /// Error, up to a constant, when each run takes its best fit, scales made multiples of d.
    #[inline(always)]
    fn rounding_cost<const S: usize>(&self, fits: &[Fits; S], d: f32) -> f32 {
        let (low, high) = self.range;
        let (d, inverse) = (F32x8::splat(d), F32x8::splat(d).inverse());
        let mut total = 0.0;
        for fits in fits {
            let miss = d * (fits.scale * inverse).clamp(low, high).round() - fits.scale;
            let cost = fits.curvature * (miss * miss) - fits.gain;
            total += cost.min();
        }
        total
    }

    /// The best for each run among its fits, their scales rounded to multiples of d.
    fn nearest_fits<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        fits: &[Fits; S],
        d: f32,
    ) -> [f32; S] {
        let (low, high) = self.range;
        let d = F32x8::splat(d);
        from_fn(|j| {
            let scales = d * (fits[j].scale * d.inverse()).clamp(low, high).round();
            scales.0[runs[j].errors::<L>(scales, F32x8::default()).least()]
        })
    }

    /// The best integer scale of each run given d and the scales wanted, which become those
    /// found; and the best d for the levels that result.
    fn descend<L: Levels, const N: usize, const S: usize>(
        &self,
        runs: &[Sample<N>; S],
        d: f32,
        wanted: &mut [f32; S],
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
            *wanted = d * *chosen;
            found.error += errors.0[lane];
            let moments = run.moments::<L>(*wanted, 0.0);
            xq += *chosen * moments.xq;
            qq += *chosen * *chosen * moments.qq;
        }
        debug_assert!(found.scales.iter().all(|s| *s == round(*s)));
        (found, if qq > 0.0 { f16_scale(xq / qq) } else { d })
    }
}
