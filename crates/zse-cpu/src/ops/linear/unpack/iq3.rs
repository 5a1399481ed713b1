//! Unpackers of IQ3_XXS and IQ3_S: four weights to a grid index, and signs.

use zse_quant::GgmlType;

use super::grids::{IQ3S, IQ3XXS, OFFSET, even_signs, with_signs};
use super::{Cells, Form, Sink, Tile, Unpack};
use crate::simd::{Simd, array};

/// `weight = d * (scale + 1/2) / 2 * ± grid`, scale of 4 bits for 32.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq3Xxs;

/// `weight = d * (2 scale + 1) * ± grid`, scale of 4 bits for 32.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq3S;

impl Unpack for Iq3Xxs {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 7,
    };

    fn ty(self) -> GgmlType {
        GgmlType::Iq3Xxs
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 98);
        let d = cells.f16(0);
        for group in 0..8 {
            let mut index = cells.words::<2>(2 + 8 * group);
            // Four times 7 signs, and the scale.
            let [mut signs] = cells.words(66 + 4 * group);
            let scale = s.add(s.to_f32(s.shr::<28>(signs)), s.splat(0.5));
            let w = s.mul(s.mul(d, scale), s.splat(0.5));
            let mut q = [signs; 8];
            for l in 0..4 {
                let weights = array!(signs; _ => {
                    let weights = s.lookup(&IQ3XXS, index[l / 2]);
                    index[l / 2] = s.shr::<8>(index[l / 2]);
                    weights
                });
                [q[2 * l], q[2 * l + 1]] = with_signs(s, weights, even_signs(s, signs));
                signs = s.shr::<7>(signs);
            }
            sink.take(Tile::uniform(s, q, w));
        }
    }
}

impl Unpack for Iq3S {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 7,
    };

    fn ty(self) -> GgmlType {
        GgmlType::Iq3S
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 110);
        let d = cells.f16(0);
        let [mut scales] = cells.words(106);
        for quad in 0..2 {
            // The ninth bits of eight indices for each 32.
            let [mut high] = cells.words(66 + 4 * quad);
            for group in 4 * quad..4 * quad + 4 {
                let mut low = cells.words::<2>(2 + 8 * group);
                let [mut signs] = cells.words(74 + 4 * group);
                let mut q = [signs; 8];
                for l in 0..4 {
                    let weights = array!(signs; _ => {
                        let upper = s.shl::<8>(s.and(high, s.splat_i32(1)));
                        let index = s.or(s.and(low[l / 2], s.splat_i32(255)), upper);
                        low[l / 2] = s.shr::<8>(low[l / 2]);
                        high = s.shr::<1>(high);
                        s.lookup(&IQ3S, index)
                    });
                    [q[2 * l], q[2 * l + 1]] = with_signs(s, weights, signs);
                    signs = s.shr::<8>(signs);
                }
                let scale = s.to_f32(s.and(scales, s.splat_i32(15)));
                scales = s.shr::<4>(scales);
                let odd = s.fma(scale, s.splat(2.0), s.splat(1.0));
                sink.take(Tile::uniform(s, q, s.mul(d, odd)));
            }
        }
    }
}
