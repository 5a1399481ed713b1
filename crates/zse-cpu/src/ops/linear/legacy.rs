//! Unpackers of Q4_0 and Q8_0.

use zse_quant::GgmlType;

use super::tile::{Form, Sink, Tile, Unpack};
use crate::simd::{LANES, Simd};

/// `weight = d * (nibble - 8)`: 16 scales, then 4 units of nibbles, low ones first.
#[derive(Clone, Copy)]
pub(super) struct Q4_0;

/// `weight = d * q`: 16 scales, then 8 units of signed bytes.
#[derive(Clone, Copy)]
pub(super) struct Q8_0;

/// The 16 f16 scales at the start of a column of cells, and the units of 4 bytes behind them.
#[inline(always)]
fn scale_and_units<S: Simd, const UNITS: usize>(s: S, cells: &[u8]) -> (S::F, [S::I; UNITS]) {
    let (scales, units) = cells
        .split_first_chunk::<{ 2 * LANES }>()
        .expect("16 scales");
    let units = units.as_chunks::<64>().0;
    (
        s.widen_f16(scales),
        std::array::from_fn(|i| s.load_bytes(&units[i])),
    )
}

impl Unpack for Q4_0 {
    const FORM: Form = Form::Narrow(8);
    const SPLIT: bool = false;
    const MIN: bool = false;

    fn ty(self) -> GgmlType {
        GgmlType::Q4_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let (w, units) = scale_and_units::<S, 4>(s, cells);
        let low = s.splat_u8(15);
        let q = std::array::from_fn(|j| match j {
            0..4 => s.and(units[j], low),
            _ => s.and(s.shr::<4>(units[j - 4]), low),
        });
        sink.take(Tile {
            q,
            w: [w; 2],
            m: [s.zero(); 2],
        });
    }
}

impl Unpack for Q8_0 {
    const FORM: Form = Form::Wide;
    const SPLIT: bool = false;
    const MIN: bool = false;

    fn ty(self) -> GgmlType {
        GgmlType::Q8_0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let (w, units) = scale_and_units::<S, 8>(s, cells);
        sink.take(Tile {
            q: units.map(|q| s.wide(q)),
            w: [w; 2],
            m: [s.zero(); 2],
        });
    }
}
