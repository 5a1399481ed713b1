//! Rows cut in blocks, with the weight of each error.

use std::array::from_fn;

use super::fit::Sample;
use crate::block::{Layout, blocks_mut};

/// Encodes the blocks of one row, each from its values alone.
pub(super) fn round_blocks<B: Layout, const LEN: usize>(
    row: &[f32],
    dst: &mut [u8],
    encode: impl Fn(&[f32; LEN]) -> B,
) {
    const { assert!(B::LEN == LEN) }
    for (block, x) in blocks_mut::<B>(dst).iter_mut().zip(row.as_chunks().0) {
        *block = encode(x);
    }
}

/// Encodes the blocks of one row, each from its values and how much an error in each counts.
pub(super) fn weighted_blocks<B: Layout, const LEN: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
    encode: impl Fn(&[f32; LEN], &[f32; LEN]) -> B,
) {
    for (block, x, w) in weighted(row, importance, dst) {
        *block = encode(x, &w);
    }
}

/// The blocks of one row, their values, and how much an error in each counts.
///
/// Importance is scaled so that its greatest is 1 in each block. A block without any counts all
/// its errors alike.
pub(super) fn weighted<'a, B: Layout + 'a, const LEN: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a mut B, &'a [f32; LEN], [f32; LEN])> {
    const { assert!(B::LEN == LEN) }
    let importance = importance.map(|i| i.as_chunks().0);
    let blocks = blocks_mut(dst).iter_mut().zip(row.as_chunks().0);
    blocks.enumerate().map(move |(i, (block, x))| {
        let w = importance.map_or([1.0; LEN], |importance| relative_block(&importance[i]));
        (block, x, w)
    })
}

/// Importance over its maximum. Values without importance get so little that it only decides
/// among encodings that are otherwise alike.
fn relative_block<const LEN: usize>(importance: &[f32; LEN]) -> [f32; LEN] {
    let most = importance.iter().fold(0.0, |m: f32, w| m.max(*w));
    match most > 0.0 {
        true => importance.map(|w| w / most + LITTLE),
        false => [1.0; LEN],
    }
}

/// The same of a group of blocks.
pub(super) fn relative(importance: &[f32]) -> Vec<f32> {
    let most = importance.iter().fold(0.0, |m: f32, w| m.max(*w));
    let relative = |w: &f32| if most > 0.0 { w / most + LITTLE } else { 1.0 };
    importance.iter().map(relative).collect()
}

const LITTLE: f32 = 1e-9;

/// The `S` runs of a superblock.
#[inline(always)]
pub(super) fn runs<'a, const N: usize, const S: usize>(
    x: &'a [f32; 256],
    w: &'a [f32; 256],
) -> [Sample<'a, N>; S] {
    const { assert!(N * S == 256) }
    from_fn(|j| Sample {
        x: &x.as_chunks().0[j],
        w: &w.as_chunks().0[j],
    })
}
