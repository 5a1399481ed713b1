//! How a tensor's bytes are ordered in a file: as ggml orders them, or as kernels read them.

use std::fmt;

use zse_quant::GgmlType;
use zse_quant::pack::{self, TILE_ROWS};

use crate::Problem;

/// The order of a tensor's bytes in its file. Every layout is a permutation of the bytes of
/// [`Rows`](Self::Rows), with padding: changing it loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row after row, the blocks of each in order: what GGUF files hold.
    #[default]
    Rows,
    /// The tiles of [`zse_quant::pack`], 16 rows each; of several matrices (experts), each begins
    /// a tile.
    Tiles16,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rows, Self::Tiles16];

    /// The layout's name in a `.zse` file.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Rows => "ggml",
            Self::Tiles16 => "tiles16",
        }
    }

    /// The layout of this name.
    pub fn from_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.tag() == tag)
    }

    /// Rows that are stored together: a matrix can be cut at multiples of it.
    pub const fn step(self) -> usize {
        match self {
            Self::Rows => 1,
            Self::Tiles16 => TILE_ROWS,
        }
    }

    /// Bytes of `rows` rows of `cols` values of one matrix; `None` if `cols` is no whole number of
    /// blocks, the layout cannot hold the type, or on overflow.
    pub fn matrix_bytes(self, ty: GgmlType, rows: usize, cols: usize) -> Option<usize> {
        match self {
            Self::Rows => ty.row_bytes(cols)?.checked_mul(rows),
            Self::Tiles16 => pack::packed_bytes(ty, rows, cols).ok(),
        }
    }

    /// Bytes of a tensor of this shape (fastest dimension first).
    pub(crate) fn tensor_bytes(self, ty: GgmlType, shape: &[u64]) -> Result<usize, Problem> {
        let block_len = ty.block_len() as u64;
        let cols = shape.first().copied().unwrap_or(1);
        if !cols.is_multiple_of(block_len) {
            return Err(Problem::PartialBlock {
                cols,
                ty: ty.name(),
                block_len,
            });
        }
        if self != Self::Rows && !ty.is_weight() {
            return Err(Problem::Layout {
                ty: ty.name(),
                layout: self.tag(),
            });
        }
        let size = |dim: u64| usize::try_from(dim).ok();
        let rows = shape.get(1).copied().unwrap_or(1);
        let matrix = size(cols)
            .zip(size(rows))
            .and_then(|(cols, rows)| self.matrix_bytes(ty, rows, cols));
        shape
            .iter()
            .skip(2)
            .try_fold(matrix.ok_or(Problem::Overflow)?, |bytes, &dim| {
                bytes.checked_mul(size(dim)?)
            })
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or(Problem::Overflow)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_padding_once_a_matrix() {
        let ty = GgmlType::Q8_0;
        let bytes = |layout: Layout, shape: &[u64]| layout.tensor_bytes(ty, shape);
        assert_eq!(bytes(Layout::Rows, &[64, 17, 3]), Ok(68 * 17 * 3));
        assert_eq!(bytes(Layout::Tiles16, &[64, 17, 3]), Ok(68 * 32 * 3));
        assert_eq!(bytes(Layout::Tiles16, &[64]), Ok(68 * 16));
        for layout in Layout::ALL {
            assert_eq!(Layout::from_tag(layout.tag()), Some(layout));
            let partial = bytes(layout, &[33, 2]);
            assert!(matches!(partial, Err(Problem::PartialBlock { .. })));
            let huge = bytes(layout, &[1 << 40, 1 << 20, 1 << 20]);
            assert_eq!(huge, Err(Problem::Overflow));
        }
        assert_eq!(Layout::from_tag("tiles"), None);
        let integers = Layout::Tiles16.tensor_bytes(GgmlType::I32, &[4, 4]);
        assert!(matches!(integers, Err(Problem::Layout { .. })));
    }
}
