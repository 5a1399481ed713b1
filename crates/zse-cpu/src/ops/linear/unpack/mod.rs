//! Unpackers of single types, one file for each family; the files of `zse-quant` of the same
//! names describe the blocks.

mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod kquants;
mod legacy;
mod lowbit;
mod mx;
mod ternary;

pub(super) use iq1::{Iq1M, Iq1S};
pub(super) use iq2::{Iq2S, Iq2Xs, Iq2Xxs};
pub(super) use iq3::{Iq3S, Iq3Xxs};
pub(super) use iq4::{Iq4Nl, Iq4Xs};
pub(super) use kquants::{Q2K, Q3K, Q4K, Q5K, Q6K, Q8K};
pub(super) use legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(super) use lowbit::{Q1_0, Q2_0};
pub(super) use mx::{Mxfp4, Nvfp4};
pub(super) use ternary::{Tq1_0, Tq2_0};

use zse_quant::pack::TILE_ROWS;

use super::tile::{Form, Sink, Tile, Unpack};
use crate::simd::{Simd, array};

/// A column of cells: the blocks of 16 rows, interleaved as [`zse_quant::pack`] says. Offsets
/// are those of a block.
#[derive(Clone, Copy)]
struct Cells<'a, S> {
    s: S,
    bytes: &'a [u8],
}

impl<'a, S: Simd> Cells<'a, S> {
    /// Cells of `cell_bytes` bytes. A constant, so that no access is checked against it.
    #[inline(always)]
    fn new(s: S, cells: &'a [u8], cell_bytes: usize) -> Self {
        let bytes = &cells[..TILE_ROWS * cell_bytes];
        Self { s, bytes }
    }

    /// A unit of `UNIT / 16` bytes at `offset`, of 16 rows.
    #[inline(always)]
    fn unit<const UNIT: usize>(self, offset: usize) -> &'a [u8; UNIT] {
        self.bytes[TILE_ROWS * offset..]
            .first_chunk()
            .expect("the offset is inside the cell")
    }

    /// `N` units of 4 bytes from `offset` on, a row to a lane.
    #[inline(always)]
    fn words<const N: usize>(self, offset: usize) -> [S::I; N] {
        array!(self.s.splat_i32(0); i => self.s.load_bytes(self.unit(offset + 4 * i)))
    }

    /// An f16.
    #[inline(always)]
    fn f16(self, offset: usize) -> S::F {
        self.s.widen_f16(self.unit(offset))
    }

    /// A u16.
    #[inline(always)]
    fn u16(self, offset: usize) -> S::I {
        self.s.widen_u16(self.unit(offset))
    }

    /// A byte.
    #[inline(always)]
    fn u8(self, offset: usize) -> S::I {
        self.s.widen_u8(self.unit(offset))
    }
}

/// Takes the low `BITS` bits off each byte. Called up to `8 / BITS` times, it gives the digits
/// of each byte, the lowest first.
#[inline(always)]
fn take_bits<const BITS: u32, S: Simd, const N: usize>(s: S, words: &mut [S::I; N]) -> [S::I; N] {
    let mask = s.splat_u8((1 << BITS) - 1);
    let digits = array!(mask; i => s.and(words[i], mask));
    // Bits of the next byte come in above those that are left; they are never read.
    *words = array!(mask; i => s.shr::<BITS>(words[i]));
    digits
}

/// Bits `from .. from + BITS` of each byte, at bit `AT` of it. Unlike [`take_bits`] it leaves nothing
/// behind that would have to be kept until the next bits are wanted.
///
/// `from` must be a constant once all is inlined: see [`for_each`].
#[inline(always)]
fn bits<const BITS: u32, const AT: u32, S: Simd, const N: usize>(
    s: S,
    words: [S::I; N],
    from: u32,
) -> [S::I; N] {
    let mask = s.splat_u8(((1 << BITS) - 1) << AT);
    // Bits of the neighbouring bytes come in as well, and fall to the mask.
    array!(mask; i => s.and(shift_right(s, words[i], from as i32 - AT as i32), mask))
}

/// `v` shifted right by `n` bits, -6 to 6; left if that is negative.
#[inline(always)]
fn shift_right<S: Simd>(s: S, v: S::I, n: i32) -> S::I {
    match n {
        -6 => s.shl::<6>(v),
        -5 => s.shl::<5>(v),
        -4 => s.shl::<4>(v),
        -3 => s.shl::<3>(v),
        -2 => s.shl::<2>(v),
        -1 => s.shl::<1>(v),
        0 => v,
        1 => s.shr::<1>(v),
        2 => s.shr::<2>(v),
        3 => s.shr::<3>(v),
        4 => s.shr::<4>(v),
        5 => s.shr::<5>(v),
        6 => s.shr::<6>(v),
        _ => unreachable!("bits are of one byte"),
    }
}

/// Repeats a block for each of some numbers, which is a constant in it: a loop may be left a loop by
/// the compiler, and what depends on the number then goes through memory.
macro_rules! for_each {
    ($i:ident in [$($value:literal),*] $block:block) => {$(
        {
            const $i: usize = $value;
            $block
        }
    )*};
}
use for_each;

/// Byte `i` of each lane as a number 0 to 255.
#[inline(always)]
fn byte_number<S: Simd>(s: S, word: S::I, i: usize) -> S::F {
    let low = s.splat_i32(255);
    s.to_f32(match i {
        0 => s.and(word, low),
        1 => s.and(s.shr::<8>(word), low),
        2 => s.and(s.shr::<16>(word), low),
        _ => s.shr::<24>(word),
    })
}

/// The bits of both.
#[inline(always)]
fn both<S: Simd, const N: usize>(s: S, low: [S::I; N], high: [S::I; N]) -> [S::I; N] {
    array!(low[0]; i => s.or(low[i], high[i]))
}

/// Sets `high` on top of the `AT` bits of `low`, byte by byte.
#[inline(always)]
fn atop<const AT: u32, S: Simd, const N: usize>(
    s: S,
    low: [S::I; N],
    high: [S::I; N],
) -> [S::I; N] {
    both(s, low, array!(s.splat_i32(0); i => s.shl::<AT>(high[i])))
}

/// 32 weights of 16 bytes: the low nibbles, then the high ones.
#[inline(always)]
fn nibbles<S: Simd>(s: S, mut words: [S::I; 4]) -> [S::I; 8] {
    let low = take_bits::<4, _, _>(s, &mut words);
    join(low, take_bits::<4, _, _>(s, &mut words))
}

/// Both halves of 32 weights.
#[inline(always)]
fn join<I>(low: [I; 4], high: [I; 4]) -> [I; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (low, high);
    [a, b, c, d, e, f, g, h]
}

/// Bits 0 to 3 of each lane, each to a byte of its own as 0 or 1.
#[inline(always)]
fn spread_bits<S: Simd>(s: S, lanes: S::I) -> S::I {
    let lanes = s.and(lanes, s.splat_i32(15));
    // Copies of the bits 7 apart: bit i of copy i stands at 8 i, and no two meet.
    let copies = s.mul_i32(lanes, s.splat_i32(1 | 1 << 7 | 1 << 14 | 1 << 21));
    s.and(copies, s.splat_u8(1))
}

/// The bytes of a table that `codes`, below 16 each, stand for.
#[inline(always)]
fn lookup<S: Simd>(s: S, table: &[u8; 16], codes: [S::I; 8]) -> [S::I; 8] {
    array!(codes[0]; i => s.lookup16(table, codes[i]))
}

/// Signed bytes in the form that products take.
#[inline(always)]
fn wide<S: Simd>(s: S, bytes: [S::I; 8]) -> [S::I; 8] {
    array!(bytes[0]; i => s.wide(bytes[i]))
}

/// The four bytes of each lane as numbers 0 to 255.
#[inline(always)]
fn byte_numbers<S: Simd>(s: S, word: S::I) -> [S::F; 4] {
    array!(s.zero(); i => byte_number(s, word, i))
}

/// `-v`, of zero too.
#[inline(always)]
fn negate<S: Simd>(s: S, v: S::F) -> S::F {
    s.from_bits(s.xor(s.to_bits(v), s.splat_i32(i32::MIN)))
}
