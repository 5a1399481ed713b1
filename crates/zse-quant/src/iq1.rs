//! IQ1_S and IQ1_M: a ternary grid for 8 weights, shifted by plus or minus an eighth.
//!
//! Introduced in <https://github.com/ggml-org/llama.cpp/pull/5999> and 6302. The shift is
//! folded into the integers: `q = 8 * grid ± 1`, with an eighth of the scale.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};
use crate::grids::{IQ1S, collect32};

block! {
    /// `weight = d * (2 scale + 1) * (grid ± 1/8)`, scale of 3 bits and shift for 32.
    Iq1S: 256 values, 50 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Low eight bits of the grid index of each 8 weights.
        qs: [u8; 32] / 4,
        /// u16 for each 32 weights: four times 3 index bits, 3 scale bits, sign of the shift.
        qh: [u8; 16] / 2,
    }
}

block! {
    /// `weight = d * (2 scale + 1) * (grid ± 1/8)`, scale of 3 bits for 16, shift for 8.
    Iq1M: 256 values, 56 bytes {
        /// Low eight bits of the grid index of each 8 weights.
        qs: [u8; 32] / 4,
        /// Nibble for each 8 weights: 3 index bits, sign of the shift.
        qh: [u8; 16] / 2,
        /// Four u16: 12 bits are four scales, the upper 4 a quarter of d (f16).
        scales: [u8; 8] / 2,
    }
}

/// `8 * grid ± 1`.
#[inline]
fn shifted(low: u8, high: u16, minus: bool) -> [i8; 8] {
    let index = usize::from(low) | (usize::from(high & 7) << 8);
    IQ1S[index].map(|g| 8 * g + if minus { -1 } else { 1 })
}

impl Unpack for Iq1S {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let high = u16::from_le_bytes(self.qh.as_chunks().0[group]);
        let scale = 2 * ((high >> 12) & 7) + 1;
        let minus = high & 0x8000 != 0;
        let q = collect32(|l| shifted(self.qs[4 * group + l], high >> (3 * l), minus));
        Block32::uniform(q, f16(self.d) * f32::from(scale) * 0.125)
    }
}

impl Iq1M {
    /// The four u16 that hold the scales.
    #[inline]
    fn scale_words(&self) -> [u16; 4] {
        std::array::from_fn(|i| u16::from_le_bytes([self.scales[2 * i], self.scales[2 * i + 1]]))
    }
}

impl Unpack for Iq1M {
    const CONTRACT: Contract = Contract::SPLIT;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let words = self.scale_words();
        let d = words
            .iter()
            .rev()
            .fold(0, |d, word| (d << 4) | (word >> 12));
        let d = f16(u16::to_le_bytes(d));
        let w = |h: usize| {
            let scale = 2 * ((words[group / 2] >> (6 * (group % 2) + 3 * h)) & 7) + 1;
            d * f32::from(scale) * 0.125
        };
        let q = collect32(|l| {
            let nibble = (self.qh[2 * group + l / 2] >> (4 * (l % 2))) & 15;
            shifted(self.qs[4 * group + l], nibble.into(), nibble & 8 != 0)
        });
        Block32::split(q, [w(0), w(1)])
    }
}
