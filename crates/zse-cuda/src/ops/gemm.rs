//! `kernels/gemm.cu`: products with many columns, on all but Hopper; `kernels/gemm_f32.cu`: those of F32 weights.

use super::gemv::{Job, Product};
use super::quantize::{Narrowed, pitch16};
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// A block's columns, rows and threads, and the name of its kernels.
struct Tile {
    columns: usize,
    rows: usize,
    threads: u32,
    name: &'static str,
}

/// The tiles by rising number of columns.
const TILES: [Tile; 3] = [
    Tile {
        columns: 32,
        rows: 64,
        threads: 128,
        name: "small",
    },
    Tile {
        columns: 64,
        rows: 64,
        threads: 128,
        name: "medium",
    },
    Tile {
        columns: 128,
        rows: 128,
        threads: 256,
        name: "large",
    },
];

/// `Gemm` of the kernel.
#[repr(C)]
struct Gemm {
    product: Product,
    x: Ptr,
    scale: Ptr,
    pitch: i32,
}

/// Rows and columns of a block of [`gemm_f32`].
const TILE_F32: usize = 32;

/// Fewest columns for which it pays: they must fill the GPU with the few rows of a router.
pub(crate) const MANY_F32: usize = 256;

/// Runs a product with an F32 matrix that is not gated.
pub(crate) fn gemm_f32(device: &Device, job: &Job) -> Result<(), CudaError> {
    let product = job.product();
    let rows = job.weight.matrix.rows();
    let shape = Shape::plane(rows.div_ceil(TILE_F32), job.n.div_ceil(TILE_F32), 256);
    // SAFETY: n columns behind the input, n rows behind y and add, as planned.
    unsafe { launch!(device, "gemm_f32", shape; product) }
}

/// Runs a product whose columns are the 16-bit rows `x`.
pub(crate) fn gemm(device: &Device, job: &Job, x: Narrowed) -> Result<(), CudaError> {
    let matrix = &job.weight.matrix;
    let tile = TILES
        .iter()
        .find(|t| job.n <= t.columns)
        .unwrap_or(&TILES[2]);
    let gated = if job.gated.is_some() { "gated_" } else { "" };
    let kernel = format!("gemm_{gated}{}_{}", matrix.layout.name(), tile.name);
    let gemm = Gemm {
        product: job.product(),
        x: x.x,
        scale: x.scale,
        pitch: pitch16(matrix.cols()) as i32,
    };
    let rows = if job.gated.is_some() {
        tile.rows / 2
    } else {
        tile.rows
    };
    // Steps of 64 numbers of 2 bytes: 3 of x, and 2 of unpacked or 3 of copied weights.
    let weights = if matrix.layout.is_16_bit() { 3 } else { 2 };
    let shared = 128 * (3 * tile.columns + weights * tile.rows);
    let shape = Shape::plane(
        job.n.div_ceil(tile.columns),
        matrix.rows().div_ceil(rows),
        tile.threads,
    );
    // SAFETY: n rows of `pitch` behind x, n scales, n rows behind y and add, as planned.
    unsafe { launch!(device, &kernel, shape.shared(shared); gemm) }
}
