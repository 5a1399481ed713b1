//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: one f16 scale (and minimum) for 32 weights.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};

block! {
    /// `weight = d * (nibble - 8)`.
    Q4_0: 32 values, 18 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Weight i in the low nibble of byte i, weight 16 + i in the high one.
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * nibble + m`.
    Q4_1: 32 values, 20 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Minimum (f16).
        m: [u8; 2] / 2,
        /// As in [`Q4_0`].
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * (q - 16)`, q of 5 bits.
    Q5_0: 32 values, 22 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Bit i is the fifth bit of weight i.
        qh: [u8; 4] / 4,
        /// Low nibbles, as in [`Q4_0`].
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * q + m`, q of 5 bits.
    Q5_1: 32 values, 24 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Minimum (f16).
        m: [u8; 2] / 2,
        /// Bit i is the fifth bit of weight i.
        qh: [u8; 4] / 4,
        /// Low nibbles, as in [`Q4_0`].
        qs: [u8; 16] / 4,
    }
}

block! {
    /// `weight = d * q`, q a signed byte.
    Q8_0: 32 values, 34 bytes {
        /// Scale (f16).
        d: [u8; 2] / 2,
        /// Signed bytes in order.
        qs: [u8; 32] / 4,
    }
}

/// Low nibbles, then high nibbles.
#[inline]
pub(crate) fn nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 })
}

/// Nibbles with the bits of `qh` as fifth bits.
#[inline]
fn nibbles_and_bits(qs: &[u8; 16], qh: [u8; 4]) -> [u8; 32] {
    let (low, bits) = (nibbles(qs), u32::from_le_bytes(qh));
    std::array::from_fn(|i| low[i] | (((bits >> i) & 1) << 4) as u8)
}

impl Unpack for Q4_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        Block32::uniform(nibbles(&self.qs).map(|q| q as i8 - 8), f16(self.d))
    }
}

impl Unpack for Q4_1 {
    const CONTRACT: Contract = Contract::UNIFORM_MIN;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        Block32::uniform_min(nibbles(&self.qs).map(|q| q as i8), f16(self.d), f16(self.m))
    }
}

impl Unpack for Q5_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        let q = nibbles_and_bits(&self.qs, self.qh);
        Block32::uniform(q.map(|q| q as i8 - 16), f16(self.d))
    }
}

impl Unpack for Q5_1 {
    const CONTRACT: Contract = Contract::UNIFORM_MIN;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        let q = nibbles_and_bits(&self.qs, self.qh);
        Block32::uniform_min(q.map(|q| q as i8), f16(self.d), f16(self.m))
    }
}

impl Unpack for Q8_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, _group: usize) -> Block32 {
        Block32::uniform(self.qs.map(|q| q as i8), f16(self.d))
    }
}
