//! Unpackers of IQ2_XXS, IQ2_XS and IQ2_S: eight weights to a grid index, and signs.

use zse_quant::GgmlType;

use super::grids::{IQ2S, IQ2XS, IQ2XXS, OFFSET, eights, even_signs, flatten, with_signs};
use super::{Cells, Form, Sink, Tile, Unpack};
use crate::simd::{Simd, array};

/// `weight = d * (scale + 1/2) / 4 * ± grid`, scale of 4 bits for 32.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq2Xxs;

/// As [`Iq2Xxs`], scale of 4 bits for 16.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq2Xs;

/// As [`Iq2Xs`], with all eight signs.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq2S;

/// `d * (scale + 1/2) / 4`, scale in the low 4 bits of each lane.
#[inline(always)]
fn scaled<S: Simd>(s: S, d: S::F, scale: S::I) -> S::F {
    let scale = s.to_f32(s.and(scale, s.splat_i32(15)));
    s.mul(s.mul(d, s.add(scale, s.splat(0.5))), s.splat(0.25))
}

impl Unpack for Iq2Xxs {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 7,
    };

    fn ty(self) -> GgmlType {
        GgmlType::Iq2Xxs
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 66);
        let d = cells.f16(0);
        for group in 0..8 {
            // Four indices of 8 bits; four times 7 signs and the scale.
            let [mut index, mut signs] = cells.words(2 + 8 * group);
            let w = scaled(s, d, s.shr::<28>(signs));
            let q = array!([index; 2]; _ => {
                let weights = eights(s, &IQ2XXS, index);
                let weights = with_signs(s, weights, even_signs(s, signs));
                (index, signs) = (s.shr::<8>(index), s.shr::<7>(signs));
                weights
            });
            sink.take(Tile::uniform(s, flatten(q), w));
        }
    }
}

impl Unpack for Iq2Xs {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 7,
    };
    const SPLIT: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Iq2Xs
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 74);
        let d = cells.f16(0);
        for quad in 0..2 {
            let [mut scales] = cells.words(66 + 4 * quad);
            for group in 4 * quad..4 * quad + 4 {
                // Four times 9 bits of index and 7 signs.
                let words = cells.words::<2>(2 + 8 * group);
                let q = array!([scales; 2]; l => {
                    let word = words[l / 2];
                    let word = if l % 2 == 0 { word } else { s.shr::<16>(word) };
                    let weights = eights(s, &IQ2XS, word);
                    with_signs(s, weights, even_signs(s, s.shr::<9>(word)))
                });
                let w = [scaled(s, d, scales), scaled(s, d, s.shr::<4>(scales))];
                scales = s.shr::<8>(scales);
                sink.take(Tile::split(s, flatten(q), w));
            }
        }
    }
}

impl Unpack for Iq2S {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 7,
    };
    const SPLIT: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Iq2S
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 82);
        let d = cells.f16(0);
        for quad in 0..2 {
            let [mut high] = cells.words(66 + 4 * quad);
            let [mut scales] = cells.words(74 + 4 * quad);
            for group in 4 * quad..4 * quad + 4 {
                let [mut low] = cells.words(2 + 4 * group);
                let [mut signs] = cells.words(34 + 4 * group);
                let q = array!([low; 2]; _ => {
                    let upper = s.shl::<8>(s.and(high, s.splat_i32(3)));
                    let index = s.or(s.and(low, s.splat_i32(255)), upper);
                    let weights = with_signs(s, eights(s, &IQ2S, index), signs);
                    (low, high) = (s.shr::<8>(low), s.shr::<2>(high));
                    signs = s.shr::<8>(signs);
                    weights
                });
                let w = [scaled(s, d, scales), scaled(s, d, s.shr::<4>(scales))];
                scales = s.shr::<8>(scales);
                sink.take(Tile::split(s, flatten(q), w));
            }
        }
    }
}
