//! TQ1_0 and TQ2_0: weights of -1, 0 and 1 times one f16 scale for 256 (as in BitNet b1.58).
//!
//! Introduced in <https://github.com/ggml-org/llama.cpp/pull/8151>.

use crate::block::{block, f16};
use crate::contract::{Block32, Contract, Unpack};

block! {
    /// Five weights to a byte, as digits of base 3 of a fraction of 256.
    Tq1_0: 256 values, 54 bytes {
        /// Digit n of byte i is weight `32 n + i` (first 32 bytes), then `160 + 16 n + i`.
        qs: [u8; 48] / 4,
        /// Digit n (of four) of byte i is weight `240 + 4 n + i`.
        qh: [u8; 4] / 4,
        /// Scale (f16).
        d: [u8; 2] / 2,
    }
}

block! {
    /// Four weights to a byte.
    Tq2_0: 256 values, 66 bytes {
        /// Each 128 weights take 32 bytes: bits 2s of byte i are weight `32 s + i` of them.
        qs: [u8; 64] / 4,
        /// Scale (f16).
        d: [u8; 2] / 2,
    }
}

/// Digit `n` (0 is the first) of the base-3 fraction `byte / 256`, less one.
#[inline]
fn trit(byte: u8, n: usize) -> i8 {
    const POW3: [u8; 5] = [1, 3, 9, 27, 81];
    let rest = byte.wrapping_mul(POW3[n]);
    ((u16::from(rest) * 3) >> 8) as i8 - 1
}

impl Unpack for Tq1_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let q = |i: usize| match (group, i) {
            (0..5, _) => trit(self.qs[i], group),
            (7, 16..) => trit(self.qh[i % 4], (i - 16) / 4),
            _ => trit(self.qs[32 + i % 16], 2 * (group - 5) + i / 16),
        };
        Block32::uniform(std::array::from_fn(q), f16(self.d))
    }
}

impl Unpack for Tq2_0 {
    const CONTRACT: Contract = Contract::UNIFORM;

    #[inline]
    fn unpack(&self, group: usize) -> Block32 {
        let (bytes, shift) = (&self.qs[32 * (group / 4)..][..32], 2 * (group % 4));
        let q = |i: usize| ((bytes[i] >> shift) & 3) as i8 - 1;
        Block32::uniform(std::array::from_fn(q), f16(self.d))
    }
}
