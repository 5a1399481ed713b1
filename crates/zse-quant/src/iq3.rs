//! IQ3_XXS and IQ3_S: magnitudes of 4 weights from a grid, and signs.
//!
//! Introduced in <https://github.com/ggml-org/llama.cpp/pull/5196> and 5676.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};
use crate::grids::{IQ3S, IQ3XXS, collect32, even_signs, join, with_signs};

block! {
    /// `weight = d * (scale + 1/2) / 2 * ± grid`, scale of 4 bits for 32.
    Iq3Xxs: 256 values, 98 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Grid index of each 4 weights.
        qs: [u8; 64] / 4,
        /// u32 for each 32 weights: four times 7 signs, the scale in the upper 4 bits.
        signs: [u8; 32] / 4,
    }
}

block! {
    /// `weight = d * (2 scale + 1) * ± grid`, scale of 4 bits for 32.
    Iq3S: 256 values, 110 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Low eight bits of the grid index of each 4 weights.
        qs: [u8; 64] / 4,
        /// Ninth bits of eight grid indices, for each 32 weights.
        qh: [u8; 8] / 4,
        /// Eight signs for each 8 weights.
        signs: [u8; 32] / 4,
        /// Scales, two to a byte, the first in the low nibble.
        scales: [u8; 4] / 4,
    }
}

impl Unpack for Iq3Xxs {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let index = &self.qs.as_chunks::<8>().0[group];
        let signs = u32::from_le_bytes(self.signs.as_chunks().0[group]);
        let grid = |i: usize| IQ3XXS[usize::from(index[i])];
        let q = collect32(|l| {
            with_signs(
                join(grid(2 * l), grid(2 * l + 1)),
                even_signs(signs >> (7 * l)),
            )
        });
        Block32::uniform(q, f16(self.d) * ((signs >> 28) as f32 + 0.5) * 0.5)
    }
}

impl Unpack for Iq3S {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let index = &self.qs.as_chunks::<8>().0[group];
        let high = usize::from(self.qh[group]);
        let grid = |i: usize| IQ3S[usize::from(index[i]) | (((high >> i) & 1) << 8)];
        let q = collect32(|l| {
            with_signs(
                join(grid(2 * l), grid(2 * l + 1)),
                self.signs[4 * group + l],
            )
        });
        let scale = (self.scales[group / 2] >> (4 * (group % 2))) & 15;
        Block32::uniform(q, f16(self.d) * f32::from(2 * scale + 1))
    }
}
