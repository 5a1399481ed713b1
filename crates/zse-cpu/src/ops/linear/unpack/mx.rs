//! Unpackers of MXFP4 and NVFP4: 4-bit floats through a table of twice their values.

use zse_quant::GgmlType;

use super::{Cells, Form, Sink, Tile, Unpack, join, lookup, nibbles, take_bits};
use crate::simd::{Simd, array};

/// `weight = 2^(e - 127) * E2M1`.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Mxfp4;

/// `weight = d * E2M1`, d for 16.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Nvfp4;

/// What is added to the table's values.
const OFFSET: i32 = 12;

/// Twice the value of each E2M1 code, plus [`OFFSET`].
const VALUES: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

impl Unpack for Mxfp4 {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 5,
    };

    fn ty(self) -> GgmlType {
        GgmlType::Mxfp4
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 17);
        let e = cells.u8(0);
        // Half of 2^(e - 127): (e - 1) as the exponent of a float, or the subnormal 2^(e - 128).
        // The second is the greater below 2 and right there.
        let normal = s.shl::<23>(s.add_i32(e, s.splat_i32(-1)));
        let subnormal = s.shl::<21>(s.add_i32(e, s.splat_i32(1)));
        let w = s.from_bits(s.max_i32(normal, subnormal));
        let q = lookup(s, &VALUES, nibbles(s, cells.words(1)));
        sink.take(Tile::uniform(s, q, w));
    }
}

impl Unpack for Nvfp4 {
    const FORM: Form = Form::Narrow {
        offset: OFFSET,
        bits: 5,
    };
    const SPLIT: bool = true;

    fn ty(self) -> GgmlType {
        GgmlType::Nvfp4
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 36);
        let [mut scales] = cells.words(0);
        for group in 0..2 {
            let w = array!(s.zero(); _ => {
                let scale = half_of_e4m3(s, scales);
                scales = s.shr::<8>(scales);
                scale
            });
            // Each 16 weights are 8 bytes: low nibbles, then high ones.
            let mut codes = cells.words::<4>(4 + 16 * group);
            let [a, b, e, f] = take_bits::<4, _, _>(s, &mut codes);
            let [c, d, g, h] = take_bits::<4, _, _>(s, &mut codes);
            let q = join([a, b, c, d], [e, f, g, h]);
            sink.take(Tile::split(s, lookup(s, &VALUES, q), w));
        }
    }
}

/// Half of the unsigned E4M3 number in the low byte of each lane. The top bit is ignored, except
/// that only 0x7f is the code of NaN, which counts as 0.
#[inline(always)]
fn half_of_e4m3<S: Simd>(s: S, lanes: S::I) -> S::F {
    // As an f16 its exponent counts from 15, not from 8; its subnormals are subnormal too.
    let half = s.f16_of_low(s.shl::<7>(s.and(lanes, s.splat_i32(0x7f))));
    let value = s.mul(half, s.splat(128.0));
    let from_nan = s.to_f32(s.xor(s.and(lanes, s.splat_i32(0xff)), s.splat_i32(0x7f)));
    s.select_lt(from_nan, s.splat(1.0), s.zero(), value)
}
