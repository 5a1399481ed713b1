//! Q2_K to Q6_K: which scales to search, and how the result is stored.

use std::array::from_fn;

use super::affine::AffineSearch;
use super::blocks::runs;
use super::fit::anchored;
use super::lanes::F32x8;
use super::levels::Integers;
use super::search::Searched;
use super::symmetric::{BOTH_SIGNS, ONE_SIGN, SymmetricSearch};
use crate::block::f16_bytes;
use crate::kquants::{Q2K, Q3K, Q4K, Q5K, Q6K};

/// Steps that the range of a run is taken to be, and where the slack goes.
static Q2_GRID: [(F32x8, f32); 5] = anchored(F32x8::ramp(2.0, 5.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
static Q4_GRID: [(F32x8, f32); 3] = anchored(F32x8::ramp(14.0, 17.5), [0.0, 0.5, 1.0]);
static Q5_GRID: [(F32x8, f32); 4] = anchored(F32x8::ramp(30.0, 35.0), [0.0, 0.3, 0.7, 1.0]);

/// Levels that the largest weight of a run is to stand at.
static Q3_GRID: [F32x8; 5] = [
    F32x8::ramp(-2.2, -5.2),
    F32x8::ramp(-2.3, -5.3),
    F32x8::ramp(-2.4, -7.4),
    F32x8::ramp(2.2, 4.5),
    F32x8::ramp(2.4, 6.0),
];
static Q6_GRID: [F32x8; 4] = [
    F32x8::ramp(-29.0, -34.0),
    F32x8::ramp(-29.3, -34.3),
    F32x8::ramp(29.0, 34.0),
    F32x8::ramp(-34.0, -62.0),
];

static Q2_SEARCH: AffineSearch = AffineSearch {
    grid: &Q2_GRID,
    top: 15.0,
};
static Q4_SEARCH: AffineSearch = AffineSearch {
    grid: &Q4_GRID,
    top: 63.0,
};
static Q5_SEARCH: AffineSearch = AffineSearch {
    grid: &Q5_GRID,
    top: 63.0,
};
static Q3_SEARCH: SymmetricSearch = SymmetricSearch {
    grid: &Q3_GRID,
    range: (-32.0, 31.0),
    neighbours: BOTH_SIGNS,
};
static Q6_SEARCH: SymmetricSearch = SymmetricSearch {
    grid: &Q6_GRID,
    range: (-128.0, 127.0),
    neighbours: ONE_SIGN,
};

impl Searched<256> for Q2K {
    #[inline(always)]
    fn searched(x: &[f32; 256], w: &[f32; 256]) -> Self {
        let (found, codes) = Q2_SEARCH.run::<Integers<0, 3>, 16, 16>(&runs(x, w));
        Self {
            scales: from_fn(|j| found.scales[j] as u8 | ((found.mins[j] as u8) << 4)),
            qs: bit_pairs(codes.as_flattened()),
            d: f16_bytes(found.d),
            dmin: f16_bytes(found.dmin),
        }
    }
}

impl Searched<256> for Q3K {
    #[inline(always)]
    fn searched(x: &[f32; 256], w: &[f32; 256]) -> Self {
        let (found, codes) = Q3_SEARCH.run::<Integers<-4, 3>, 16, 16>(&runs(x, w));
        let codes = codes.as_flattened();
        let scales = found.scales.map(|s| (s + 32.0) as u8);
        Self {
            hmask: high_bits(codes, 2),
            qs: bit_pairs(codes),
            scales: from_fn(|i| match i {
                0..8 => (scales[i] & 15) | ((scales[i + 8] & 15) << 4),
                _ => (0..4).fold(0, |byte, k| {
                    byte | ((scales[i - 8 + 4 * k] >> 4) << (2 * k))
                }),
            }),
            d: f16_bytes(found.d),
        }
    }
}

impl Searched<256> for Q4K {
    #[inline(always)]
    fn searched(x: &[f32; 256], w: &[f32; 256]) -> Self {
        let (found, codes) = Q4_SEARCH.run::<Integers<0, 15>, 32, 8>(&runs(x, w));
        Self {
            d: f16_bytes(found.d),
            dmin: f16_bytes(found.dmin),
            scales: scales_and_mins(found.scales, found.mins),
            qs: nibbles(codes.as_flattened()),
        }
    }
}

impl Searched<256> for Q5K {
    #[inline(always)]
    fn searched(x: &[f32; 256], w: &[f32; 256]) -> Self {
        let (found, codes) = Q5_SEARCH.run::<Integers<0, 31>, 32, 8>(&runs(x, w));
        let codes = codes.as_flattened();
        Self {
            d: f16_bytes(found.d),
            dmin: f16_bytes(found.dmin),
            scales: scales_and_mins(found.scales, found.mins),
            qh: high_bits(codes, 4),
            qs: nibbles(codes),
        }
    }
}

impl Searched<256> for Q6K {
    #[inline(always)]
    fn searched(x: &[f32; 256], w: &[f32; 256]) -> Self {
        let (found, codes) = Q6_SEARCH.run::<Integers<-32, 31>, 16, 16>(&runs(x, w));
        let codes = codes.as_flattened();
        let upper: [u8; 256] = from_fn(|i| codes[i] >> 4);
        Self {
            ql: from_fn(|i| {
                let low = 128 * (i / 64) + i % 64;
                (codes[low] & 15) | ((codes[low + 64] & 15) << 4)
            }),
            qh: bit_pairs(&upper),
            scales: found.scales.map(|s| s as i8 as u8),
            d: f16_bytes(found.d),
        }
    }
}

/// Low two bits of 256 codes: each 128 take 32 bytes, bits 2s of byte i being code `32 s + i`.
fn bit_pairs(codes: &[u8]) -> [u8; 64] {
    from_fn(|i| {
        let first = 128 * (i / 32) + i % 32;
        (0..4).fold(0, |byte, s| byte | ((codes[first + 32 * s] & 3) << (2 * s)))
    })
}

/// Low four bits of 256 codes: each 64 take 32 bytes, the first 32 in the low nibbles.
fn nibbles(codes: &[u8]) -> [u8; 128] {
    from_fn(|i| {
        let first = 64 * (i / 32) + i % 32;
        (codes[first] & 15) | ((codes[first + 32] & 15) << 4)
    })
}

/// One bit of 256 codes: bit g of byte i is that of code `32 g + i`.
fn high_bits(codes: &[u8], bit: u32) -> [u8; 32] {
    from_fn(|i| (0..8).fold(0, |byte, g| byte | (((codes[32 * g + i] >> bit) & 1) << g)))
}

/// The inverse of [`crate::kquants::scale_min`].
fn scales_and_mins(scales: [f32; 8], mins: [f32; 8]) -> [u8; 12] {
    let (scales, mins) = (scales.map(|s| s as u8), mins.map(|m| m as u8));
    from_fn(|i| match i {
        0..4 => scales[i] | ((scales[i + 4] >> 4) << 6),
        4..8 => mins[i - 4] | ((mins[i] >> 4) << 6),
        _ => (scales[i - 4] & 15) | ((mins[i - 4] & 15) << 4),
    })
}
