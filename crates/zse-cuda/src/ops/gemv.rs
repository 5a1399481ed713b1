//! `kernels/gemv_quant.cu`, `kernels/gemv_float.cu` and `kernels/gemv_fp8.cu`: products with few columns.

use zse_model::program::Act;

use super::act_number;
use super::quantize::Columns;
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::weights::{Layout, Matrix, Planes};

/// Most columns of one launch.
pub(crate) const MOST: usize = 8;

/// Warps of a block.
const WARPS: usize = 4;

/// Rows from this length on are shared by the warps of a block.
const LONG: usize = 8192;

/// A matrix and what is added to its products; null: nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Ptr,
}

/// `Product` of `kernels/gemv.cuh`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Product {
    w: Planes,
    up: Planes,
    columns: [Ptr; 2],
    x: Ptr,
    bias: Ptr,
    up_bias: Ptr,
    add: Ptr,
    route: Ptr,
    y: Ptr,
    n: i32,
    act: i32,
    top_k: i32,
    x_per_pair: i32,
    parts: i32,
}

/// A product, and whether it is a gated one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) weight: Weight,
    /// The other matrix of a gated product, of the same layout and size.
    pub(crate) gated: Option<(Act, Weight)>,
    /// f32 columns.
    pub(crate) x: Ptr,
    /// The same rounded, for quantized weights.
    pub(crate) rounded: Columns,
    /// Added to the result; null: nothing.
    pub(crate) add: Ptr,
    pub(crate) y: Ptr,
    pub(crate) n: usize,
}

impl Job {
    /// As kernels take it.
    pub(crate) fn product(&self) -> Product {
        let (act, up) = self
            .gated
            .map_or((0, None), |(act, up)| (act_number(act), Some(up)));
        Product {
            w: self.weight.matrix.planes,
            up: up.map_or(Planes::default(), |up| up.matrix.planes),
            columns: [self.rounded.q, self.rounded.s],
            x: self.x,
            bias: self.weight.bias,
            up_bias: up.map_or(Ptr::NULL, |up| up.bias),
            add: self.add,
            route: Ptr::NULL,
            y: self.y,
            n: self.n as i32,
            act,
            top_k: 1,
            x_per_pair: 0,
            parts: self.parts() as i32,
        }
    }

    /// Warps that share a row.
    fn parts(&self) -> usize {
        let is_long = self.weight.matrix.cols() >= LONG;
        if is_long { WARPS } else { 1 }
    }

    /// Blocks for all rows: a warp, or all of a block, takes two rows, or one with its gate.
    fn blocks(&self) -> usize {
        let rows = self.weight.matrix.rows();
        let units = if self.gated.is_some() {
            rows
        } else {
            rows.div_ceil(2)
        };
        (units * self.parts()).div_ceil(WARPS)
    }

    fn prefix(&self) -> &'static str {
        if self.gated.is_some() {
            "gated"
        } else {
            "gemv"
        }
    }
}

/// Runs a product of any number of columns, [`MOST`] at a time. What a column gives does not depend on the others: lanes
/// take the same parts of k, in the same order, however many there are.
pub(crate) fn gemv(device: &Device, job: &Job) -> Result<(), CudaError> {
    let layout = job.weight.matrix.layout;
    if !layout.is_quantized() || job.n <= MOST {
        return launch_gemv(device, job);
    }
    let [rows, cols] = [job.weight.matrix.rows(), job.weight.matrix.cols()];
    for first in (0..job.n).step_by(MOST) {
        let row = |at: Ptr| match at {
            Ptr::NULL => Ptr::NULL,
            at => at.offset(4 * first * rows),
        };
        let some = Job {
            rounded: job.rounded.from(first, cols),
            add: row(job.add),
            y: row(job.y),
            n: MOST.min(job.n - first),
            ..*job
        };
        launch_gemv(device, &some)?;
    }
    Ok(())
}

/// Runs a product of up to [`MOST`] columns; of any number, with float or FP8 weights.
fn launch_gemv(device: &Device, job: &Job) -> Result<(), CudaError> {
    let columns = job.n.next_power_of_two().min(MOST);
    let kernel = format!(
        "{}_{}_{columns}",
        job.prefix(),
        job.weight.matrix.layout.name()
    );
    let product = job.product();
    let shape = Shape::plane(job.blocks(), job.n.div_ceil(columns), 128);
    // SAFETY: n columns behind the inputs, n rows behind y and add, as planned.
    unsafe { launch!(device, &kernel, shape; product) }
}

/// `Products` of `kernels/gemv_quant.cu`.
#[derive(Default)]
#[repr(C)]
struct Products {
    products: [Product; SEVERAL],
    layouts: [i32; SEVERAL],
    ends: [i32; SEVERAL],
}

/// Most products of one launch of [`several`].
const SEVERAL: usize = 3;

/// The number of a layout that [`several`] takes.
fn number(layout: Layout) -> Option<i32> {
    match layout {
        Layout::Q4_0 => Some(0),
        Layout::Q8_0 => Some(1),
        Layout::Q4K => Some(2),
        Layout::Q5K => Some(3),
        Layout::Q6K => Some(4),
        Layout::F32 | Layout::F16 | Layout::Bf16 | Layout::Fp8 | Layout::Any => None,
    }
}

/// Whether products can run as one launch: two or three of one column, with quantized weights or all of FP8.
pub(crate) fn are_several(jobs: &[Job]) -> bool {
    let layout = |job: &Job| job.weight.matrix.layout;
    let plain = |job: &Job| job.n == 1 && job.gated.is_none();
    let of_fp8 = jobs.iter().all(|job| layout(job) == Layout::Fp8);
    let alike = of_fp8 || jobs.iter().all(|job| number(layout(job)).is_some());
    (2..=SEVERAL).contains(&jobs.len()) && jobs.iter().all(plain) && alike
}

/// Runs products for which [`are_several`] holds.
pub(crate) fn several(device: &Device, jobs: &[Job]) -> Result<(), CudaError> {
    let mut all = Products::default();
    let mut blocks = 0;
    for (i, job) in jobs.iter().enumerate() {
        blocks += job.blocks();
        all.products[i] = job.product();
        all.layouts[i] = number(job.weight.matrix.layout).unwrap_or(0);
    }
    let mut end = 0;
    for (i, to) in all.ends.iter_mut().enumerate() {
        end += jobs.get(i).map_or(0, Job::blocks);
        *to = end as i32;
    }
    let of_fp8 = jobs[0].weight.matrix.layout == Layout::Fp8;
    let kernel = if of_fp8 {
        "gemv_several_fp8"
    } else {
        "gemv_several"
    };
    // SAFETY: as in `gemv`, for each.
    unsafe { launch!(device, kernel, Shape::line(blocks, 128); all) }
}

/// The pairs of a mixture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs {
    /// `[n, 2 * top_k]`.
    pub(crate) route: Ptr,
    pub(crate) top_k: usize,
    /// Pairs of a token and an expert.
    pub(crate) pairs: usize,
    /// Whether each has a column of its own, or those of a token share one.
    pub(crate) x_per_pair: bool,
}

/// Runs a product of each pair with its expert's matrix.
pub(crate) fn gemv_experts(device: &Device, job: &Job, pairs: &Pairs) -> Result<(), CudaError> {
    let kernel = format!(
        "{}_{}_experts",
        job.prefix(),
        job.weight.matrix.layout.name()
    );
    let product = Product {
        route: pairs.route,
        n: pairs.pairs as i32,
        top_k: pairs.top_k as i32,
        x_per_pair: i32::from(pairs.x_per_pair),
        ..job.product()
    };
    let shape = Shape::plane(job.blocks(), pairs.pairs, 128);
    // SAFETY: the route names experts that exist; columns and rows of all pairs, as planned.
    unsafe { launch!(device, &kernel, shape; product) }
}
