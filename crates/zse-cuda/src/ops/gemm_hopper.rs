//! `kernels/gemm_hopper.cuh` and `gemm_hopper_shared.cu`: products with more than a few columns by Hopper's warpgroups.

use super::gemv::{Job, Product};
use super::quantize::{Form, Narrowed};
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// A block's columns, the warpgroups that take 64 rows each, and how many steps of columns it holds.
struct Tile {
    columns: usize,
    warpgroups: usize,
    stages: usize,
}

/// The tiles by rising number of columns.
const TILES: [Tile; 5] = [
    Tile {
        columns: 16,
        warpgroups: 4,
        stages: 8,
    },
    Tile {
        columns: 32,
        warpgroups: 4,
        stages: 8,
    },
    Tile {
        columns: 64,
        warpgroups: 4,
        stages: 6,
    },
    Tile {
        columns: 128,
        warpgroups: 2,
        stages: 5,
    },
    Tile {
        columns: 256,
        warpgroups: 2,
        stages: 3,
    },
];

/// Numbers along k that are multiplied at once.
const STEP: usize = 128;

/// Most blocks of a launch: one for each multiprocessor of the largest Hopper GPU.
const BLOCKS: usize = 132;

/// Fewest steps of a block: what is shared is put together at a cost.
const FEWEST: usize = 4;

/// Parts of k at which blocks begin, where that is possible.
const PHASES: usize = 4;

fn tile(n: usize) -> &'static Tile {
    let fits = TILES.iter().find(|t| n <= t.columns);
    fits.unwrap_or(&TILES[TILES.len() - 1])
}

/// Bytes of `n` columns of `cols` numbers in tiles.
pub(crate) fn tile_bytes(n: usize, cols: usize) -> usize {
    let columns = n.next_multiple_of(tile(n).columns);
    columns.saturating_mul(2 * cols.next_multiple_of(STEP))
}

/// Eights of columns that tiles of `n` columns have room for.
fn atoms(n: usize) -> usize {
    n.next_multiple_of(tile(n).columns) / 8
}

/// Where blocks that share a tile leave their sums, and count who has come; that is zeros between launches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) parts: Ptr,
    pub(crate) arrived: Ptr,
}

impl Shared {
    /// Bytes of both for products of up to `n` columns with a matrix of `rows`, gated or not.
    pub(crate) fn bytes(n: usize, rows: usize) -> [usize; 2] {
        let tile = tile(n);
        let sums = 2 * BLOCKS * 64 * tile.warpgroups * tile.columns;
        // Fewer columns may have tiles of 128 rows.
        let tiles = rows.next_multiple_of(128) / (32 * tile.warpgroups) * n.div_ceil(tile.columns);
        [4 * sums, tiles.saturating_mul(4 * tile.warpgroups)]
    }
}

/// Of the numbers in a tile, `Order` of `kernels/tiles.cuh`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(i32)]
enum Order {
    #[default]
    Lanes,
    Groups,
    Plain,
}

/// `Tiles` of `kernels/tiles.cuh`: where a result goes as activations of the next product; null: nowhere.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Tiles {
    at: Ptr,
    atoms: i32,
    order: Order,
}

impl Tiles {
    /// Those of `n` columns at `at`.
    pub(crate) fn new(at: Ptr, form: Form, n: usize) -> Self {
        let order = match form {
            Form::Groups => Order::Groups,
            // The largest tile has weights in shared memory.
            _ if tile(n).columns == 256 => Order::Plain,
            _ => Order::Lanes,
        };
        Self {
            at,
            atoms: atoms(n) as i32,
            order,
        }
    }

    /// The same, unless they would be scaled: that takes a look at whole columns.
    pub(crate) fn unscaled(at: Ptr, form: Form, n: usize) -> Option<Self> {
        (form != Form::F16).then(|| Self::new(at, form, n))
    }
}

/// `Gemm` of the kernel.
#[repr(C)]
struct Gemm {
    product: Product,
    x: Ptr,
    scale: Ptr,
    parts: Ptr,
    arrived: Ptr,
    atoms: i32,
    steps: i32,
    per: i32,
}

/// Runs a product whose columns are the tiles `x`.
pub(crate) fn gemm(
    device: &Device,
    job: &Job,
    x: Narrowed,
    shared: Shared,
) -> Result<(), CudaError> {
    let (matrix, tile) = (&job.weight.matrix, tile(job.n));
    let (gated, rows) = if job.gated.is_some() {
        ("gated_", 32 * tile.warpgroups)
    } else {
        ("", 64 * tile.warpgroups)
    };
    let kernel = format!("gemm_{gated}{}_{}", matrix.layout.name(), tile.columns);
    let steps = matrix.cols().div_ceil(STEP);
    let all = matrix.rows().div_ceil(rows) * job.n.div_ceil(tile.columns) * steps;
    let blocks = device.multiprocessors.min(BLOCKS);
    let even = all.div_ceil(blocks).max(FEWEST.min(steps));
    // At small cost, many blocks are at the same k, and share what the cache holds.
    let aligned = even.next_multiple_of(steps.div_ceil(PHASES));
    let per = if aligned - even <= even / 16 {
        aligned
    } else {
        even
    };
    let gemm = Gemm {
        product: job.product(),
        x: x.x,
        scale: x.scale,
        parts: shared.parts,
        arrived: shared.arrived,
        atoms: atoms(job.n) as i32,
        steps: steps as i32,
        per: per as i32,
    };
    let shape = Shape::line(all.div_ceil(per), 128 * tile.warpgroups as u32)
        .shared(tile.stages * tile.columns * 2 * STEP);
    // SAFETY: tiles of n columns behind x, n scales or none, n rows behind y and add, room for what blocks
    // share, as planned.
    unsafe { launch!(device, &kernel, shape; gemm) }
}
