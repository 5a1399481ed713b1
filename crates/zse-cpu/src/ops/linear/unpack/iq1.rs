//! Unpackers of IQ1_S and IQ1_M: eight weights to an index of a ternary grid, and a shift.

use zse_quant::GgmlType;

use super::grids::{IQ1_OFFSET, IQ1_PLUS, IQ1S, eights, flatten};
use super::{Cells, Form, Sink, Tile, Unpack};
use crate::simd::{Simd, array};

/// `weight = d * (2 scale + 1) / 8 * (8 grid ± 1)`, scale of 3 bits and shift for 32.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq1S;

/// As [`Iq1S`], scale of 3 bits for 16, shift for 8.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Iq1M;

/// `d * (2 scale + 1) / 8`, scale in the low 3 bits of each lane.
#[inline(always)]
fn scaled<S: Simd>(s: S, d: S::F, scale: S::I) -> S::F {
    let scale = s.to_f32(s.and(scale, s.splat_i32(7)));
    let odd = s.fma(scale, s.splat(2.0), s.splat(1.0));
    s.mul(s.mul(d, odd), s.splat(0.125))
}

/// Eight weights: index bits 0 to 7 are the low byte of `low`, 8 to 10 the low bits of `high`;
/// the lowest bit of `minus` says whether the shift is downwards.
#[inline(always)]
fn eight<S: Simd>(s: S, low: S::I, high: S::I, minus: S::I) -> [S::I; 2] {
    let upper = s.shl::<8>(s.and(high, s.splat_i32(7)));
    let index = s.or(s.and(low, s.splat_i32(255)), upper);
    let one = s.splat_i32(1);
    let up = s.xor(s.and(minus, one), one);
    let up = s.mul_i32(up, s.splat_u8(IQ1_PLUS));
    let weights = eights(s, &IQ1S, index);
    [s.or(weights[0], up), s.or(weights[1], up)]
}

impl Unpack for Iq1S {
    const FORM: Form = Form::Narrow {
        offset: IQ1_OFFSET,
        bits: 5,
    };

    fn ty(self) -> GgmlType {
        GgmlType::Iq1S
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 50);
        let d = cells.f16(0);
        for group in 0..8 {
            let [mut low] = cells.words(2 + 4 * group);
            // Four times 3 index bits, 3 scale bits, the sign of the shift.
            let mut high = cells.u16(34 + 2 * group);
            let (w, minus) = (scaled(s, d, s.shr::<12>(high)), s.shr::<15>(high));
            let q = array!([low; 2]; _ => {
                let weights = eight(s, low, high, minus);
                (low, high) = (s.shr::<8>(low), s.shr::<3>(high));
                weights
            });
            sink.take(Tile::uniform(s, flatten(q), w));
        }
    }
}

impl Unpack for Iq1M {
    const FORM: Form = Form::Narrow {
        offset: IQ1_OFFSET,
        bits: 5,
    };
    const SPLIT: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Iq1M
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 56);
        // Four times 12 bits of scales and, above them, 4 bits of d.
        let d: [S::I; 4] = array!(s.splat_i32(0); i => s.shr::<12>(cells.u16(48 + 2 * i)));
        let low = s.or(d[0], s.shl::<4>(d[1]));
        let d = s.f16_of_low(s.or(low, s.or(s.shl::<8>(d[2]), s.shl::<12>(d[3]))));
        for pair in 0..4 {
            let mut scales = cells.u16(48 + 2 * pair);
            for group in 2 * pair..2 * pair + 2 {
                let [mut low] = cells.words(4 * group);
                // Four times 3 index bits and the sign of the shift.
                let mut high = cells.u16(32 + 2 * group);
                let q = array!([low; 2]; _ => {
                    let weights = eight(s, low, high, s.shr::<3>(high));
                    (low, high) = (s.shr::<8>(low), s.shr::<4>(high));
                    weights
                });
                let w = array!(d; _ => {
                    let w = scaled(s, d, scales);
                    scales = s.shr::<3>(scales);
                    w
                });
                sink.take(Tile::split(s, flatten(q), w));
            }
        }
    }
}
