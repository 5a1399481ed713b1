//! What the searches over superblocks share. A superblock is `S` runs of `N` weights; each run
//! has an integer scale (and minimum), and all share an f16 scale of those.

use std::array::from_fn;

use super::fit::{Fits, Sample};
use super::lanes::{F32x8, round};
use super::levels::Levels;

/// Most times that the f16 scales are refitted.
pub(super) const ROUNDS: usize = 2;

/// Runs of a superblock, at most.
pub(super) const MOST_RUNS: usize = 16;

/// Relative difference of two sums that says nothing.
const ROUNDING_NOISE: f64 = 1e-6;

/// The scale and offset that each run would take, and what it costs to miss them.
#[derive(Clone, Copy)]
pub(super) struct Targets<const S: usize> {
    pub(super) scale: [f32; S],
    pub(super) offset: [f32; S],
    /// See [`Fits`].
    pub(super) curvature: [f32; S],
    /// See [`Fits`].
    pub(super) mean_q: [f32; S],
}

impl<const S: usize> Targets<S> {
    /// The scale of largest magnitude.
    pub(super) fn largest_scale(&self) -> f32 {
        largest(&self.scale)
    }

    /// The offset of largest magnitude.
    pub(super) fn largest_offset(&self) -> f32 {
        largest(&self.offset)
    }

    /// Chooses a fit for each run.
    ///
    /// The run with the largest scale decides how finely all scales are represented, and often
    /// has other fits that are nearly as good with a smaller one (a lone outlier stands at one
    /// step as well as at three). So a limit on scales is lowered step by step, and the choice
    /// kept that costs least together with the rounding of the scales to `1/steps` of the
    /// largest.
    #[inline(always)]
    pub(super) fn choose(fits: &[Fits; S], steps: f32) -> Self {
        const { assert!(S <= MOST_RUNS && S.is_multiple_of(8)) }
        let mut abreast = [[Fits::default(); 8]; MOST_RUNS / 8];
        for (eight, fits) in abreast.iter_mut().zip(fits.as_chunks().0) {
            *eight = transposed(fits);
        }
        let mut chosen = [0; S];
        let (mut limit, mut least) = (f32::INFINITY, f64::INFINITY);
        for _ in 0..S {
            let Some(lanes) = best_lanes::<S>(&abreast, limit) else {
                break;
            };
            let (mut cost, mut curvature, mut largest) = (0f64, 0.0, 0f32);
            for (lane, fits) in lanes.iter().zip(fits) {
                cost -= f64::from(fits.gain.0[*lane]);
                curvature += fits.curvature.0[*lane];
                largest = largest.max(fits.scale.0[*lane].abs());
            }
            // A rounded number has a variance of a twelfth of its squared step.
            cost += f64::from(curvature * (largest / steps).powi(2) / 12.0);
            // Of equals, the smaller scale is the finer.
            if cost <= least + ROUNDING_NOISE * least.abs() {
                (least, chosen) = (cost, lanes);
            }
            limit = largest * 0.999;
        }
        Self::of(fits, chosen)
    }

    /// One lane of the fits of each run.
    #[inline(always)]
    pub(super) fn of(fits: &[Fits; S], lanes: [usize; S]) -> Self {
        let take = |field: fn(&Fits) -> &F32x8| from_fn(|j| field(&fits[j]).0[lanes[j]]);
        Self {
            scale: take(|f| &f.scale),
            offset: take(|f| &f.offset),
            curvature: take(|f| &f.curvature),
            mean_q: take(|f| &f.mean_q),
        }
    }
}

/// The best fit of each run with a scale up to `limit`; none if a run has no such fit. The fits of each
/// eight runs are [`transposed`].
#[inline(always)]
fn best_lanes<const S: usize>(abreast: &[[Fits; 8]], limit: f32) -> Option<[usize; S]> {
    let mut lanes = [0; S];
    let limit = F32x8::splat(limit);
    for (lanes, eight) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(abreast) {
        let none = F32x8::splat(f32::NEG_INFINITY);
        let (mut gain, mut best, mut number) = (none, F32x8::splat(-1.0), F32x8::default());
        for fits in eight {
            let allowed = fits.scale.map(f32::abs).if_above(limit, none, fits.gain);
            best = allowed.if_above(gain, number, best);
            gain = allowed.if_above(gain, allowed, gain);
            number += F32x8::splat(1.0);
        }
        if best.min() < 0.0 {
            return None;
        }
        *lanes = best.0.map(|lane| lane as usize);
    }
    Some(lanes)
}

/// Eight runs side by side: lane j of fit k is lane k of fit j. Without offsets.
#[inline(always)]
pub(super) fn transposed(runs: &[Fits; 8]) -> [Fits; 8] {
    let mut fits = [Fits::default(); 8];
    for (k, fits) in fits.iter_mut().enumerate() {
        for (j, run) in runs.iter().enumerate() {
            fits.scale.0[j] = run.scale.0[k];
            fits.curvature.0[j] = run.curvature.0[k];
            fits.gain.0[j] = run.gain.0[k];
        }
    }
    fits
}

/// The number of largest magnitude, with its sign.
pub(super) fn largest(numbers: &[f32]) -> f32 {
    numbers
        .iter()
        .fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m })
}

/// The f16 nearest to a scale, which neither vanishes nor overflows; 0 stays 0.
pub(super) fn f16_scale(scale: f32) -> f32 {
    let least = half::f16::from_bits(1).to_f32();
    match scale == 0.0 {
        true => 0.0,
        false => f16_nearest(scale.abs().max(least).copysign(scale)),
    }
}

/// The nearest finite f16.
pub(super) fn f16_nearest(x: f32) -> f32 {
    let most = half::f16::MAX.to_f32();
    half::f16::from_f32(x.clamp(-most, most)).to_f32()
}

/// How many [`tops`] there are, at most.
pub(super) const MOST_TOPS: usize = 14;

/// Integers that the largest scale is tried at, `top` being the greatest that there is: over it,
/// the largest scale is cut short and all others are represented more finely. Integers, so that
/// a lone scale loses nothing but the rounding to f16.
pub(super) fn tops(top: f32) -> impl Iterator<Item = f32> + Clone {
    let stride = round(top / 42.0).max(1.0);
    (-2..MOST_TOPS as i32 - 2)
        .map(move |i| top - stride * i as f32)
        .take_while(move |t| *t > 0.6 * top)
}

/// The f16 `d` and integer scale whose product with a level comes nearest to `x`. The smaller
/// halves of scales and levels are left out, being no finer than the greater ones.
pub(super) fn nearest_product<L: Levels>(x: f32, low: f32, high: f32) -> (f32, f32) {
    let outer = |low: f32, high: f32| {
        let half = 0.5 * high.max(-low);
        (low as i32..=high as i32)
            .map(|i| i as f32)
            .filter(move |i| i.abs() >= half)
    };
    let mut best = (f32::INFINITY, (0.0, 0.0));
    for level in outer(L::LOW, L::HIGH).map(|t| L::nearest(F32x8::splat(t)).0[0]) {
        for scale in outer(low, high) {
            let d = f16_scale(x / (scale * level));
            let miss = (d * scale * level - x).abs();
            if miss < best.0 {
                best = (miss, (d, scale));
            }
        }
    }
    best.1
}

/// The weight that all of a superblock are, if they are.
pub(super) fn constant<const N: usize, const S: usize>(runs: &[Sample<N>; S]) -> Option<f32> {
    let first = runs[0].x[0];
    runs.iter()
        .all(|run| run.x.iter().all(|x| *x == first))
        .then_some(first)
}
