//! Unpackers of Q1_0 and Q2_0: an f16 scale, then one or two bits a weight in order.

use zse_quant::GgmlType;

use super::{Cells, Form, Sink, Tile, Unpack, spread_bits};
use crate::simd::{Simd, array};

/// `weight = d` where the bit is set, else `-d`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q1_0;

/// `weight = d * (q - 1)`, q of 2 bits.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q2_0;

impl Unpack for Q1_0 {
    const FORM: Form = Form::Narrow { offset: 1, bits: 2 };

    fn ty(self) -> GgmlType {
        GgmlType::Q1_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 18);
        let d = cells.f16(0);
        for group in 0..4 {
            let [mut bits] = cells.words(2 + 4 * group);
            let q = array!(bits; _ => {
                // 0 or 2.
                let q = s.shl::<1>(spread_bits(s, bits));
                bits = s.shr::<4>(bits);
                q
            });
            sink.take(Tile::uniform(s, q, d));
        }
    }
}

impl Unpack for Q2_0 {
    const FORM: Form = Form::Narrow { offset: 1, bits: 2 };

    fn ty(self) -> GgmlType {
        GgmlType::Q2_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 18);
        let d = cells.f16(0);
        for group in 0..2 {
            let mut words = cells.words::<2>(2 + 8 * group);
            let q = array!(words[0]; j => {
                let q = spread_pairs(s, words[j / 4]);
                words[j / 4] = s.shr::<8>(words[j / 4]);
                q
            });
            sink.take(Tile::uniform(s, q, d));
        }
    }
}

/// The four bit pairs of the low byte of each lane, each to a byte of its own.
#[inline(always)]
fn spread_pairs<S: Simd>(s: S, lanes: S::I) -> S::I {
    let byte = s.and(lanes, s.splat_i32(0xff));
    let nibbles = s.and(s.or(byte, s.shl::<12>(byte)), s.splat_i32(0x000f_000f));
    s.and(s.or(nibbles, s.shl::<6>(nibbles)), s.splat_u8(3))
}
