//! `kernels/gemm_bytes.cuh`: products of quantized weights with few columns by Hopper's integer tensor cores.

use super::gemm_hopper::{Gemm, Shared, TOGETHER};
use super::gemv::Job;
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::weights::Layout;

/// The numbers of columns that these products pay for: by fewer the weights alone are read faster without tensor
/// cores, by more `wgmma` takes fewer instructions.
pub(crate) const COLUMNS: std::ops::RangeInclusive<usize> = 2..=16;

/// Numbers along k of a step; rows are whole steps.
pub(crate) const STEP: usize = 256;

/// Bytes of a step of eight columns, with their scales and sums.
const EIGHT: usize = 2560;

/// Steps of columns that a block holds.
const STAGES: usize = 4;

/// Warps of a block, of 16 rows each.
const WARPS: usize = 8;

/// Most blocks of a launch: two for each multiprocessor of the largest Hopper GPU.
const BLOCKS: usize = 2 * 132;

/// Fewest steps of a block: what is shared is put together at a cost.
const FEWEST: usize = 2;

/// Eights of columns that tiles of `n` columns have room for.
pub(crate) fn eights(n: usize) -> usize {
    n.div_ceil(8).next_power_of_two()
}

/// Bytes of shared memory for a warp's ring of steps of weights, and its tables.
fn warp_bytes(layout: Layout) -> usize {
    let (steps, step, tables) = match layout {
        Layout::Q8_0 => (2, 4352, 512),
        Layout::Q5K => (3, 2816, 768),
        Layout::Q6K => (3, 3456, 1024),
        Layout::Q4K => (4, 2304, 768),
        _ => (4, 2304, 512),
    };
    steps * step + tables
}

/// How a product is dealt out to blocks.
struct Deal {
    tiles: usize,
    /// Steps along k of each tile, and of a block.
    steps: usize,
    per: usize,
}

impl Deal {
    fn new(device: &Device, job: &Job) -> Self {
        let matrix = &job.weight.matrix;
        let rows = if job.gated.is_some() { 8 } else { 16 } * WARPS;
        let (tiles, steps) = (matrix.rows().div_ceil(rows), matrix.cols() / STEP);
        let blocks = (2 * device.multiprocessors).min(BLOCKS);
        let per = (tiles * steps).div_ceil(blocks).max(FEWEST.min(steps));
        Self { tiles, steps, per }
    }

    fn blocks(&self) -> usize {
        (self.tiles * self.steps).div_ceil(self.per)
    }

    /// Bytes of sums and of counters that the blocks use.
    fn shared_bytes(&self, n: usize) -> [usize; 2] {
        let sums = 2 * self.blocks() * 16 * WARPS * 8 * eights(n);
        [4 * sums, 4 * self.tiles * WARPS]
    }
}

/// As [`Shared::bytes`], of up to [`COLUMNS`] columns.
pub(crate) fn shared_bytes(rows: usize) -> [usize; 2] {
    let sums = 2 * BLOCKS * 16 * WARPS * 8 * eights(*COLUMNS.end());
    // A counter for 8 rows or more, of tiles of up to 128.
    let counters = rows.next_multiple_of(128) / 8;
    [4 * sums, counters.saturating_mul(4 * TOGETHER)]
}

/// Runs products whose columns are the tiles of bytes `x`, of which none reads what another writes; side by side, if
/// the GPU holds all blocks at once.
pub(crate) fn gemm(
    device: &Device,
    jobs: &[Job],
    x: Ptr,
    mut shared: Shared,
) -> Result<(), CudaError> {
    let deals: Vec<Deal> = jobs.iter().map(|job| Deal::new(device, job)).collect();
    let blocks: usize = deals.iter().map(Deal::blocks).sum();
    let fit = (2 * device.multiprocessors).min(BLOCKS);
    let together = jobs.len() <= TOGETHER && blocks <= fit;
    for (i, (job, deal)) in jobs.iter().zip(&deals).enumerate() {
        let (layout, eights) = (job.weight.matrix.layout, eights(job.n));
        let gated = if job.gated.is_some() { "gated_" } else { "" };
        let kernel = format!("gemm_bytes_{gated}{}_{eights}", layout.name());
        let gemm = Gemm {
            product: job.product(),
            x,
            scale: Ptr::NULL,
            parts: shared.parts,
            arrived: shared.arrived,
            groups: Ptr::NULL,
            beside: i32::from(together && i > 0),
            atoms: eights as i32,
            steps: deal.steps as i32,
            per: deal.per as i32,
        };
        let bytes = WARPS * warp_bytes(layout) + STAGES * eights * EIGHT;
        let shape = Shape::line(deal.blocks(), 32 * WARPS as u32).shared(bytes);
        // SAFETY: tiles of n columns behind x, n rows behind y and add, room for what blocks share, as planned.
        unsafe { launch!(device, &kernel, shape; gemm) }?;
        if together {
            let [sums, counters] = deal.shared_bytes(job.n);
            shared = Shared {
                parts: shared.parts.offset(sums),
                arrived: shared.arrived.offset(counters),
            };
        }
    }
    Ok(())
}
