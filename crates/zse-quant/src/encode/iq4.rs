//! IQ4_NL and IQ4_XS.

use std::array::from_fn;

use super::block32::{halves, search_scale};
use super::blocks::runs;
use super::fit::Sample;
use super::lanes::F32x8;
use super::levels::Iq4Levels;
use super::search::Searched;
use super::symmetric::{BOTH_SIGNS, SymmetricSearch};
use crate::block::f16_bytes;
use crate::iq4::{Iq4Nl, Iq4Xs};

/// Where the largest weight of a run is to stand, among levels of -127 to 113.
static GRID: [F32x8; 5] = [
    F32x8::ramp(-90.0, -146.0),
    F32x8::ramp(-94.0, -150.0),
    F32x8::ramp(80.0, 132.0),
    F32x8::ramp(84.0, 136.0),
    F32x8::ramp(-140.0, -250.0),
];

static SEARCH: SymmetricSearch = SymmetricSearch {
    grid: &GRID,
    range: (-32.0, 31.0),
    neighbours: BOTH_SIGNS,
};

impl Searched<32> for Iq4Nl {
    #[inline(always)]
    fn searched(x: &[f32; 32], w: &[f32; 32]) -> Self {
        let (d, codes) = search_scale::<Iq4Levels>(Sample { x, w }, &GRID);
        Self {
            d: f16_bytes(d),
            qs: halves(&codes),
        }
    }
}

impl Searched<256> for Iq4Xs {
    #[inline(always)]
    fn searched(x: &[f32; 256], w: &[f32; 256]) -> Self {
        let (found, codes) = SEARCH.run::<Iq4Levels, 32, 8>(&runs(x, w));
        let scales = found.scales.map(|s| (s + 32.0) as u8);
        let high = scales
            .iter()
            .rev()
            .fold(0u16, |bits, s| (bits << 2) | u16::from(s >> 4));
        let low = |i: usize| (scales[2 * i] & 15) | ((scales[2 * i + 1] & 15) << 4);
        let mut qs = [0; 128];
        for (qs, codes) in qs.as_chunks_mut().0.iter_mut().zip(&codes) {
            *qs = halves(codes);
        }
        Self {
            d: f16_bytes(found.d),
            scales_h: high.to_le_bytes(),
            scales_l: from_fn(low),
            qs,
        }
    }
}
