//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: by plain rounding with the very bytes of ggml, where the
//! extreme values of a block fix its scale; by a search where columns differ in importance.

use super::block32::{halves, search_affine, search_scale};
use super::blocks::round_blocks;
use super::fit::Sample;
use super::lanes::F32x8;
use super::levels::Integers;
use super::search::{Searched, search_blocks};
use super::superblock::largest;
use crate::block::f16_bytes;
use crate::legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

/// `x` cut to an integer and then to a signed byte, 0 where it is no such integer: subnormal
/// scales have no finite inverse.
#[inline]
fn truncate(x: f32) -> u8 {
    if x.abs() < 128.0 { x as i8 as u8 } else { 0 }
}

/// `1 / x`, and 0 for 0.
#[inline]
pub(super) fn inverse_or_zero(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The scale that puts the value of largest magnitude at the level `-levels`, and codes from 0
/// to `2 * levels - 1`.
#[inline]
fn round_symmetric(x: &[f32; 32], levels: u8) -> (f32, [u8; 32]) {
    let d = largest(x) / -f32::from(levels);
    (d, symmetric_codes(x, d, levels))
}

/// Codes from 0 to `2 * levels - 1` of a block whose scale is `d`.
#[inline]
pub(super) fn symmetric_codes(x: &[f32; 32], d: f32, levels: u8) -> [u8; 32] {
    let (inverse, half) = (inverse_or_zero(d), f32::from(levels) + 0.5);
    x.map(|x| truncate(x * inverse + half).min(2 * levels - 1))
}

/// Scale and offset that put the least value at level 0 and the greatest at `top`, and codes.
#[inline]
fn round_affine(x: &[f32; 32], top: u8) -> (f32, f32, [u8; 32]) {
    let min = x.iter().fold(f32::MAX, |m, x| if *x < m { *x } else { m });
    let max = x.iter().fold(f32::MIN, |m, x| if *x > m { *x } else { m });
    let d = (max - min) / f32::from(top);
    let inverse = inverse_or_zero(d);
    (
        d,
        min,
        x.map(|x| truncate((x - min) * inverse + 0.5).min(top)),
    )
}

/// The fifth bits of 32 codes.
fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes
        .iter()
        .rev()
        .fold(0, |bits, c| (bits << 1) | u32::from((c >> 4) & 1));
    bits.to_le_bytes()
}

impl Q4_0 {
    fn of((d, codes): (f32, [u8; 32])) -> Self {
        Self {
            d: f16_bytes(d),
            qs: halves(&codes),
        }
    }
}

impl Q4_1 {
    fn of((d, m, codes): (f32, f32, [u8; 32])) -> Self {
        Self {
            d: f16_bytes(d),
            m: f16_bytes(m),
            qs: halves(&codes),
        }
    }
}

impl Q5_0 {
    fn of((d, codes): (f32, [u8; 32])) -> Self {
        Self {
            d: f16_bytes(d),
            qh: fifth_bits(&codes),
            qs: halves(&codes),
        }
    }
}

impl Q5_1 {
    fn of((d, m, codes): (f32, f32, [u8; 32])) -> Self {
        Self {
            d: f16_bytes(d),
            m: f16_bytes(m),
            qh: fifth_bits(&codes),
            qs: halves(&codes),
        }
    }
}

pub(super) fn q4_0(row: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    match importance {
        None => round_blocks(row, dst, |x| Q4_0::of(round_symmetric(x, 8))),
        Some(_) => search_blocks::<Q4_0, _>(row, importance, dst),
    }
}

impl Searched<32> for Q4_0 {
    #[inline(always)]
    fn searched(x: &[f32; 32], w: &[f32; 32]) -> Self {
        static GRID: [F32x8; 5] = [
            F32x8::ramp(-5.5, -9.7),
            F32x8::ramp(-5.8, -10.0),
            F32x8::ramp(5.5, 8.7),
            F32x8::ramp(5.8, 9.0),
            F32x8::ramp(-9.0, -16.0),
        ];
        Self::of(search_scale::<Integers<-8, 7>>(Sample { x, w }, &GRID))
    }
}

pub(super) fn q4_1(row: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    match importance {
        None => round_blocks(row, dst, |x| Q4_1::of(round_affine(x, 15))),
        Some(_) => search_blocks::<Q4_1, _>(row, importance, dst),
    }
}

impl Searched<32> for Q4_1 {
    #[inline(always)]
    fn searched(x: &[f32; 32], w: &[f32; 32]) -> Self {
        static GRID: [(F32x8, f32); 8] = [
            (F32x8::ramp(14.0, 16.8), 0.0),
            (F32x8::ramp(14.2, 17.0), 0.0),
            (F32x8::ramp(14.0, 17.5), 0.3),
            (F32x8::ramp(14.0, 17.5), 0.5),
            (F32x8::ramp(14.0, 17.5), 0.7),
            (F32x8::ramp(14.0, 16.8), 1.0),
            (F32x8::ramp(14.2, 17.0), 1.0),
            (F32x8::ramp(17.0, 30.0), 0.5),
        ];
        Self::of(search_affine::<Integers<0, 15>>(Sample { x, w }, &GRID))
    }
}

pub(super) fn q5_0(row: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    match importance {
        None => round_blocks(row, dst, |x| Q5_0::of(round_symmetric(x, 16))),
        Some(_) => search_blocks::<Q5_0, _>(row, importance, dst),
    }
}

impl Searched<32> for Q5_0 {
    #[inline(always)]
    fn searched(x: &[f32; 32], w: &[f32; 32]) -> Self {
        static GRID: [F32x8; 5] = [
            F32x8::ramp(-12.5, -17.7),
            F32x8::ramp(-12.8, -18.0),
            F32x8::ramp(12.5, 17.2),
            F32x8::ramp(12.8, 17.5),
            F32x8::ramp(-17.0, -32.0),
        ];
        Self::of(search_scale::<Integers<-16, 15>>(Sample { x, w }, &GRID))
    }
}

pub(super) fn q5_1(row: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    match importance {
        None => round_blocks(row, dst, |x| Q5_1::of(round_affine(x, 31))),
        Some(_) => search_blocks::<Q5_1, _>(row, importance, dst),
    }
}

impl Searched<32> for Q5_1 {
    #[inline(always)]
    fn searched(x: &[f32; 32], w: &[f32; 32]) -> Self {
        static GRID: [(F32x8, f32); 8] = [
            (F32x8::ramp(30.0, 32.8), 0.0),
            (F32x8::ramp(30.2, 33.0), 0.0),
            (F32x8::ramp(30.0, 35.0), 0.3),
            (F32x8::ramp(30.0, 35.0), 0.5),
            (F32x8::ramp(30.0, 35.0), 0.7),
            (F32x8::ramp(30.0, 32.8), 1.0),
            (F32x8::ramp(30.2, 33.0), 1.0),
            (F32x8::ramp(34.0, 60.0), 0.5),
        ];
        Self::of(search_affine::<Integers<0, 31>>(Sample { x, w }, &GRID))
    }
}

/// As ggml, whatever the importance: at 8 bits a search gains next to nothing.
pub(super) fn q8_0(row: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
    round_blocks(row, dst, |x| {
        let d = largest(x).abs() / 127.0;
        Q8_0 {
            d: f16_bytes(d),
            qs: codes_q8_0(x, inverse_or_zero(d)),
        }
    });
}

/// Codes of a block by the inverse of its scale.
#[inline]
pub(super) fn codes_q8_0(x: &[f32; 32], inverse: f32) -> [u8; 32] {
    x.map(|x| truncate(half_away(x * inverse)))
}

/// Moves a number so that cutting off its fraction rounds to nearest, halves away from zero.
#[inline]
fn half_away(x: f32) -> f32 {
    const BELOW_HALF: f32 = 0.5 - f32::EPSILON / 4.0;
    x + BELOW_HALF.copysign(x)
}
