//! Unpackers of IQ4_NL and IQ4_XS: nibbles through a table.

use zse_quant::GgmlType;

use super::{Cells, Form, Sink, Tile, Unpack, lookup, nibbles, wide};
use crate::simd::Simd;

/// `weight = d * VALUES[nibble]`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq4Nl;

/// `weight = d * (scale - 32) * VALUES[nibble]`, scale of 6 bits for 32.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq4Xs;

/// Values of the 16 codes (ggml's `kvalues_iq4nl`), as bytes.
const VALUES: [u8; 16] = {
    let values: [i8; 16] = [
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
    ];
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < 16 {
        bytes[i] = values[i] as u8;
        i += 1;
    }
    bytes
};

/// 32 weights of 16 bytes.
#[inline(always)]
fn values<S: Simd>(s: S, words: [S::I; 4]) -> [S::I; 8] {
    wide(s, lookup(s, &VALUES, nibbles(s, words)))
}

impl Unpack for Iq4Nl {
    const FORM: Form = Form::Wide;

    fn ty(self) -> GgmlType {
        GgmlType::Iq4Nl
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 18);
        sink.take(Tile::uniform(s, values(s, cells.words(2)), cells.f16(0)));
    }
}

impl Unpack for Iq4Xs {
    const FORM: Form = Form::Wide;

    fn ty(self) -> GgmlType {
        GgmlType::Iq4Xs
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 136);
        let d = cells.f16(0);
        // Eight bit pairs and eight nibbles: one of each is taken for each group.
        let (mut high, [mut low]) = (cells.u16(2), cells.words(4));
        for group in 0..8 {
            let scale = s.or(
                s.and(low, s.splat_i32(15)),
                s.shl::<4>(s.and(high, s.splat_i32(3))),
            );
            (low, high) = (s.shr::<4>(low), s.shr::<2>(high));
            let w = s.mul(d, s.sub(s.to_f32(scale), s.splat(32.0)));
            let q = values(s, cells.words(8 + 16 * group));
            sink.take(Tile::uniform(s, q, w));
        }
    }
}
