//! `kernels/quantize.cu`: activations in the forms that products read.

use super::gemm_hopper::{self, Tiles};
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

    /// Those from column `first` on, of `cols` numbers each.
    pub(crate) fn from(self, first: usize, cols: usize) -> Self {
        let [q, s] = Self::bytes(first, cols);
        Self {
            q: self.q.offset(q),
            s: self.s.offset(s),
        }
    }
}

/// In which form products of several columns read activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Rounded to 8 bits, tiles of `kernels/gemm_bytes.cuh`; of more columns than those take, as `Groups`.
    Bytes,
    /// bf16 in the order of quantized weights.
    Groups,
    Bf16,
    F16,
    /// f16 in the order of quantized weights, for FP8 weights; few columns as they are.
    Fp8,
    /// E4M3 rows with a scale each, for cuBLASLt; of as many columns as it is used for, in place of `Fp8`.
    RowsFp8,
    /// bf16 rows of [`pitch16`], for cuBLASLt; of as many columns as it is used for, in place of `Bf16`.
    Rows,
}

impl Form {
    /// What products with such weights read at most numbers of columns; F32 ones read f32.
    pub(crate) fn of(weights: Layout) -> Option<Self> {
        match weights {
            Layout::F32 => None,
            Layout::F16 => Some(Self::F16),
            Layout::Bf16 => Some(Self::Bf16),
            Layout::Fp8 => Some(Self::Fp8),
            Layout::Any => Some(Self::Groups),
            _ => Some(Self::Bytes),
        }
    }

    /// Whether columns are brought to f16 by a factor each.
    fn is_f16(self) -> bool {
        matches!(self, Self::F16 | Self::Fp8)
    }

    /// Whether columns have factors that they lack, on Hopper or elsewhere.
    pub(crate) fn is_scaled(self, is_hopper: bool) -> bool {
        self.is_f16() || self == Self::RowsFp8 || (self != Self::Rows && !is_hopper)
    }

    /// Whether weights are quantized: a column by itself is rounded to 8 bits for them.
    pub(crate) fn is_quantized(self) -> bool {
        matches!(self, Self::Bytes | Self::Groups)
    }
}

/// Columns narrowed to 16 or 8 bits: tiles on Hopper (`kernels/tiles.cuh`), else 16-bit rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrowed {
    pub(crate) x: Ptr,
    /// The factor that each column lacks; null: none does.
    pub(crate) scale: Ptr,
}

impl Narrowed {
    /// Bytes of `x` and of `scale` for `n` columns of `cols` numbers.
    pub(crate) fn bytes(n: usize, cols: usize) -> [usize; 2] {
        let rows = n.saturating_mul(2 * pitch16(cols));
        [
            rows.max(gemm_hopper::tile_bytes(n, cols)),
            n.saturating_mul(4),
        ]
    }

    /// The same of FP8 rows.
    pub(crate) fn bytes_fp8(n: usize, cols: usize) -> [usize; 2] {
        [n.saturating_mul(cols), n.saturating_mul(4)]
    }
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

/// Narrows `n` columns of `cols` numbers.
pub(crate) fn narrow(
    device: &Device,
    form: Form,
    x: Ptr,
    to: Narrowed,
    n: usize,
    cols: usize,
) -> Result<(), CudaError> {
    if form == Form::RowsFp8 {
        let shape = Shape::line(n, (cols / 4).next_multiple_of(32).min(512) as u32);
        let cols = cols as i32;
        // SAFETY: n * cols numbers behind x, rows of as many bytes behind `to`, n scales.
        return unsafe { launch!(device, "rows_fp8", shape; x, to.x, to.scale, cols) };
    }
    if form == Form::Rows {
        let pitch = pitch16(cols);
        let shape = Shape::plane((pitch / 8).div_ceil(128), n, 128);
        let (cols, pitch) = (cols as i32, pitch as i32);
        // SAFETY: n * cols numbers behind x, n * pitch behind `to`.
        return unsafe { launch!(device, "rows_bf16", shape; x, to.x, cols, pitch) };
    }
    if device.is_hopper {
        return tiles(device, form, x, to, n, cols);
    }
    let pitch = pitch16(cols);
    let [cols, pitch32, rows] = [cols as i32, pitch as i32, n as i32];
    if form.is_f16() {
        let shape = Shape::line(n, 256);
        // SAFETY: n * cols numbers behind x, n * pitch behind `to`, n scales.
        return unsafe { launch!(device, "to_f16", shape; x, to.x, to.scale, cols, pitch32) };
    }
    let shape = Shape::plane(pitch.div_ceil(256), n, 256);
    // SAFETY: as above.
    unsafe { launch!(device, "to_bf16", shape; x, to.x, to.scale, cols, pitch32, rows) }
}

/// Narrows columns to tiles.
fn tiles(
    device: &Device,
    form: Form,
    x: Ptr,
    to: Narrowed,
    n: usize,
    cols: usize,
) -> Result<(), CudaError> {
    if form == Form::Bytes {
        let tiles = Tiles::new(to.x, form, n);
        let shape = Shape::plane((cols / 4).div_ceil(128), n, 128);
        let cols = cols as i32;
        // SAFETY: n * cols numbers behind x, whole groups; tiles of n columns.
        return unsafe { launch!(device, "tiles_bytes", shape; x, tiles, cols) };
    }
    tiles_of(
        device,
        form,
        x,
        Sources::default(),
        (Tiles::new(to.x, form, n), to.scale),
        n,
        cols,
    )
}

/// Which rows of x columns are: `Sources` of `kernels/quantize.cu`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Sources {
    /// The pair of each column, or -1; null: columns are rows.
    pub(crate) pairs: Ptr,
    /// Pairs that share a row; 0: each column has its own.
    pub(crate) share: i32,
}

/// Narrows rows that `sources` names to `n` columns of tiles, scales beside them where the form has any.
pub(crate) fn tiles_of(
    device: &Device,
    form: Form,
    x: Ptr,
    sources: Sources,
    (tiles, scale): (Tiles, Ptr),
    n: usize,
    cols: usize,
) -> Result<(), CudaError> {
    let threads = cols.div_ceil(128) * 8;
    let cols = cols as i32;
    if form.is_f16() {
        let shape = Shape::line(n, 256);
        // SAFETY: the rows behind x that sources name, tiles of n columns, n scales.
        return unsafe { launch!(device, "tiles_f16", shape; x, sources, tiles, scale, cols) };
    }
    let shape = Shape::plane(threads.div_ceil(128), n, 128);
    // SAFETY: as above.
    unsafe { launch!(device, "tiles_bf16", shape; x, sources, tiles, cols) }
}
