//! MXFP4 and NVFP4: 4-bit floats (E2M1) with a power of two for 32, or an 8-bit float for 16.
//!
//! MXFP4 is of the OCP Microscaling Formats (MX) Specification v1.0, section 5.

use crate::block::block;
use crate::contract::{Block32, Contract, Unpack};
use crate::legacy::nibbles;

block! {
    /// `weight = 2^(e - 127) * E2M1`.
    Mxfp4: 32 values, 17 bytes {
        /// Exponent (E8M0).
        e: [u8; 1] / 1,
        /// Weight i in the low nibble of byte i, weight 16 + i in the high one.
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * E2M1`, d for 16.
    Nvfp4: 64 values, 36 bytes {
        /// Four scales (unsigned E4M3).
        d: [u8; 4] / 4,
        /// Each 16 weights take 8 bytes: low nibbles, then high nibbles.
        qs: [u8; 32] / 4,
    }
}

/// Twice the value of each E2M1 code.
pub(crate) const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of `2^(e - 127)`, to go with [`E2M1_DOUBLED`]. ggml reads 255 as a number, not as NaN.
#[inline]
pub(crate) fn e8m0_half(e: u8) -> f32 {
    f32::from_bits(match e {
        // Subnormal: 2^-128 and 2^-127.
        0 | 1 => 0x0020_0000 << e,
        _ => u32::from(e - 1) << 23,
    })
}

/// Half of an unsigned E4M3 number (bias 7), to go with [`E2M1_DOUBLED`]. ggml ignores the top
/// bit, except that only 0x7f is NaN's code, which it reads as 0.
#[inline]
fn ue4m3_half(x: u8) -> f32 {
    if x == 0x7f {
        return 0.0;
    }
    let (exp, man) = (u32::from(x >> 3) & 15, x & 7);
    match exp {
        0 => f32::from(man) * (0.5 / 512.0),
        _ => f32::from_bits(((exp + 119) << 23) | (u32::from(man) << 20)),
    }
}

impl Unpack for Mxfp4 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        let q = nibbles(&self.qs).map(|q| E2M1_DOUBLED[usize::from(q)]);
        Block32::uniform(q, e8m0_half(self.e[0]))
    }
}

impl Unpack for Nvfp4 {
    const CONTRACT: Contract = Contract::SPLIT;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let bytes = &self.qs[16 * group..][..16];
        let q = |i: usize| {
            let nibble = (bytes[8 * (i / 16) + i % 8] >> (4 * (i / 8 % 2))) & 15;
            E2M1_DOUBLED[usize::from(nibble)]
        };
        let w = [self.d[2 * group], self.d[2 * group + 1]].map(ue4m3_half);
        Block32::split(std::array::from_fn(q), w)
    }
}
