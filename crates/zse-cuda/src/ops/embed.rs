//! `kernels/embed.cu`.

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::weights::Matrix;

/// Rows `ids` (null: all of them `fixed`) of `table` for `n` tokens.
pub(crate) fn embed(
    device: &Device,
    table: &Matrix,
    ids: Ptr,
    fixed: u32,
    y: Ptr,
    n: usize,
) -> Result<(), CudaError> {
    let kernel = format!("embed_{}", table.layout.name());
    let threads = if table.layout.is_quantized() {
        table.cols() / 32
    } else {
        table.cols()
    };
    let shape = Shape::plane(threads.div_ceil(128), n, 128);
    let fixed = fixed as i32;
    // SAFETY: ids are rows of the table (`Batch::check`), y holds n rows.
    unsafe { launch!(device, &kernel, shape; table.planes, ids, fixed, y) }
}
