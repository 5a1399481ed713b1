//! `kernels/quantize.cu`: activations in the forms that products read.

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::weights::Layout;

/// Columns rounded to 8 bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) q: Ptr,
    /// A scale and two sums for each 32.
    pub(crate) s: Ptr,
}

impl Columns {
    /// Bytes of `q` and of `s` for `n` columns of `cols` numbers.
    pub(crate) fn bytes(n: usize, cols: usize) -> [usize; 2] {
        [
            n.saturating_mul(cols),
            n.saturating_mul(cols / 32).saturating_mul(8),
        ]
    }
}

/// Rows of 16-bit numbers, `pitch` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows16 {
    pub(crate) x: Ptr,
    /// The factor that each row lacks.
    pub(crate) scale: Ptr,
}

/// Numbers between rows of `cols` 16-bit numbers.
pub(crate) fn pitch16(cols: usize) -> usize {
    cols.next_multiple_of(64)
}

/// Rounds `n` columns of `cols` numbers, a multiple of 32.
pub(crate) fn quantize_q8(
    device: &Device,
    x: Ptr,
    to: Columns,
    n: usize,
    cols: usize,
) -> Result<(), CudaError> {
    let groups = cols / 32;
    let shape = Shape::line((groups * n).div_ceil(4), 128);
    let (groups, n) = (groups as i32, n as i32);
    // SAFETY: n * cols numbers behind x, `Columns::bytes` behind `to`.
    unsafe { launch!(device, "quantize_q8", shape; x, to.q, to.s, groups, n) }
}

/// Narrows `n` rows of `cols` numbers to what `weights` multiply: f16 for F16, else bf16.
pub(crate) fn narrow(
    device: &Device,
    weights: Layout,
    x: Ptr,
    to: Rows16,
    n: usize,
    cols: usize,
) -> Result<(), CudaError> {
    let pitch = pitch16(cols);
    let sizes = [cols as i32, pitch as i32, n as i32];
    let [cols, pitch32, rows] = sizes;
    if weights == Layout::F16 {
        let shape = Shape::line(n, 256);
        // SAFETY: n * cols numbers behind x, n * pitch behind `to`, n scales.
        return unsafe { launch!(device, "to_f16", shape; x, to.x, to.scale, cols, pitch32) };
    }
    let shape = Shape::plane(pitch.div_ceil(256), n, 256);
    // SAFETY: as above.
    unsafe { launch!(device, "to_bf16", shape; x, to.x, to.scale, cols, pitch32, rows) }
}
