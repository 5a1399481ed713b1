//! Q4_0 and Q8_0 with one scale for several blocks: groups of 64 or 128 weights, as other formats of
//! integers have them. The scale stands in each block of its group, so that files are read as ever.

use super::block32::halves;
use super::blocks::relative;
use super::fit::Sample;
use super::lanes::F32x8;
use super::legacy::{codes_q8_0, inverse_or_zero, symmetric_codes};
use super::levels::Integers;
use super::superblock::{f16_scale, largest};
use super::{check, rows_of};
use crate::block::{blocks_mut, f16_bytes};
use crate::legacy::{Q4_0, Q8_0};
use crate::{GgmlType, QuantError};

/// Weights of a block.
const BLOCK: usize = 32;

/// [`encode`](super::encode) with a scale for each `group` weights of a row, a multiple of 32; the last
/// group of a row may be shorter. With groups of 32 it is the same.
///
/// Without importance the weight of largest magnitude fixes a group's scale, as it does a block's;
/// with it, Q4_0 takes the best of many scales.
///
/// # Errors
/// As [`encode`](super::encode); and for types other than Q4_0 and Q8_0, and groups that are no whole
/// blocks.
pub fn encode_groups(
    ty: GgmlType,
    group: usize,
    src: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), QuantError> {
    if group == BLOCK {
        return super::encode(ty, src, cols, importance, dst);
    }
    let is_grouped = matches!(ty, GgmlType::Q4_0 | GgmlType::Q8_0);
    if !is_grouped || group == 0 || !group.is_multiple_of(BLOCK) {
        let action = "encoded in groups of this size";
        return Err(QuantError::Unsupported { ty, action });
    }
    let encoder = check(ty, src, cols, importance, dst)?;
    for row in rows_of(ty, &encoder, src, cols, dst) {
        let (x, bytes) = row?;
        match ty {
            GgmlType::Q4_0 => q4_0(x, importance, group, bytes),
            _ => q8_0(x, group, bytes),
        }
    }
    Ok(())
}

fn q4_0(row: &[f32], importance: Option<&[f32]>, group: usize, dst: &mut [u8]) {
    let blocks = blocks_mut::<Q4_0>(dst).chunks_mut(group / BLOCK);
    for (i, (x, blocks)) in row.chunks(group).zip(blocks).enumerate() {
        let d = match importance {
            None => largest(x) / -8.0,
            Some(importance) => best_scale(x, &importance[i * group..][..x.len()]),
        };
        for (x, block) in x.as_chunks().0.iter().zip(blocks) {
            let codes = match importance {
                None => symmetric_codes(x, d, 8),
                Some(_) => sample(x, &[1.0; BLOCK]).codes::<Integers<-8, 7>>(d, 0.0),
            };
            *block = Q4_0 {
                d: f16_bytes(d),
                qs: halves(&codes),
            };
        }
    }
}

fn q8_0(row: &[f32], group: usize, dst: &mut [u8]) {
    let blocks = blocks_mut::<Q8_0>(dst).chunks_mut(group / BLOCK);
    for (x, blocks) in row.chunks(group).zip(blocks) {
        let d = largest(x).abs() / 127.0;
        for (x, block) in x.as_chunks().0.iter().zip(blocks) {
            *block = Q8_0 {
                d: f16_bytes(d),
                qs: codes_q8_0(x, inverse_or_zero(d)),
            };
        }
    }
}

fn sample<'a>(x: &'a [f32; BLOCK], w: &'a [f32; BLOCK]) -> Sample<'a, BLOCK> {
    Sample { x, w }
}

/// The f16 scale with the least weighted error among those that put the weight of largest magnitude
/// somewhere around the outermost levels.
fn best_scale(x: &[f32], importance: &[f32]) -> f32 {
    const TRIED: [F32x8; 6] = [
        F32x8::ramp(-5.5, -9.7),
        F32x8::ramp(-5.8, -10.0),
        F32x8::ramp(5.5, 8.7),
        F32x8::ramp(5.8, 9.0),
        F32x8::ramp(-9.0, -16.0),
        F32x8::ramp(-7.0, -8.4),
    ];
    let weights = relative(importance);
    let blocks = || x.as_chunks().0.iter().zip(weights.as_chunks().0);
    let energy: f32 = blocks().map(|(x, w)| sample(x, w).energy()).sum();
    let mut best = (energy, 0.0);
    for levels in TRIED {
        let scales = (F32x8::splat(largest(x)) * levels.inverse()).map(f16_scale);
        let mut errors = F32x8::default();
        for (x, w) in blocks() {
            errors += sample(x, w).errors::<Integers<-8, 7>>(scales, F32x8::default());
        }
        let lane = errors.least();
        if errors.0[lane] < best.0 {
            best = (errors.0[lane], scales.0[lane]);
        }
    }
    best.1
}
