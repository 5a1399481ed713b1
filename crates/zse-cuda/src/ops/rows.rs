//! `kernels/rows.cu`.

use zse_model::program::PoolKind;

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// Rows `rows` of `x`, `n` of them.
pub(crate) fn gather(
    device: &Device,
    x: Ptr,
    y: Ptr,
    rows: Ptr,
    [n, cols]: [usize; 2],
) -> Result<(), CudaError> {
    let shape = Shape::plane(cols.div_ceil(128), n, 128);
    let cols = cols as i32;
    // SAFETY: `rows` are rows of x (`Batch::check`), y holds n rows.
    unsafe { launch!(device, "gather_rows", shape; x, y, rows, cols) }
}

/// One row for each of `n` sequences, whose rows begin at `starts`.
pub(crate) fn pool(
    device: &Device,
    kind: PoolKind,
    x: Ptr,
    y: Ptr,
    starts: Ptr,
    [n, cols]: [usize; 2],
) -> Result<(), CudaError> {
    let shape = Shape::plane(cols.div_ceil(128), n, 128);
    let kind = match kind {
        PoolKind::Mean => 0,
        PoolKind::Cls => 1,
        PoolKind::Last => 2,
    };
    let cols = cols as i32;
    // SAFETY: n + 1 starts, the last of them the rows of x; y holds n rows.
    unsafe { launch!(device, "pool", shape; x, y, starts, kind, cols) }
}
