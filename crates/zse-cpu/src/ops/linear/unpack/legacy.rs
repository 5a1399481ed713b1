//! Unpackers of Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: an f16 scale (and minimum), then quants.

use zse_quant::GgmlType;

use super::{Cells, Form, Sink, Tile, Unpack, atop, nibbles, spread_bits, wide};
use crate::simd::{Simd, array};

/// `weight = d * (nibble - 8)`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q4_0;

/// `weight = d * nibble + m`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q4_1;

/// `weight = d * (q - 16)`, q of 5 bits.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q5_0;

/// `weight = d * q + m`, q of 5 bits.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q5_1;

/// `weight = d * q`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q8_0;

/// 32 weights of 5 bits: nibbles, and their fifth bits, weight i's at bit i of `fifth`.
#[inline(always)]
fn five_bits<S: Simd>(s: S, low: [S::I; 4], [mut fifth]: [S::I; 1]) -> [S::I; 8] {
    let high = array!(fifth; _ => {
        let bits = spread_bits(s, fifth);
        fifth = s.shr::<4>(fifth);
        bits
    });
    atop::<4, _, _>(s, nibbles(s, low), high)
}

impl Unpack for Q4_0 {
    const FORM: Form = Form::Narrow { offset: 8, bits: 4 };

    fn ty(self) -> GgmlType {
        GgmlType::Q4_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 18);
        sink.take(Tile::uniform(s, nibbles(s, cells.words(2)), cells.f16(0)));
    }
}

impl Unpack for Q4_1 {
    const FORM: Form = Form::Narrow { offset: 0, bits: 4 };
    const MIN: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q4_1
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 20);
        let q = nibbles(s, cells.words(4));
        sink.take(Tile::uniform_min(q, cells.f16(0), cells.f16(2)));
    }
}

impl Unpack for Q5_0 {
    const FORM: Form = Form::Narrow {
        offset: 16,
        bits: 5,
    };

    fn ty(self) -> GgmlType {
        GgmlType::Q5_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 22);
        let q = five_bits(s, cells.words(6), cells.words(2));
        sink.take(Tile::uniform(s, q, cells.f16(0)));
    }
}

impl Unpack for Q5_1 {
    const FORM: Form = Form::Narrow { offset: 0, bits: 5 };
    const MIN: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q5_1
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 24);
        let q = five_bits(s, cells.words(8), cells.words(4));
        sink.take(Tile::uniform_min(q, cells.f16(0), cells.f16(2)));
    }
}

impl Unpack for Q8_0 {
    const FORM: Form = Form::Wide;

    fn ty(self) -> GgmlType {
        GgmlType::Q8_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 34);
        let q = wide(s, cells.words(2));
        sink.take(Tile::uniform(s, q, cells.f16(0)));
    }
}
