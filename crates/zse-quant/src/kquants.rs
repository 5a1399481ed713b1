//! Q2_K to Q6_K and Q8_K: 256 weights share f16 scales, and 16 or 32 share an integer scale.
//!
//! Introduced in <https://github.com/ggml-org/llama.cpp/pull/1684>.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};

block! {
    /// `weight = d * scale * q - dmin * min`, q of 2 bits, scale and min of 4 bits for 16.
    Q2K: 256 values, 84 bytes {
        /// Byte j: scale (low nibble) and min (high nibble) of weights `16 j..`.
        scales: [u8; 16] / 4,
        /// Each 128 weights take 32 bytes: bits 2s of byte i are weight `32 s + i` of them.
        qs: [u8; 64] / 4,
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Scale of the minima (f16).
        dmin: [u8; 2] / 2,
    }
}

block! {
    /// `weight = d * (scale - 32) * (q - 4)`, q of 3 bits, scale of 6 bits for 16.
    Q3K: 256 values, 110 bytes {
        /// Third bits: bit g of byte i is weight `32 g + i`.
        hmask: [u8; 32] / 4,
        /// Low two bits, as in [`Q2K`].
        qs: [u8; 64] / 4,
        /// 16 scales: low nibbles in the first 8 bytes, upper bit pairs in the last 4.
        scales: [u8; 12] / 4,
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
    }
}

block! {
    /// `weight = d * scale * q - dmin * min`, q of 4 bits, scale and min of 6 bits for 32.
    Q4K: 256 values, 144 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Scale of the minima (f16).
        dmin: [u8; 2] / 2,
        /// Eight scales and minima, see [`scale_min`].
        scales: [u8; 12] / 4,
        /// Each 64 weights take 32 bytes: the first 32 in low nibbles, the others in high ones.
        qs: [u8; 128] / 4,
    }
}

block! {
    /// As [`Q4K`], q of 5 bits.
    Q5K: 256 values, 176 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Scale of the minima (f16).
        dmin: [u8; 2] / 2,
        /// Eight scales and minima, see [`scale_min`].
        scales: [u8; 12] / 4,
        /// Fifth bits: bit g of byte i is weight `32 g + i`.
        qh: [u8; 32] / 4,
        /// Low nibbles, as in [`Q4K`].
        qs: [u8; 128] / 4,
    }
}

block! {
    /// `weight = d * scale * (q - 32)`, q of 6 bits, scale of 8 bits for 16.
    Q6K: 256 values, 210 bytes {
        /// Low nibbles: each 128 weights take 64 bytes; low nibbles are the first 64 weights.
        ql: [u8; 128] / 4,
        /// Upper bit pairs: each 128 weights take 32 bytes, as in [`Q2K`].
        qh: [u8; 64] / 4,
        /// Signed scales.
        scales: [u8; 16] / 4,
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
    }
}

block! {
    /// `weight = d * q`, q a signed byte. ggml's activation format beside K-quants.
    Q8K: 256 values, 292 bytes {
        /// Scale (f32).
        d: [u8; 4] / 4,
        /// Signed bytes in order.
        qs: [u8; 256] / 4,
        /// Sums of each 16 quants (i16); not needed to decode.
        bsums: [u8; 32] / 4,
    }
}

/// Scale and minimum of group `g` of 32 in Q4_K and Q5_K, 6 bits each: groups 0..4 stand in
/// bytes `g` and `g + 4`, groups 4..8 have low nibbles in byte `g + 4` and their upper bits atop
/// the former.
#[inline]
pub(crate) fn scale_min(scales: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (scales[g] & 63, scales[g + 4] & 63)
    } else {
        let low = scales[g + 4];
        (
            (low & 15) | ((scales[g - 4] >> 6) << 4),
            (low >> 4) | ((scales[g] >> 6) << 4),
        )
    }
}

/// Scale `j` of the 16 of Q3_K, 0..64.
#[inline]
fn q3_scale(scales: &[u8; 12], j: usize) -> u8 {
    let low = (scales[j % 8] >> (4 * (j / 8))) & 15;
    low | (((scales[8 + j % 4] >> (2 * (j / 4))) & 3) << 4)
}

/// Bit pairs of group `g` of 32, where each 128 weights take 32 bytes.
#[inline]
fn bit_pairs(qs: &[u8; 64], g: usize) -> [u8; 32] {
    let (bytes, shift) = (&qs[32 * (g / 4)..][..32], 2 * (g % 4));
    std::array::from_fn(|i| (bytes[i] >> shift) & 3)
}

/// Nibbles of group `g` of 32, where each 64 weights take 32 bytes.
#[inline]
fn nibble_group(qs: &[u8; 128], g: usize) -> [u8; 32] {
    let (bytes, shift) = (&qs[32 * (g / 2)..][..32], 4 * (g % 2));
    std::array::from_fn(|i| (bytes[i] >> shift) & 15)
}

impl Unpack for Q2K {
    const CONTRACT: Contract = Contract::SPLIT_MIN;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let (d, dmin) = (f16(self.d), f16(self.dmin));
        let scales = [self.scales[2 * group], self.scales[2 * group + 1]];
        Block32 {
            q: bit_pairs(&self.qs, group).map(|q| q as i8),
            w: scales.map(|s| d * f32::from(s & 15)),
            m: scales.map(|s| -(dmin * f32::from(s >> 4))),
        }
    }
}

impl Unpack for Q3K {
    const CONTRACT: Contract = Contract::SPLIT;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let d = f16(self.d);
        let low = bit_pairs(&self.qs, group);
        let q = |i: usize| (low[i] | (((self.hmask[i] >> group) & 1) << 2)) as i8 - 4;
        let w = |h| d * f32::from(q3_scale(&self.scales, 2 * group + h) as i8 - 32);
        Block32::split(std::array::from_fn(q), [w(0), w(1)])
    }
}

impl Unpack for Q4K {
    const CONTRACT: Contract = Contract::UNIFORM_MIN;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let (scale, min) = scale_min(&self.scales, group);
        Block32::uniform_min(
            nibble_group(&self.qs, group).map(|q| q as i8),
            f16(self.d) * f32::from(scale),
            -(f16(self.dmin) * f32::from(min)),
        )
    }
}

impl Unpack for Q5K {
    const CONTRACT: Contract = Contract::UNIFORM_MIN;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let (scale, min) = scale_min(&self.scales, group);
        let low = nibble_group(&self.qs, group);
        Block32::uniform_min(
            std::array::from_fn(|i| (low[i] | (((self.qh[i] >> group) & 1) << 4)) as i8),
            f16(self.d) * f32::from(scale),
            -(f16(self.dmin) * f32::from(min)),
        )
    }
}

impl Unpack for Q6K {
    const CONTRACT: Contract = Contract::SPLIT;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let d = f16(self.d);
        // Groups 0 and 1 of a 128 are low nibbles, 2 and 3 the high ones of the same bytes.
        let bytes = &self.ql[64 * (group / 4) + 32 * (group % 2)..][..32];
        let shift = 4 * (group / 2 % 2);
        let high = bit_pairs(&self.qh, group);
        let q = |i: usize| (((bytes[i] >> shift) & 15) | (high[i] << 4)) as i8 - 32;
        let w = |h: usize| d * f32::from(self.scales[2 * group + h] as i8);
        Block32::split(std::array::from_fn(q), [w(0), w(1)])
    }
}

impl Unpack for Q8K {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let bytes = &self.qs[32 * group..][..32];
        Block32::uniform(
            std::array::from_fn(|i| bytes[i] as i8),
            f32::from_le_bytes(self.d),
        )
    }
}
