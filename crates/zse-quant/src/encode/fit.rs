//! Weighted least squares fits of one run of weights: `x ~ scale * q + offset`, q a level.
//!
//! For given levels the best scale and offset have a closed form; for a given scale and offset
//! the best levels are the nearest ones. Alternating the two falls to a local minimum (Lloyd's
//! algorithm), so it starts from eight places at once, one a lane, each the best of its column
//! of a grid.

use std::iter::once;

use super::lanes::{F32x8, inverse};
use super::levels::Levels;

/// Weights and how much an error in each counts.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a, const N: usize> {
    pub(super) x: &'a [f32; N],
    pub(super) w: &'a [f32; N],
}

/// Weighted sums over levels q: `w x q`, `w q q` and `w q`.
#[derive(Clone, Copy, Default)]
pub(super) struct Moments<T> {
    pub(super) xq: T,
    pub(super) qq: T,
    pub(super) q: T,
}

/// Which offsets a format can hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    Any,
    NotAbove0,
    NotBelow0,
}

/// Eight fits of one sample.
#[derive(Clone, Copy, Default)]
pub(super) struct Fits {
    pub(super) scale: F32x8,
    pub(super) offset: F32x8,
    /// Sum of `w q q`, less `w` times the squared mean of q where an offset was fitted: error
    /// that a unit change of the scale adds.
    pub(super) curvature: F32x8,
    /// Weighted mean of q, by which the best offset falls when the scale grows; 0 without offset.
    pub(super) mean_q: F32x8,
    /// `sum of w x x` less the error.
    pub(super) gain: F32x8,
}

impl Fits {
    /// Takes over the lanes of `other` that explain more of the sample, by more than noise: of
    /// equals the first stays, so grids begin with the rows whose scales are least.
    #[inline(always)]
    fn improve(&mut self, other: &Self) {
        let bar = self.gain * F32x8::splat(1.0 + 5e-7);
        let take = |new, old| other.gain.if_above(bar, new, old);
        *self = Self {
            scale: take(other.scale, self.scale),
            offset: take(other.offset, self.offset),
            curvature: take(other.curvature, self.curvature),
            mean_q: take(other.mean_q, self.mean_q),
            gain: take(other.gain, self.gain),
        };
    }
}

/// A grid for [`Sample::fit_affine`]: the same steps with each anchor.
pub(super) const fn anchored<const R: usize>(steps: F32x8, anchors: [f32; R]) -> [(F32x8, f32); R] {
    let mut grid = [(steps, 0.0); R];
    let mut i = 0;
    while i < R {
        grid[i].1 = anchors[i];
        i += 1;
    }
    grid
}

/// Variance of levels, relative to their mean square, that is no more than rounding noise.
const ALIKE: f32 = 1e-5;

/// Part of the mean importance from which a weight counts.
const COUNTS: f32 = 0.05;

/// Times that the best fit of each lane is improved by choosing levels anew.
const LLOYD_STEPS: usize = 2;

impl<const N: usize> Sample<'_, N> {
    /// Weighted squared error of each lane's scale and offset, each q the best level.
    #[inline(always)]
    pub(super) fn errors<L: Levels>(&self, scale: F32x8, offset: F32x8) -> F32x8 {
        let inverse = scale.inverse();
        let mut error = F32x8::default();
        for (x, w) in self.x.iter().zip(self.w) {
            let t = F32x8::splat(*x) - offset;
            let rest = t - scale * L::nearest(t * inverse);
            error += F32x8::splat(*w) * (rest * rest);
        }
        error.whole()
    }

    /// Weighted squared error of leaving out everything.
    #[inline(always)]
    pub(super) fn energy(&self) -> f32 {
        let mut energy = F32x8::default();
        for (x, w) in self.x.as_chunks().0.iter().zip(self.w.as_chunks().0) {
            energy += F32x8(*w) * (F32x8(*x) * F32x8(*x));
        }
        energy.sum()
    }

    /// Moments of the levels nearest to `(x - offset) * inverse`, lane by lane.
    #[inline(always)]
    fn lane_moments<L: Levels>(&self, inverse: F32x8, offset: F32x8) -> Moments<F32x8> {
        let mut sums = Moments::<F32x8>::default();
        for (x, w) in self.x.iter().zip(self.w) {
            let x = F32x8::splat(*x);
            let q = L::nearest((x - offset) * inverse);
            let wq = F32x8::splat(*w) * q;
            sums.xq += wq * x;
            sums.qq += wq * q;
            sums.q += wq;
        }
        Moments {
            xq: sums.xq.whole(),
            qq: sums.qq.whole(),
            q: sums.q.whole(),
        }
    }

    /// Moments of the best levels for one scale and offset.
    #[inline(always)]
    pub(super) fn moments<L: Levels>(&self, scale: f32, offset: f32) -> Moments<f32> {
        let (inverse, offset) = (F32x8::splat(inverse(scale)), F32x8::splat(offset));
        let mut sums = Moments::<F32x8>::default();
        for (x, w) in self.x.as_chunks().0.iter().zip(self.w.as_chunks().0) {
            let (x, w) = (F32x8(*x), F32x8(*w));
            let q = L::nearest((x - offset) * inverse);
            let wq = w * q;
            sums.xq += wq * x;
            sums.qq += wq * q;
            sums.q += wq;
        }
        Moments {
            xq: sums.xq.sum(),
            qq: sums.qq.sum(),
            q: sums.q.sum(),
        }
    }

    /// Codes of the best levels for a scale and offset.
    #[inline(always)]
    pub(super) fn codes<L: Levels>(&self, scale: f32, offset: f32) -> [u8; N] {
        let (inverse, offset) = (F32x8::splat(inverse(scale)), F32x8::splat(offset));
        let mut codes = [0; N];
        for (codes, x) in codes.as_chunks_mut().0.iter_mut().zip(self.x.as_chunks().0) {
            *codes = L::nearest((F32x8(*x) - offset) * inverse).0.map(L::code);
        }
        codes
    }

    /// The least and the greatest of the weights that count more than `bar`.
    #[inline(always)]
    pub(super) fn extremes(&self, bar: f32) -> (f32, f32) {
        let (mut low, mut high) = (F32x8::splat(f32::MAX), F32x8::splat(f32::MIN));
        for (x, w) in self.x.as_chunks().0.iter().zip(self.w.as_chunks().0) {
            let (x, counts) = (F32x8(*x), |x, other| {
                F32x8(*w).if_above(F32x8::splat(bar), x, other)
            });
            low = low.if_above(x, counts(x, low), low);
            high = x.if_above(high, counts(x, high), high);
        }
        (low.min(), high.max())
    }

    /// The range to fit to: all weights, and where that differs those that count, as an outlier
    /// without importance may be cut off.
    #[inline(always)]
    fn ranges(&self, sum_w: f32) -> impl Iterator<Item = (f32, f32)> {
        let all = self.extremes(-1.0);
        let counted = self.extremes(COUNTS * sum_w / N as f32);
        once(all).chain((counted != all).then_some(counted))
    }

    /// Weighted sums: of `w`, and of `w x`.
    #[inline(always)]
    pub(super) fn sums(&self) -> (f32, f32) {
        let (mut sw, mut sx) = (F32x8::default(), F32x8::default());
        for (x, w) in self.x.as_chunks().0.iter().zip(self.w.as_chunks().0) {
            sw += F32x8(*w);
            sx += F32x8(*w) * F32x8(*x);
        }
        (sw.sum(), sx.sum())
    }

    /// Fits `x ~ scale * q`. Each number of the grid is a level (or near it) that the weight of
    /// largest magnitude is to stand at, in the first choice of levels.
    #[inline(always)]
    pub(super) fn fit_scale<L: Levels>(&self, grid: &[F32x8]) -> Fits {
        let mut fits = Fits::default();
        for (low, high) in self.ranges(self.sums().0) {
            let unit = F32x8::splat(inverse(if high > -low { high } else { low }));
            for level in grid {
                let m = self.lane_moments::<L>(*level * unit, F32x8::default());
                fits.improve(&best_scale(m));
            }
        }
        for _ in 0..LLOYD_STEPS {
            let m = self.lane_moments::<L>(fits.scale.inverse(), F32x8::default());
            fits.improve(&best_scale(m));
        }
        fits
    }

    /// Fits `x ~ scale * q + offset`, levels being `0..=L::HIGH`. A row of the grid is
    /// `(steps, anchor)`: in the first choice of levels the range of x is that many steps long,
    /// and level 0 stands at its low end (anchor 0), the greatest level at its high end (1), or
    /// in proportion between.
    #[inline(always)]
    pub(super) fn fit_affine<L: Levels>(&self, grid: &[(F32x8, f32)], allowed: Offset) -> Fits {
        let (sum_w, sum_x) = self.sums();
        let (sw, mean_x) = (F32x8::splat(sum_w), F32x8::splat(sum_x / sum_w));
        let line = Line {
            sw,
            mean_x,
            allowed,
        };
        let zero = F32x8::default();
        // The offset alone, where it can serve.
        let level = match allowed {
            Offset::NotBelow0 => zero,
            _ => mean_x.clamp(f32::NEG_INFINITY, 0.0),
        };
        let mut fits = Fits {
            offset: level,
            gain: level * mean_x * sw,
            ..Fits::default()
        };
        for (low, high) in self.ranges(sum_w) {
            // Level 0 can be no higher than 0, and weights all alike need a step to stand on.
            let below_0 = allowed == Offset::NotAbove0 || low == high;
            let low = if below_0 { low.min(0.0) } else { low };
            let (low, range) = (F32x8::splat(low), F32x8::splat(high - low));
            for (steps, anchor) in grid {
                let step = range * steps.inverse();
                let slack = range - step * F32x8::splat(L::HIGH);
                let offset = low + slack * F32x8::splat(*anchor);
                fits.improve(&line.solve(self.lane_moments::<L>(step.inverse(), offset)));
            }
        }
        for _ in 0..LLOYD_STEPS {
            let m = self.lane_moments::<L>(fits.scale.inverse(), fits.offset);
            fits.improve(&line.solve(m));
        }
        fits
    }
}

/// The best scales for the levels that have these moments.
#[inline(always)]
fn best_scale(m: Moments<F32x8>) -> Fits {
    let scale = m.xq * m.qq.inverse();
    Fits {
        scale,
        gain: scale * m.xq,
        curvature: m.qq,
        ..Fits::default()
    }
}

/// What all lines `scale * q + offset` through one sample have in common.
struct Line {
    /// Sum of the importance.
    sw: F32x8,
    mean_x: F32x8,
    allowed: Offset,
}

impl Line {
    /// The best lines for the levels that have these moments.
    #[inline(always)]
    fn solve(&self, m: Moments<F32x8>) -> Fits {
        let (sw, mean_x, zero) = (self.sw, self.mean_x, F32x8::default());
        let mean_q = m.q / sw;
        let curvature = m.qq - m.q * mean_q;
        let covariance = m.xq - mean_x * m.q;
        let scale = covariance * curvature.inverse();
        let offset = mean_x - scale * mean_q;
        // How far the offset is on the forbidden side of 0.
        let excess = match self.allowed {
            Offset::Any => F32x8::splat(-1.0),
            Offset::NotAbove0 => offset,
            Offset::NotBelow0 => zero - offset,
        };
        // Levels that are all alike leave the split between scale and offset open.
        let alike = m.qq * F32x8::splat(ALIKE);
        let unfit = |no: F32x8, yes| excess.if_above(zero, no, alike.if_above(curvature, no, yes));
        let without = m.xq * m.qq.inverse();
        Fits {
            scale: unfit(without, scale),
            offset: unfit(zero, offset),
            gain: unfit(without * m.xq, mean_x * mean_x * sw + covariance * scale),
            curvature,
            mean_q,
        }
    }
}
