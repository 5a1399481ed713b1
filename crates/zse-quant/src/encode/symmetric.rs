//! Superblocks without minima, `x ~ d * scale * q`: Q3_K, Q6_K, IQ4_XS.

use std::array::from_fn;

use super::fit::{Fits, Sample};
use super::lanes::{F32x8, round};
use super::levels::Levels;
use super::superblock::{ROUNDS, Starts, Targets, f16_scale, tops};

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
        let fits: [Fits; S] = from_fn(|j| runs[j].fit_scale::<L>(self.grid));
        let (low, high) = self.range;
        let targets = Targets::choose(&fits, -low);
        let mut best = Symmetric {
            d: 0.0,
            scales: [0.0; S],
            error: f32::INFINITY,
        };
        for start in self.starts(&targets).best() {
            let mut d = start;
            let mut wanted = targets.scale;
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
        debug_assert!(best.scales.iter().all(|s| (low..=high).contains(s)));
        (
            best,
            from_fn(|j| runs[j].codes::<L>(best.d * best.scales[j], 0.0)),
        )
    }

    /// Values of d worth following, by what rounding the wanted scales would cost.
    fn starts<const S: usize>(&self, targets: &Targets<S>) -> Starts<f32> {
        let (low, high) = self.range;
        let mut starts = Starts::new();
        for top in tops(-low).flat_map(|top| [-top, top - 1.0]) {
            let d = f16_scale(targets.largest_scale() / top);
            let (d, inverse) = (F32x8::splat(d), F32x8::splat(d).inverse());
            let mut cost = F32x8::default();
            let curvatures = targets.curvature.as_chunks().0;
            for (scale, curvature) in targets.scale.as_chunks().0.iter().zip(curvatures) {
                let scale = F32x8(*scale);
                let miss = d * (scale * inverse).clamp(low, high).round() - scale;
                cost += F32x8(*curvature) * (miss * miss);
            }
            starts.offer(cost.sum(), d.0[0]);
        }
        starts
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
