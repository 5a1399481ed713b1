//! IQ2_XXS, IQ2_XS, IQ2_S: magnitudes of 8 weights from a grid on the E8 lattice, and signs.
//!
//! Introduced in <https://github.com/ggml-org/llama.cpp/pull/4773>, 4856 and 5721, after QuIP#
//! (<https://arxiv.org/abs/2402.04396>).

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};
use crate::grids::{IQ2S, IQ2XS, IQ2XXS, collect32, even_signs, with_signs};

block! {
    /// `weight = d * (scale + 1/2) / 4 * ± grid`, scale of 4 bits for 32.
    Iq2Xxs: 256 values, 66 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// 8 bytes for each 32 weights: four grid indices; a u32 of four times 7 signs and the
        /// scale in the upper 4 bits.
        qs: [u8; 64] / 4,
    }
}

block! {
    /// `weight = d * (scale + 1/2) / 4 * ± grid`, scale of 4 bits for 16.
    Iq2Xs: 256 values, 74 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// u16 for each 8 weights: 9 bits of grid index, 7 signs.
        qs: [u8; 64] / 4,
        /// Two scales for each 32 weights, the first in the low nibble.
        scales: [u8; 8] / 4,
    }
}

block! {
    /// `weight = d * (scale + 1/2) / 4 * ± grid`, scale of 4 bits for 16.
    Iq2S: 256 values, 82 bytes {
        /// Scale of the scales (f16).
        d: [u8; 2] / 2,
        /// Low eight bits of the grid index of each 8 weights.
        qs: [u8; 32] / 4,
        /// Eight signs for each 8 weights.
        signs: [u8; 32] / 4,
        /// Upper two bits of four grid indices, for each 32 weights.
        qh: [u8; 8] / 4,
        /// Two scales for each 32 weights, the first in the low nibble.
        scales: [u8; 8] / 4,
    }
}

/// `d * (scale + 1/2) / 4`.
#[inline]
fn scaled(d: f32, scale: u8) -> f32 {
    d * (f32::from(scale) + 0.5) * 0.25
}

/// The scales of both halves, low nibble first.
#[inline]
fn scaled_pair(d: f32, scales: u8) -> [f32; 2] {
    [scaled(d, scales & 15), scaled(d, scales >> 4)]
}

impl Unpack for Iq2Xxs {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let words = self.qs.as_chunks::<4>().0;
        let (index, signs) = (words[2 * group], u32::from_le_bytes(words[2 * group + 1]));
        let q =
            collect32(|l| with_signs(IQ2XXS[usize::from(index[l])], even_signs(signs >> (7 * l))));
        Block32::uniform(q, scaled(f16(self.d), (signs >> 28) as u8))
    }
}

impl Unpack for Iq2Xs {
    const CONTRACT: Contract = Contract::SPLIT;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let words = self.qs.as_chunks().0;
        let q = collect32(|l| {
            let word = u16::from_le_bytes(words[4 * group + l]);
            with_signs(
                IQ2XS[usize::from(word & 511)],
                even_signs(u32::from(word >> 9)),
            )
        });
        Block32::split(q, scaled_pair(f16(self.d), self.scales[group]))
    }
}

impl Unpack for Iq2S {
    const CONTRACT: Contract = Contract::SPLIT;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let high = usize::from(self.qh[group]);
        let q = collect32(|l| {
            let index = usize::from(self.qs[4 * group + l]) | (((high >> (2 * l)) & 3) << 8);
            with_signs(IQ2S[index], self.signs[4 * group + l])
        });
        Block32::split(q, scaled_pair(f16(self.d), self.scales[group]))
    }
}
