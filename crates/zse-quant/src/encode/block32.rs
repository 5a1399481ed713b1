//! Searches for blocks of 32 that have f16 scales of their own.

use std::array::from_fn;

use super::fit::{Fits, Offset, Sample};
use super::lanes::F32x8;
use super::levels::Levels;
use super::superblock::{f16_nearest, f16_scale, largest};

/// 32 codes of four bits: the first 16 in low nibbles.
pub(super) fn halves(codes: &[u8; 32]) -> [u8; 16] {
    from_fn(|i| (codes[i] & 15) | ((codes[i + 16] & 15) << 4))
}

/// The f16 scale with the least error among the fits of a block, and codes.
#[inline(always)]
pub(super) fn search_scale<L: Levels>(block: Sample<32>, grid: &[F32x8]) -> (f32, [u8; 32]) {
    // Beside the fits, the weight of largest magnitude exactly at one of eight levels: nothing
    // is better where all weights are alike, and rounding to f16 makes the difference.
    let (low, high) = (F32x8::splat(L::LOW), F32x8::splat(L::HIGH));
    let outer = F32x8([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    let part = F32x8([1.0, 0.85, 0.7, 0.55, 1.0, 0.85, 0.7, 0.55]);
    let levels = L::nearest(part * (low + outer * (high - low)));
    let exact = F32x8::splat(largest(block.x)) * levels.inverse();
    let tried = [block.fit_scale::<L>(grid).scale, exact].map(|scales| {
        let scales = scales.map(f16_scale);
        let errors = block.errors::<L>(scales, F32x8::default());
        let best = errors.least();
        (errors.0[best], scales.0[best])
    });
    let (error, d) = if tried[1].0 < tried[0].0 {
        tried[1]
    } else {
        tried[0]
    };
    // Where weights are less than the least f16, levels without a 0 may add more than they save.
    let d = if error > block.energy() { 0.0 } else { d };
    (d, block.codes::<L>(d, 0.0))
}

/// The f16 scale and offset with the least error among the fits of a block, and codes.
#[inline(always)]
pub(super) fn search_affine<L: Levels>(
    block: Sample<32>,
    grid: &[(F32x8, f32)],
) -> (f32, f32, [u8; 32]) {
    let fits = block.fit_affine::<L>(grid, Offset::Any);
    // As in `search_scale`: the extremes at the ends of 4 numbers of steps, or 0 and an extreme.
    let (low, high) = block.extremes(-1.0);
    let base = low.min(0.0);
    let low = F32x8([low, low, low, low, base, base, base, base]);
    let steps = F32x8([0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
    let steps = F32x8::splat(L::HIGH) - steps;
    let exact = Fits {
        scale: (F32x8::splat(high) - low) / steps,
        offset: low,
        ..Fits::default()
    };
    let tried = [fits, exact].map(|fits| {
        let scales = fits.scale.map(f16_scale);
        // The best offset falls with the mean of q where rounding raised the scale.
        let offsets = fits.offset - fits.mean_q * (scales - fits.scale);
        let offsets = offsets.map(f16_nearest);
        let errors = block.errors::<L>(scales, offsets);
        let best = errors.least();
        (errors.0[best], scales.0[best], offsets.0[best])
    });
    let (_, d, m) = if tried[1].0 < tried[0].0 {
        tried[1]
    } else {
        tried[0]
    };
    (d, m, block.codes::<L>(d, m))
}
