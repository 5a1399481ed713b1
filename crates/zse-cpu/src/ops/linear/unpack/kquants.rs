//! Unpackers of Q2_K to Q6_K and Q8_K: 256 weights a cell, with integer scales for 16 or 32.

use zse_quant::GgmlType;

use super::{
    Cells, Form, Sink, Tile, Unpack, atop, bits, both, byte_number, byte_numbers, for_each, negate,
    take_bits, wide,
};
use crate::simd::{Simd, array};

/// `weight = d * scale * q - dmin * min`, q of 2 bits, scale and min of 4 bits for 16.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q2K;

/// `weight = d * (scale - 32) * (q - 4)`, q of 3 bits, scale of 6 bits for 16.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q3K;

/// `weight = d * scale * q - dmin * min`, q of 4 bits, scale and min of 6 bits for 32.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q4K;

/// As [`Q4K`], q of 5 bits.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q5K;

/// `weight = d * scale * (q - 32)`, q of 6 bits, scale of 8 bits for 16.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q6K;

/// `weight = d * q`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Q8K;

/// The four bytes of each lane, less `offset`, times `d`, for `N` words.
#[inline(always)]
fn scaled<S: Simd, const N: usize>(s: S, d: S::F, words: [S::I; N], offset: f32) -> [[S::F; 4]; N] {
    let offset = s.splat(offset);
    array!([d; 4]; i => {
        let scales = byte_numbers(s, words[i]);
        array!(d; j => s.mul(d, s.sub(scales[j], offset)))
    })
}

/// The eight scales and addends of Q4_K and Q5_K: d and dmin, then 12 bytes of 6-bit scales and
/// minima. The first four of each stand in the low bits of words 0 and 1; of the last four, the
/// nibbles stand in word 2 and the upper bits atop the first four.
#[inline(always)]
fn scales_and_addends<S: Simd>(cells: Cells<'_, S>) -> [[[S::F; 4]; 2]; 2] {
    let s = cells.s;
    let (d, dmin) = (cells.f16(0), negate(s, cells.f16(2)));
    let (mut first, mut last) = (cells.words(4), cells.words(12));
    let [scales, minima] = take_bits::<6, _, 2>(s, &mut first);
    let upper = take_bits::<2, _, _>(s, &mut first);
    let [low] = take_bits::<4, _, 1>(s, &mut last);
    let [high] = take_bits::<4, _, _>(s, &mut last);
    let [last_scales, last_minima] = atop::<4, _, _>(s, [low, high], upper);
    [
        scaled(s, d, [scales, last_scales], 0.0),
        scaled(s, dmin, [minima, last_minima], 0.0),
    ]
}

impl Unpack for Q2K {
    const FORM: Form = Form::Narrow { offset: 0, bits: 2 };
    const SPLIT: bool = true;
    const MIN: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q2K
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 84);
        let (d, dmin) = (cells.f16(80), negate(s, cells.f16(82)));
        let mut scales = cells.words::<4>(0);
        let w = scaled(s, d, take_bits::<4, _, _>(s, &mut scales), 0.0);
        let m = scaled(s, dmin, take_bits::<4, _, _>(s, &mut scales), 0.0);
        let (w, m) = (pairs(&w), pairs(&m));
        for_each!(G in [0, 1, 2, 3, 4, 5, 6, 7] {
            let q = bits::<2, 0, _, _>(s, cells.words(16 + 32 * (G / 4)), 2 * (G as u32 % 4));
            sink.take(Tile { q, w: w[G], m: m[G] });
        });
    }
}

/// Sixteen numbers two by two.
#[inline(always)]
fn pairs<F>(quads: &[[F; 4]; 4]) -> &[[F; 2]] {
    quads.as_flattened().as_chunks().0
}

impl Unpack for Q3K {
    const FORM: Form = Form::Narrow { offset: 4, bits: 3 };
    const SPLIT: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q3K
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 110);
        let d = cells.f16(108);
        // Scales 0..8 have the low nibbles of two words, 8..16 the high ones; the upper bit pairs
        // of scales 0..4 are the lowest of the third word, those of 4..8 the next.
        let (mut low, mut high) = (cells.words(96), cells.words(104));
        let [a, b] = take_bits::<4, _, _>(s, &mut low);
        let [c, e] = take_bits::<4, _, _>(s, &mut low);
        let upper = array!(a; _ => {
            let [upper] = take_bits::<2, _, _>(s, &mut high);
            upper
        });
        let w = scaled(s, d, atop::<4, _, _>(s, [a, b, c, e], upper), 32.0);
        let w = pairs(&w);

        for_each!(G in [0, 1, 2, 3, 4, 5, 6, 7] {
            let low = bits::<2, 0, _, _>(s, cells.words(32 + 32 * (G / 4)), 2 * (G as u32 % 4));
            let high = bits::<1, 2, _, _>(s, cells.words(0), G as u32);
            sink.take(Tile::split(s, both(s, low, high), w[G]));
        });
    }
}

impl Unpack for Q4K {
    const FORM: Form = Form::Narrow { offset: 0, bits: 4 };
    const MIN: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q4K
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 144);
        let [w, m] = &scales_and_addends(cells);
        let (w, m) = (w.as_flattened(), m.as_flattened());
        for_each!(G in [0, 1, 2, 3, 4, 5, 6, 7] {
            let q = bits::<4, 0, _, _>(s, cells.words(16 + 32 * (G / 2)), 4 * (G as u32 % 2));
            sink.take(Tile::uniform_min(q, w[G], m[G]));
        });
    }
}

impl Unpack for Q5K {
    const FORM: Form = Form::Narrow { offset: 0, bits: 5 };
    const MIN: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q5K
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 176);
        let [w, m] = &scales_and_addends(cells);
        let (w, m) = (w.as_flattened(), m.as_flattened());
        for_each!(G in [0, 1, 2, 3, 4, 5, 6, 7] {
            let low = bits::<4, 0, _, _>(s, cells.words(48 + 32 * (G / 2)), 4 * (G as u32 % 2));
            let fifth = bits::<1, 4, _, _>(s, cells.words(16), G as u32);
            sink.take(Tile::uniform_min(both(s, low, fifth), w[G], m[G]));
        });
    }
}

impl Unpack for Q6K {
    const FORM: Form = Form::Narrow {
        offset: 32,
        bits: 6,
    };
    const SPLIT: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Q6K
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 210);
        let d = cells.f16(208);
        let offset = s.splat(128.0);
        for_each!(G in [0, 1, 2, 3, 4, 5, 6, 7] {
            // Of each half of 128, groups 0 and 1 are the low nibbles, 2 and 3 the high ones of the
            // same bytes.
            let (half, place) = (G / 4, G % 4);
            let low = cells.words(64 * half + 32 * (place % 2));
            let low = bits::<4, 0, _, _>(s, low, 4 * (place as u32 / 2));
            let high = bits::<2, 4, _, _>(s, cells.words(128 + 32 * half), 2 * place as u32);
            // Signed bytes, made unsigned by adding 128.
            let [scales] = cells.words(192 + 4 * (G / 2));
            let scales = s.xor(scales, s.splat_u8(128));
            let w = array!(d; h => {
                let scale = byte_number(s, scales, 2 * (G % 2) + h);
                s.mul(d, s.sub(scale, offset))
            });
            sink.take(Tile::split(s, both(s, low, high), w));
        });
    }
}

impl Unpack for Q8K {
    const FORM: Form = Form::Wide;

    fn ty(self) -> GgmlType {
        GgmlType::Q8K
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 292);
        let [d] = cells.words(0);
        let d = s.from_bits(d);
        for group in 0..8 {
            let q = wide(s, cells.words(4 + 32 * group));
            sink.take(Tile::uniform(s, q, d));
        }
    }
}
