//! Q1_0 and Q2_0: one or two bits a weight, in order, and one f16 scale.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};

block! {
    /// `weight = d` where the bit is set, else `-d`.
    Q1_0: 128 values, 18 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Bit i of byte j is weight `8 j + i`.
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * (q - 1)`, q of 2 bits.
    Q2_0: 64 values, 18 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Bits 2i of byte j are weight `4 j + i`.
        qs: [u8; 16] / 4,
    }
}

impl Unpack for Q1_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let bits = u32::from_le_bytes(self.qs.as_chunks().0[group]);
        let q = |i| ((bits >> i) & 1) as i8 * 2 - 1;
        Block32::uniform(std::array::from_fn(q), f16(self.d))
    }
}

impl Unpack for Q2_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let bits = u64::from_le_bytes(self.qs.as_chunks().0[group]);
        let q = |i| ((bits >> (2 * i)) & 3) as i8 - 1;
        Block32::uniform(std::array::from_fn(q), f16(self.d))
    }
}
