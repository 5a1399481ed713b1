//! IQ4_NL and IQ4_XS: 4 bits through a table of unevenly spaced values.
//!
//! Introduced in <https://github.com/ggml-org/llama.cpp/pull/5590>.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};
use crate::legacy::nibbles;

block! {
    /// `weight = d * VALUES[nibble]`.
    Iq4Nl: 32 values, 18 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Weight i in the low nibble of byte i, weight 16 + i in the high one.
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * (scale - 32) * VALUES[nibble]`, scale of 6 bits for 32.
    Iq4Xs: 256 values, 136 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Upper bit pairs of the eight scales.
        scales_h: [u8; 2] / 2,
        /// Low nibbles of the eight scales.
        scales_l: [u8; 4] / 4,
        /// Each 32 weights take 16 bytes, as in [`Iq4Nl`].
        qs: [u8; 128] / 4,
    }
}

/// Values of the 16 codes (ggml's `kvalues_iq4nl`).
pub(crate) const VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

impl Unpack for Iq4Nl {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        Block32::uniform(
            nibbles(&self.qs).map(|q| VALUES[usize::from(q)]),
            f16(self.d),
        )
    }
}

impl Unpack for Iq4Xs {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let low = (self.scales_l[group / 2] >> (4 * (group % 2))) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (2 * group)) as u8 & 3;
        let scale = (low | (high << 4)) as i8 - 32;
        let q = nibbles(&self.qs.as_chunks().0[group]).map(|q| VALUES[usize::from(q)]);
        Block32::uniform(q, f16(self.d) * f32::from(scale))
    }
}
