//! Unpackers of TQ1_0 and TQ2_0: weights of -1, 0 and 1.

use zse_quant::GgmlType;

use super::{Cells, Form, Sink, Tile, Unpack, join, take_bits};
use crate::simd::{Simd, array};

/// Five weights to a byte, in base 3.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Tq1_0;

/// Four weights to a byte.
#[derive(Clone, Copy)]
pub(in crate::ops::linear) struct Tq2_0;

/// Takes the first base-3 digit off bytes that are fractions of 256, held in 16 bits each: the
/// even bytes in the first, the odd bytes in the second.
#[inline(always)]
fn take_trit<S: Simd>(s: S, bytes: &mut [S::I; 2]) -> S::I {
    let low = s.splat_i32(0x00ff_00ff);
    let [even, odd] = array!(low; i => s.add_i32(bytes[i], s.shl::<1>(bytes[i])));
    *bytes = [s.and(even, low), s.and(odd, low)];
    // The digit is above the fraction; an odd byte's is in its place already.
    s.or(
        s.and(s.shr::<8>(even), low),
        s.and(odd, s.splat_i32(0x0300_0300)),
    )
}

/// The bytes of words in 16 bits each, for [`take_trit`].
#[inline(always)]
fn fractions<S: Simd, const N: usize>(s: S, words: [S::I; N]) -> [[S::I; 2]; N] {
    let low = s.splat_i32(0x00ff_00ff);
    array!([low; 2]; i => [s.and(words[i], low), s.and(s.shr::<8>(words[i]), low)])
}

impl Unpack for Tq1_0 {
    const FORM: Form = Form::Narrow { offset: 1, bits: 2 };

    fn ty(self) -> GgmlType {
        GgmlType::Tq1_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 54);
        let d = cells.f16(52);
        // 32 bytes of five groups, 16 bytes of five halves, 4 bytes of four times 4 weights.
        let zero = s.splat_i32(0);
        let mut bytes = fractions::<_, 8>(s, cells.words(0));
        for _ in 0..5 {
            let q = array!(zero; i => take_trit(s, &mut bytes[i]));
            sink.take(Tile::uniform(s, q, d));
        }
        let mut bytes = fractions::<_, 4>(s, cells.words(32));
        let halves = array!([zero; 4]; _ => array!(zero; i => take_trit(s, &mut bytes[i])));
        let [mut rest] = fractions(s, cells.words(48));
        let last = array!(zero; _ => take_trit(s, &mut rest));
        let [a, b, c, e, f] = halves;
        for (low, high) in [(a, b), (c, e), (f, last)] {
            sink.take(Tile::uniform(s, join(low, high), d));
        }
    }
}

impl Unpack for Tq2_0 {
    const FORM: Form = Form::Narrow { offset: 1, bits: 2 };

    fn ty(self) -> GgmlType {
        GgmlType::Tq2_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let cells = Cells::new(s, cells, 66);
        let d = cells.f16(64);
        for half in 0..2 {
            let mut words = cells.words(32 * half);
            for _ in 0..4 {
                let q = take_bits::<2, _, _>(s, &mut words);
                sink.take(Tile::uniform(s, q, d));
            }
        }
    }
}
