//! `kernels/fp8.cu`: what surrounds products of FP8 matrices with FP8 columns, and those products, by cuBLASLt.

use zse_model::program::Act;

use super::act_number;
use super::gemm_cublas::apart;
use super::gemv::{Job, Weight};
use super::quantize::Narrowed;
use crate::device::{Cublas, CublasKind, CublasPlaces, CublasProduct, Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// Longest rows that [`rms_norm`] takes.
pub(crate) const NORM_COLS: usize = 16_384;

/// Most columns whose results the library does not scale, if it could: it has fewer ways for those that it scales, none
/// of which cuts long rows into parts, so that few columns leave most of the GPU without work.
const FEW_UNSCALED: usize = 512;

/// Most products of one [`finish`].
pub(crate) const TOGETHER: usize = 3;

/// Norms of `n` rows of `cols` numbers, a multiple of 4 up to [`NORM_COLS`], to FP8 rows; `y` takes them as f32, if it is
/// not null.
pub(crate) fn rms_norm(
    device: &Device,
    [x, weight, y]: [Ptr; 3],
    eps: f32,
    to: Narrowed,
    [n, cols]: [usize; 2],
) -> Result<(), CudaError> {
    let shape = Shape::line(n, (cols / 4).next_multiple_of(32).min(1024) as u32);
    let cols = cols as i32;
    // SAFETY: n * cols numbers behind x, y and `to`, cols behind the weight, n scales.
    unsafe { launch!(device, "rms_norm_fp8", shape; x, weight, eps, y, to.x, to.scale, cols) }
}

/// Both halves of a gated product, bf16 rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves {
    pub(crate) act: Act,
    /// The gate, and what it lets through.
    pub(crate) weights: [Weight; 2],
    pub(crate) at: [Ptr; 2],
    /// The scales of the columns that the halves were made of, where they lack these and those of the matrices' rows;
    /// null: they lack none.
    pub(crate) columns: Ptr,
}

/// `Gated` of the kernel.
#[repr(C)]
struct Gated {
    halves: [Ptr; 2],
    biases: [Ptr; 2],
    columns: Ptr,
    rows: [Ptr; 2],
    act: i32,
    cols: i32,
}

/// What the gates of `n` rows let through, as FP8 rows.
pub(crate) fn glu(
    device: &Device,
    halves: &Halves,
    to: Narrowed,
    n: usize,
) -> Result<(), CudaError> {
    let cols = halves.weights[0].matrix.rows();
    let gated = Gated {
        halves: halves.at,
        biases: halves.weights.map(|weight| weight.bias),
        columns: halves.columns,
        rows: halves.weights.map(|weight| weight.matrix.planes.d),
        act: act_number(halves.act),
        cols: cols as i32,
    };
    let shape = Shape::line(n, (cols / 8).next_multiple_of(32).min(1024) as u32);
    // SAFETY: n * cols numbers behind the halves and `to`, cols behind biases and scales of rows, n scales of columns.
    unsafe { launch!(device, "glu_fp8", shape; gated, to.x, to.scale) }
}

/// `Finish` of the kernel.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Finish {
    y: Ptr,
    rows: Ptr,
    bias: Ptr,
    add: Ptr,
    chunks: i32,
}

/// Gives the results of up to [`TOGETHER`] products what they lack: scales of rows and, behind `columns`, of columns (unless
/// they have them: `scaled`), and biases; with `add`, what is added.
pub(crate) fn finish(
    device: &Device,
    jobs: &[Job],
    columns: Ptr,
    scaled: bool,
) -> Result<(), CudaError> {
    let mut all = [Finish::default(); TOGETHER];
    for (to, job) in all.iter_mut().zip(jobs) {
        let matrix = &job.weight.matrix;
        *to = Finish {
            y: job.y,
            rows: if scaled { Ptr::NULL } else { matrix.planes.d },
            bias: job.weight.bias,
            add: if scaled { Ptr::NULL } else { job.add },
            chunks: matrix.rows() as i32 / 4,
        };
    }
    let widest = all.iter().map(|of| of.chunks as usize).max().unwrap_or(0);
    let shape = Shape::space([widest.div_ceil(256), jobs[0].n, jobs.len()], 256);
    // SAFETY: n rows behind y and add, rows of the matrix behind bias and scales, n scales of columns.
    unsafe { launch!(device, "finish_fp8", shape; all, columns) }
}

/// The product of `job`, whose columns are FP8 rows; a narrow result is bf16. Without bias.
fn product(job: &Job, kind: CublasKind, narrow: bool) -> CublasProduct {
    let matrix = &job.weight.matrix;
    CublasProduct {
        kind,
        rows: matrix.rows(),
        cols: matrix.cols(),
        n: job.n,
        pitches: [matrix.cols(); 2],
        narrow,
        bias: false,
        second: None,
    }
}

/// Both products without scales, if they are alike and lie so that the library can run them as one.
fn pair(cublas: &Cublas, [a, b]: [&Job; 2], narrow: bool) -> Option<CublasProduct> {
    let [first, second] = [a, b].map(|job| product(job, CublasKind::Fp8, narrow));
    let pair = CublasProduct {
        second: Some([
            apart(a.weight.matrix.planes.q, b.weight.matrix.planes.q, 1)?,
            apart(a.y, b.y, if narrow { 2 } else { 4 })?,
            0,
        ]),
        ..first
    };
    (first == second && cublas.takes(&pair)).then_some(pair)
}

/// Where a product's parts are on the device.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) device: &'a Device,
    pub(crate) cublas: &'a Cublas,
    pub(crate) x: Narrowed,
    pub(crate) workspace: Ptr,
}

impl At<'_> {
    fn run(&self, job: &Job, product: &CublasProduct) -> Result<(), CudaError> {
        let scaled = product.kind == CublasKind::Fp8Scaled;
        let at = CublasPlaces {
            weight: job.weight.matrix.planes.q,
            x: self.x.x,
            bias: Ptr::NULL,
            add: if scaled { job.add } else { Ptr::NULL },
            y: job.y,
            scales: [job.weight.matrix.planes.d, self.x.scale],
            workspace: self.workspace,
        };
        // SAFETY: the matrix as it was loaded, n rows behind x, y and add, scales of rows and columns, and room to work
        // in, as planned.
        unsafe { self.cublas.run(self.device, product, &at) }
    }

    /// Runs one product with all that belongs to it.
    pub(crate) fn one(&self, job: &Job) -> Result<(), CudaError> {
        let scaled = self.scales(job.n);
        self.run(job, &product(job, kind(scaled), false))?;
        if scaled && job.weight.bias == Ptr::NULL {
            return Ok(());
        }
        finish(self.device, std::slice::from_ref(job), self.x.scale, scaled)
    }

    /// Runs up to [`TOGETHER`] products, two at a time where they are alike: all are finished by one launch.
    pub(crate) fn several(&self, jobs: &[Job]) -> Result<(), CudaError> {
        let mut left = jobs;
        while let [first, rest @ ..] = left {
            left = rest;
            let second = rest.first();
            let pair = second.and_then(|second| pair(self.cublas, [first, second], false));
            if pair.is_some() {
                left = &rest[1..];
            }
            let alone = product(first, CublasKind::Fp8, false);
            self.run(first, &pair.unwrap_or(alone))?;
        }
        finish(self.device, jobs, self.x.scale, false)
    }

    /// Runs both halves of a gated product: their results are bf16, and lack their scales unless the library takes them.
    pub(crate) fn halves(&self, jobs: [&Job; 2]) -> Result<(), CudaError> {
        let scaled = self.scales(jobs[0].n);
        if let Some(pair) = pair(self.cublas, jobs, true).filter(|_| !scaled) {
            return self.run(jobs[0], &pair);
        }
        let mut jobs = jobs.into_iter();
        jobs.try_for_each(|job| self.run(job, &product(job, kind(scaled), true)))
    }

    /// Whether the library scales results of `n` columns.
    pub(crate) fn scales(&self, n: usize) -> bool {
        self.cublas.scales && n > FEW_UNSCALED
    }
}

fn kind(scaled: bool) -> CublasKind {
    if scaled {
        CublasKind::Fp8Scaled
    } else {
        CublasKind::Fp8
    }
}
