//! What the i-quants share: groups of 4 or 8 weights looked up in a grid, and their signs.

use zse_quant::grids;

use super::spread_bits;
use crate::simd::{Simd, array};

/// What is added to weights with signs; above all magnitudes.
pub(super) const OFFSET: i32 = 64;

/// What is added to the weights of IQ1_S and IQ1_M.
pub(super) const IQ1_OFFSET: i32 = 9;

pub(super) static IQ2XXS: [[u8; 8]; 256] = bytes(&grids::IQ2XXS, 1, OFFSET as i8);
pub(super) static IQ2XS: [[u8; 8]; 512] = bytes(&grids::IQ2XS, 1, OFFSET as i8);
pub(super) static IQ2S: [[u8; 8]; 1024] = bytes(&grids::IQ2S, 1, OFFSET as i8);
pub(super) static IQ3XXS: [[u8; 4]; 256] = bytes(&grids::IQ3XXS, 1, OFFSET as i8);
pub(super) static IQ3S: [[u8; 4]; 512] = bytes(&grids::IQ3S, 1, OFFSET as i8);
/// `8 * grid - 1`; what is added for `8 * grid + 1` is [`IQ1_PLUS`].
pub(super) static IQ1S: [[u8; 8]; 2048] = bytes(&grids::IQ1S, 8, IQ1_OFFSET as i8 - 1);

/// 2 for each weight; no byte of [`IQ1S`] has that bit.
pub(super) const IQ1_PLUS: u8 = 2;

/// `by * grid + plus`, none of which is negative.
const fn bytes<const N: usize, const LEN: usize>(
    grid: &[[i8; LEN]; N],
    by: i8,
    plus: i8,
) -> [[u8; LEN]; N] {
    let mut bytes = [[0; LEN]; N];
    let mut i = 0;
    while i < N * LEN {
        let value = by * grid[i / LEN][i % LEN] + plus;
        assert!(value >= 0);
        bytes[i / LEN][i % LEN] = value as u8;
        i += 1;
    }
    bytes
}

/// Eight weights of each row: the grid's entries at the low bits of each lane, as many as `N`, a
/// power of two, has.
#[inline(always)]
pub(super) fn eights<S: Simd, const N: usize>(s: S, grid: &[[u8; 8]; N], index: S::I) -> [S::I; 2] {
    let halves = grid.as_flattened().as_chunks().0;
    let first = s.shl::<1>(index);
    [
        s.lookup(halves, first),
        s.lookup(halves, s.or(first, s.splat_i32(1))),
    ]
}

/// Four groups of eight weights as the words of a tile.
#[inline(always)]
pub(super) fn flatten<I>([[a, b], [c, d], [e, f], [g, h]]: [[I; 2]; 4]) -> [I; 8] {
    [a, b, c, d, e, f, g, h]
}

/// The bits to turn, by whether a weight is negated.
const TURNED: [u8; 16] = [0, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Negates weights, to which [`OFFSET`] is added, where their sign is set: bit i of each lane of
/// `signs` is that of weight i. Bits from 8 on are ignored.
#[inline(always)]
pub(super) fn with_signs<S: Simd>(s: S, weights: [S::I; 2], signs: S::I) -> [S::I; 2] {
    array!(weights[0]; i => {
        let signs = if i == 0 { signs } else { s.shr::<4>(signs) };
        let minus = spread_bits(s, signs);
        // 64 - x is 127 - (64 + x) + 1; the difference from 127 is all bits turned.
        let turned = s.xor(weights[i], s.lookup16(&TURNED, minus));
        s.add_i32(turned, minus)
    })
}

/// The signs of eight weights from the low seven bits of each lane: the eighth makes the number
/// of minus signs even.
#[inline(always)]
pub(super) fn even_signs<S: Simd>(s: S, signs: S::I) -> S::I {
    let signs = s.and(signs, s.splat_i32(127));
    let fold = s.xor(signs, s.shr::<4>(signs));
    let fold = s.xor(fold, s.shr::<2>(fold));
    let fold = s.and(s.xor(fold, s.shr::<1>(fold)), s.splat_i32(1));
    s.or(signs, s.shl::<7>(fold))
}
