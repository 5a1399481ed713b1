//! Weights as the kernels read them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use zse_model::executor::LoadError;
use zse_model::program::TensorId;
use zse_model::{FileBytes, LoraMatrix, Model, WeightView};
use zse_quant::pack::{TILE_ROWS, gather_row, pack_rows, packed_bytes, tile_bytes};
use zse_quant::{GgmlType, QuantError};

use crate::pages::Pages;
use crate::par::for_parts;
use crate::pool::Step;

/// A stack of matrices, `experts` x `[rows, cols]`, in tiles of 16 rows.
pub(crate) struct Matrix {
    ty: GgmlType,
    rows: usize,
    cols: usize,
    experts: usize,
    tile_bytes: usize,
    source: Source,
}

/// Where a matrix is.
enum Source {
    /// Packed. Vectors of 64 bytes lie in one cache line, as memory starts at a page.
    Packed(Pages),
    /// In the model's file, packed.
    Mapped(FileBytes),
    /// In the model's file, as it is there; tiles are packed as they are needed.
    InPlace(Arc<Model>, TensorId),
}

impl Matrix {
    /// Packs tensor `id` of `model`, and lets go of the file's pages behind it.
    pub(crate) fn pack(model: &Model, id: TensorId, step: &Step<'_>) -> Result<Self, LoadError> {
        let view = model.weights.get(id);
        let tile_bytes = tile_bytes(view.ty, view.cols).map_err(LoadError::weight(view.name))?;
        let len = packed_len(&view)?;
        let mut packed = Pages::zeroed(len).map_err(|_| LoadError::OutOfMemory {
            what: "weights",
            needed: len as u64,
            available: None,
        })?;
        let tiles_of_expert = view.rows.div_ceil(TILE_ROWS);
        let bytes = view.data.bytes();
        for_parts(step, &mut packed, tile_bytes, |first, part| {
            let tile = first / tile_bytes;
            let (expert, tile) = (tile / tiles_of_expert, tile % tiles_of_expert);
            pack_tile(&view, &bytes, expert, tile, part);
        });
        drop(bytes);
        model.weights.release(id);
        Ok(Self::new(&view, tile_bytes, Source::Packed(packed)))
    }

    /// Packs matrices of an adapter, all of one type and shape, as a stack.
    ///
    /// # Errors
    /// If the system does not give the memory.
    pub(crate) fn of_stack(matrices: &[LoraMatrix], step: &Step<'_>) -> io::Result<Self> {
        let LoraMatrix { ty, rows, cols, .. } = matrices[0];
        let tile_bytes = tile_bytes(ty, cols).expect("floats are packed in any number");
        let row_bytes = matrices[0].data.len() / rows;
        let tiles = rows.div_ceil(TILE_ROWS);
        let mut packed = Pages::zeroed(matrices.len() * tiles * tile_bytes)?;
        for_parts(step, &mut packed, tile_bytes, |first, part| {
            let tile = first / tile_bytes;
            let (data, first) = (&matrices[tile / tiles].data, tile % tiles * TILE_ROWS);
            let n = TILE_ROWS.min(rows - first);
            let bytes = &data[first * row_bytes..][..n * row_bytes];
            pack_rows(ty, n, cols, bytes, part).expect("the sizes follow from one shape");
        });
        Ok(Self {
            ty,
            rows,
            cols,
            experts: matrices.len(),
            tile_bytes,
            source: Source::Packed(packed),
        })
    }

    /// Reads tensor `id` of `model` from its file, which holds these `tiles` of it.
    pub(crate) fn mapped(model: &Model, id: TensorId, tiles: FileBytes) -> Result<Self, LoadError> {
        let view = model.weights.get(id);
        let tile_bytes = tile_bytes(view.ty, view.cols).map_err(LoadError::weight(view.name))?;
        Ok(Self::new(&view, tile_bytes, Source::Mapped(tiles)))
    }

    /// Leaves tensor `id` of `model` where it is.
    pub(crate) fn in_place(model: &Arc<Model>, id: TensorId) -> Result<Self, LoadError> {
        let view = model.weights.get(id);
        let tile_bytes = tile_bytes(view.ty, view.cols).map_err(LoadError::weight(view.name))?;
        Ok(Self::new(
            &view,
            tile_bytes,
            Source::InPlace(Arc::clone(model), id),
        ))
    }

    fn new(view: &WeightView<'_>, tile_bytes: usize, source: Source) -> Self {
        let WeightView {
            ty,
            rows,
            cols,
            experts,
            ..
        } = *view;
        Self {
            ty,
            rows,
            cols,
            experts,
            tile_bytes,
            source,
        }
    }

    pub(crate) fn ty(&self) -> GgmlType {
        self.ty
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn experts(&self) -> usize {
        self.experts
    }

    /// Tiles `tiles` of matrix `expert`, one after the other; packed into `scratch` if they are
    /// not yet.
    #[inline]
    pub(crate) fn tiles<'a>(
        &'a self,
        expert: usize,
        tiles: Range<usize>,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        let len = tiles.len() * self.tile_bytes;
        let of = |data: &'a [u8]| {
            let first = expert * self.rows.div_ceil(TILE_ROWS) + tiles.start;
            &data[first * self.tile_bytes..][..len]
        };
        match &self.source {
            Source::Packed(data) => of(data),
            Source::Mapped(data) => of(data),
            Source::InPlace(model, id) => {
                let view = model.weights.get(*id);
                let bytes = view.data.bytes();
                scratch.resize(len, 0);
                for (tile, packed) in tiles.zip(scratch.chunks_exact_mut(self.tile_bytes)) {
                    pack_tile(&view, &bytes, expert, tile, packed);
                }
                scratch
            }
        }
    }

    /// Decodes row `row` of the first matrix to `to`, `[cols]`.
    ///
    /// # Errors
    /// If the type cannot be decoded.
    pub(crate) fn decode_row(&self, row: usize, to: &mut [f32]) -> Result<(), QuantError> {
        match &self.source {
            Source::Packed(_) | Source::Mapped(_) => {
                let mut bytes = vec![0; self.ty.row_bytes(self.cols).unwrap_or(0)];
                let mut unused = Vec::new();
                let tile = row / TILE_ROWS;
                let tile = self.tiles(0, tile..tile + 1, &mut unused);
                gather_row(self.ty, tile, row % TILE_ROWS, &mut bytes)?;
                zse_quant::decode(self.ty, &bytes, to)
            }
            Source::InPlace(model, id) => {
                zse_quant::decode(self.ty, &model.weights.get(*id).row(0, row), to)
            }
        }
    }

    /// Bytes held, and bytes read from the file in place.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        match &self.source {
            Source::Packed(data) => (data.len() as u64, 0),
            Source::Mapped(data) => (0, data.len() as u64),
            Source::InPlace(model, id) => (0, model.weights.get(*id).data.len() as u64),
        }
    }
}

/// Packs the rows of tile `tile` of matrix `expert`; `bytes` are those of `view`.
///
/// # Panics
/// If the rows do not fill `packed`: the sizes of both come from one view, whose shape its program
/// was checked against, and whose type [`tile_bytes`] took.
fn pack_tile(view: &WeightView<'_>, bytes: &[u8], expert: usize, tile: usize, packed: &mut [u8]) {
    let rows = TILE_ROWS.min(view.rows - tile * TILE_ROWS);
    let from = (expert * view.rows + tile * TILE_ROWS) * view.row_bytes();
    let bytes = &bytes[from..][..rows * view.row_bytes()];
    pack_rows(view.ty, rows, view.cols, bytes, packed).expect("the shapes of a checked weight fit");
}

/// Bytes that [`Matrix::pack`] makes of `view`.
///
/// # Errors
/// If its type cannot be packed, or on overflow.
pub(crate) fn packed_len(view: &WeightView<'_>) -> Result<usize, LoadError> {
    let WeightView { ty, rows, cols, .. } = *view;
    packed_bytes(ty, rows, cols)
        .and_then(|bytes| {
            let all = bytes.checked_mul(view.experts);
            all.ok_or(QuantError::Cols { ty, cols })
        })
        .map_err(LoadError::weight(view.name))
}

#[cfg(test)]
mod tests {
    use zse_model::conformance::{DecoderSpec, decoder};

    use super::*;
    use crate::pool::Pool;

    #[test]
    fn weights_in_place_give_the_tiles_and_rows_of_packed_ones() {
        for &ty in GgmlType::WEIGHTS {
            let spec = DecoderSpec {
                layers: 1,
                vocab: 37,
                ..DecoderSpec::small(ty)
            };
            let model = decoder(&spec, 1).expect("the suite builds its models");
            let tensors = &model.program.tensors;
            let output = tensors.iter().position(|t| t.name == "output.weight");
            let id = TensorId(output.expect("a decoder has an output matrix") as u32);
            let packed = Matrix::pack(&model, id, &Pool::global().step(2)).expect("a good tensor");
            let in_place = Matrix::in_place(&model, id).expect("a good tensor");
            let (mut unused, mut scratch) = (Vec::new(), Vec::new());
            let n = spec.vocab.div_ceil(TILE_ROWS);
            for tiles in [0..1, 1..n, n - 1..n] {
                let expected = packed.tiles(0, tiles.clone(), &mut unused);
                assert_eq!(
                    in_place.tiles(0, tiles.clone(), &mut scratch),
                    expected,
                    "{ty} tiles {tiles:?}"
                );
            }
            let (mut a, mut b) = (vec![0.0; spec.width], vec![0.0; spec.width]);
            for row in [0, 15, 16, spec.vocab - 1] {
                packed.decode_row(row, &mut a).expect("a good row");
                in_place.decode_row(row, &mut b).expect("a good row");
                assert_eq!(a, b, "{ty} row {row}");
            }
        }
    }
}
