//! The weights that a program names, as views into its checkpoint.

use std::sync::Arc;

use zse_format::{Checkpoint, FileBytes, TensorBytes, TensorData};
use zse_quant::pack::{TILE_ROWS, tile_bytes};
use zse_quant::{GgmlType, QuantError};

use crate::error::ModelError;
use crate::program::{Program, Tensor, TensorId};

/// A weight in place: `experts` matrices `[rows, cols]` of type `ty`, row after row.
#[derive(Clone, Copy, Debug)]
pub struct WeightView<'a> {
    /// Name in the checkpoint.
    pub name: &'a str,
    /// How its numbers are stored.
    pub ty: GgmlType,
    /// Rows of one matrix.
    pub rows: usize,
    /// Numbers in a row.
    pub cols: usize,
    /// Matrices behind one another.
    pub experts: usize,
    /// The blocks of all rows, `experts * rows * row_bytes()` bytes.
    pub data: TensorData<'a>,
}

impl<'a> WeightView<'a> {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.data.len() / (self.rows * self.experts)
    }

    /// The blocks of row `row` of matrix `expert`.
    pub fn row(&self, expert: usize, row: usize) -> TensorBytes<'a> {
        let bytes = self.row_bytes();
        let start = (expert * self.rows + row) * bytes;
        self.data.slice(start..start + bytes).bytes()
    }

    /// All numbers as f32, row after row.
    ///
    /// # Errors
    /// If the type cannot be decoded.
    pub fn to_f32(&self) -> Result<Vec<f32>, QuantError> {
        let mut out = vec![0.0; self.experts * self.rows * self.cols];
        zse_quant::decode(self.ty, &self.data.bytes(), &mut out)?;
        Ok(out)
    }
}

/// A program's weights: its tensors, checked once, found by [`TensorId`].
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    tensors: Vec<Tensor>,
}

impl Weights {
    /// The weights of `program` in `checkpoint`.
    ///
    /// # Errors
    /// If a tensor is missing or misshapen.
    pub fn new(checkpoint: Arc<Checkpoint>, program: &Program) -> Result<Self, ModelError> {
        for tensor in &program.tensors {
            let stored = checkpoint
                .tensor(&tensor.name)
                .and_then(|view| view.shape.get(1).copied());
            check_tensor(&checkpoint, tensor, stored.map_or(1, |rows| rows as usize))?;
        }
        Ok(Self {
            checkpoint,
            tensors: program.tensors.clone(),
        })
    }

    /// The checkpoint behind them.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// Bytes of the checkpoint that are in memory while an executor reads `in_place` bytes of it as
    /// they are: just these where it is a map of a file, else all of it (the built-in model is part
    /// of the program).
    pub fn mapped_bytes(&self, in_place: u64) -> u64 {
        match self.checkpoint.is_mapped() {
            true => in_place,
            false => self.checkpoint.file_bytes(),
        }
    }

    /// Whether `id` begins and ends with a tile of [`zse_quant::pack`] where its tensor is packed:
    /// it is all rows of the tensor, or a part that ends where a tile does.
    pub fn is_whole_tiles(&self, id: TensorId) -> bool {
        let t = &self.tensors[id.index()];
        let ends = |row: usize| row.is_multiple_of(TILE_ROWS) || row == self.stored_rows(t);
        t.first_row.is_multiple_of(TILE_ROWS) && ends(t.first_row + t.rows)
    }

    /// The tiles of `id`, matrix after matrix, where the file has its tensor packed and these are
    /// [whole](Self::is_whole_tiles).
    pub fn tiles(&self, id: TensorId) -> Option<FileBytes> {
        let t = &self.tensors[id.index()];
        let packed = self.checkpoint.tiles(&t.name)?;
        let tile = tile_bytes(self.get(id).ty, t.cols).ok()?;
        let start = t.first_row / TILE_ROWS * tile;
        let len = t.experts * t.rows.div_ceil(TILE_ROWS) * tile;
        self.is_whole_tiles(id)
            .then(|| packed.slice(start..start + len))
    }

    /// Rows of a matrix of the tensor in the file.
    fn stored_rows(&self, tensor: &Tensor) -> usize {
        let view = self.checkpoint.tensor(&tensor.name);
        let rows = view.and_then(|view| view.shape.get(1).copied());
        rows.map_or(1, |rows| rows as usize)
    }

    /// Lets go of the memory behind `id`, pages of the file or bytes made of them, for who has
    /// copied it.
    pub fn release(&self, id: TensorId) {
        if let Some(tensor) = self.checkpoint.tensor(&self.tensors[id.index()].name) {
            self.checkpoint.release_pages(&tensor);
        }
    }

    /// The weight behind `id`.
    pub fn get(&self, id: TensorId) -> WeightView<'_> {
        let t = &self.tensors[id.index()];
        let view = self
            .checkpoint
            .tensor(&t.name)
            .expect("checked by Weights::new");
        let row_bytes = view.ty.row_bytes(t.cols).expect("checked by Weights::new");
        let start = t.first_row * row_bytes;
        WeightView {
            name: view.name,
            ty: view.ty,
            rows: t.rows,
            cols: t.cols,
            experts: t.experts,
            data: view
                .data
                .slice(start..start + t.experts * t.rows * row_bytes),
        }
    }
}

/// Checks that `checkpoint` has `tensor`, of a type that can be used, as a part or the whole of
/// matrices that have `stored_rows` rows in the file.
pub(crate) fn check_tensor(
    checkpoint: &Checkpoint,
    tensor: &Tensor,
    stored_rows: usize,
) -> Result<(), ModelError> {
    let Tensor {
        name,
        first_row,
        rows,
        cols,
        experts,
    } = tensor;
    let view = checkpoint
        .tensor(name)
        .ok_or_else(|| ModelError::MissingTensor { name: name.clone() })?;
    if !view.ty.is_weight() {
        return Err(ModelError::TensorType {
            name: name.clone(),
            ty: view.ty.name(),
        });
    }
    let dim = |i: usize| view.shape.get(i).map_or(1, |&d| d as usize);
    let whole = *first_row == 0 && *rows == stored_rows;
    let part = *experts == 1 && *rows > 0 && first_row + rows <= stored_rows;
    let extra = view.shape.iter().skip(3).any(|&d| d != 1);
    if dim(0) != *cols || dim(1) != stored_rows || dim(2) != *experts || !(whole || part) || extra {
        return Err(ModelError::TensorShape {
            name: name.clone(),
            got: format!("{:?}", view.shape),
            expected: if *experts > 1 {
                format!("[{cols}, {stored_rows}, {experts}]")
            } else if stored_rows > 1 {
                format!("[{cols}, {stored_rows}]")
            } else {
                format!("[{cols}]")
            },
        });
    }
    Ok(())
}
