//! Unpacks any quantized type by the contract's own scalar code: slow and right.

use zse_quant::GgmlType;
use zse_quant::contract::{GROUP, unpack32};
use zse_quant::pack::{TILE_ROWS, cell_bytes, cell_len, gather_cell};

use super::tile::{Form, Sink, Tile, Unpack};
use crate::simd::{LANES, Simd, array};

/// Bytes of the largest cell, Q8_K's.
const MAX_CELL_BYTES: usize = 292;

/// The unpacker of types that have none of their own.
#[derive(Clone, Copy)]
pub(crate) struct Generic<const SPLIT: bool, const MIN: bool>(pub(crate) GgmlType);

/// 16 rows by 32 k as bytes and numbers, before they become vectors.
struct Plain {
    q: [[u8; 64]; 8],
    w: [[f32; LANES]; 2],
    m: [[f32; LANES]; 2],
}

impl<const SPLIT: bool, const MIN: bool> Generic<SPLIT, MIN> {
    /// Weights `32 * group ..` of the cells of 16 rows.
    #[inline(never)]
    fn group(self, cells: &[[u8; MAX_CELL_BYTES]; TILE_ROWS], group: usize) -> Plain {
        let mut plain = Plain {
            q: [[0; 64]; 8],
            w: [[0.0; LANES]; 2],
            m: [[0.0; LANES]; 2],
        };
        let bytes = cell_bytes(self.0);
        for (row, cell) in cells.iter().enumerate() {
            let block = unpack32(self.0, &cell[..bytes], group)
                .expect("a cell has all its groups, and only quantized types come here");
            for (k, q) in block.q.into_iter().enumerate() {
                plain.q[k / 4][4 * row + k % 4] = q as u8;
            }
            for h in 0..2 {
                plain.w[h][row] = block.w[h];
                plain.m[h][row] = block.m[h];
            }
        }
        plain
    }
}

impl<const SPLIT: bool, const MIN: bool> Unpack for Generic<SPLIT, MIN> {
    const FORM: Form = Form::Wide;
    const SPLIT: bool = SPLIT;
    const MIN: bool = MIN;

    fn ty(self) -> GgmlType {
        self.0
    }

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>) {
        let mut rows = [[0; MAX_CELL_BYTES]; TILE_ROWS];
        for (row, cell) in rows.iter_mut().enumerate() {
            gather_cell(self.0, cells, row, 0, &mut cell[..cell_bytes(self.0)])
                .expect("a column of cells has 16 rows");
        }
        for group in 0..cell_len(self.0) / GROUP {
            let plain = self.group(&rows, group);
            sink.take(Tile {
                q: array!(s.splat_i32(0); j => s.wide(s.load_bytes(&plain.q[j]))),
                w: [s.load(&plain.w[0]), s.load(&plain.w[1])],
                m: [s.load(&plain.m[0]), s.load(&plain.m[1])],
            });
        }
    }
}
