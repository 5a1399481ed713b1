//! MXFP4: the best of the few powers of two that a block's scale may be.
//!
//! The MX specification (section 6.3) takes the exponent from the largest magnitude alone; one
//! step up or down often loses less.

use super::block32::halves;
use super::blocks::weighted_blocks;
use super::fit::Sample;
use super::lanes::F32x8;
use super::levels::E2m1Levels;
use super::superblock::largest;
use crate::mx::Mxfp4;

/// The greatest exponent code of which no product with E2M1 overflows f32.
const MAX_EXPONENT: i32 = 252;

pub(super) fn mxfp4(row: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    weighted_blocks(row, importance, dst, encode_block);
}

fn encode_block(x: &[f32; 32], w: &[f32; 32]) -> Mxfp4 {
    let magnitude = largest(x).abs();
    if magnitude == 0.0 {
        return Mxfp4::default();
    }
    // The code that puts the largest magnitude at 4 to 8, of which 6 is the greatest level.
    let from_largest = ((magnitude.to_bits() >> 23) as i32 - 2).clamp(0, MAX_EXPONENT);
    // In units of that power of two, so that no square overflows or vanishes.
    let unit = power_of_two(127 - from_largest);
    let x = x.map(|x| x * unit);
    let block = Sample { x: &x, w };

    let exponents: [i32; 8] = [0, 1, -1, -2, -3, -4, -5, -6];
    let exponents = exponents.map(|step| (from_largest + step).clamp(0, MAX_EXPONENT));
    // Levels are doubled, hence half the power of two.
    let scales = F32x8(exponents.map(|e| 0.5 * power_of_two(e - from_largest)));
    let best = block.errors::<E2m1Levels>(scales, F32x8::default()).least();
    Mxfp4 {
        e: [exponents[best] as u8],
        qs: halves(&block.codes::<E2m1Levels>(scales.0[best], 0.0)),
    }
}

/// `2^exponent` for normal f32, -126 to 127.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}
