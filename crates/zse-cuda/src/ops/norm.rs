//! `kernels/norm.cu`.

use super::gemm_hopper::Tiles;
use super::quantize::{Columns, pitch16};
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// Threads for rows of `cols` numbers: one for each, up to 512.
fn threads(cols: usize) -> u32 {
    cols.next_multiple_of(32).min(512) as u32
}

/// What an rms norm reads and writes; null where it does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RmsNorm {
    pub(crate) x: Ptr,
    pub(crate) weight: Ptr,
    pub(crate) eps: f32,
    /// Takes the result.
    pub(crate) y: Ptr,
    /// Takes the result rounded to 8 bits; then `cols` is a multiple of 32.
    pub(crate) rounded: Columns,
    /// Takes the result in tiles; then `cols` is a multiple of 32.
    pub(crate) tiles: Tiles,
    /// Takes the result in bf16, rows of [`pitch16`]; then `cols` is a multiple of 32.
    pub(crate) narrow: Ptr,
}

/// Norms of `rows` runs of `cols` numbers.
pub(crate) fn rms_norm(
    device: &Device,
    norm: &RmsNorm,
    rows: usize,
    cols: usize,
) -> Result<(), CudaError> {
    let RmsNorm {
        x,
        weight,
        eps,
        y,
        rounded: Columns { q, s },
        tiles,
        narrow,
    } = *norm;
    let (size, pitch) = (cols as i32, pitch16(cols) as i32);
    if !cols.is_multiple_of(32) {
        let shape = Shape::line(rows, threads(cols));
        // SAFETY: rows * cols numbers behind x and y, cols behind the weight.
        return unsafe { launch!(device, "rms_norm", shape; x, weight, eps, y, size) };
    }
    // A thread for each 4 numbers.
    let shape = Shape::line(rows, (cols / 4).next_multiple_of(32).min(1024) as u32);
    // SAFETY: as above, and columns behind q, s, tiles and narrow; each may be null.
    unsafe {
        launch!(device, "rms_norm_rows", shape; x, weight, eps, y, q, s, tiles, narrow, pitch, size)
    }
}

/// Layer norms of `rows` rows of `cols` numbers; `bias` may be null.
pub(crate) fn layer_norm(
    device: &Device,
    x: Ptr,
    [weight, bias]: [Ptr; 2],
    eps: f32,
    y: Ptr,
    [rows, cols]: [usize; 2],
) -> Result<(), CudaError> {
    let shape = Shape::line(rows, threads(cols));
    let cols = cols as i32;
    // SAFETY: rows * cols numbers behind x and y, cols behind weight and bias.
    unsafe { launch!(device, "layer_norm", shape; x, weight, bias, eps, y, cols) }
}
