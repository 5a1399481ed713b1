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

/// Columns of the tiles of a mixture's products.
const EXPERT_COLUMNS: [usize; 3] = [16, 64, 128];

/// The tile for `pairs` pairs of a token and one of `experts` experts: columns of most experts fill one.
fn expert_tile(pairs: usize, experts: usize) -> &'static Tile {
    let each = pairs.div_ceil(experts);
    let fits = EXPERT_COLUMNS
        .iter()
        .find(|&&columns| each <= columns * 3 / 4);
    tile(*fits.unwrap_or(&EXPERT_COLUMNS[EXPERT_COLUMNS.len() - 1]))
}

/// How the columns of a mixture's pairs are grouped by expert: `Groups` of `kernels/moe.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Groups {
    pub(crate) counts: Ptr,
    pub(crate) sources: Ptr,
    pub(crate) slots: Ptr,
    pub(crate) tiles: Ptr,
    pub(crate) wide: i32,
}

/// The pairs of a token and an expert that are multiplied together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grouping {
    pub(crate) pairs: usize,
    pub(crate) experts: usize,
}

impl Grouping {
    /// Columns of a tile.
    pub(crate) fn wide(self) -> usize {
        expert_tile(self.pairs, self.experts).columns
    }

    /// Columns of all experts, each filled up to whole eights.
    pub(crate) fn slots(self) -> usize {
        self.pairs
            .saturating_add(7 * self.pairs.min(self.experts))
            .next_multiple_of(8)
    }

    /// Most tiles of columns, of these or fewer pairs.
    fn tiles(self) -> usize {
        self.pairs / EXPERT_COLUMNS[0] + self.pairs.min(self.experts)
    }

    /// Eights of columns that tiles have room for: the last may reach beyond the last column.
    fn atoms(self) -> usize {
        (self.slots() + self.wide()) / 8
    }

    /// Bytes of `counts`, `sources`, `slots` and `tiles`.
    pub(crate) fn bytes(self) -> [usize; 4] {
        [
            4 * self.experts,
            self.slots().saturating_mul(4),
            self.pairs.saturating_mul(4),
            16 * (1 + self.tiles()),
        ]
    }

    /// Bytes of columns of `cols` numbers in tiles.
    pub(crate) fn tile_bytes(self, cols: usize) -> usize {
        self.atoms()
            .saturating_mul(8 * 2 * cols.next_multiple_of(STEP))
    }

    /// As [`Shared::bytes`], for experts of `rows`.
    pub(crate) fn shared_bytes(self, rows: usize) -> [usize; 2] {
        // Of the tiles with fewest rows; a counter for each 32 or 64 of them.
        let sums = 2 * BLOCKS * 64 * 2 * EXPERT_COLUMNS[EXPERT_COLUMNS.len() - 1];
        let counters = 2 * rows.div_ceil(64).next_multiple_of(2);
        [4 * sums, self.tiles().saturating_mul(4 * counters)]
    }
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

    /// Those of a mixture's columns.
    pub(crate) fn grouped(at: Ptr, form: Form, grouping: Grouping) -> Self {
        let order = match form {
            Form::Groups => Order::Groups,
            Form::Bf16 | Form::F16 => Order::Lanes,
        };
        Self {
            at,
            atoms: grouping.atoms() as i32,
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
    groups: Ptr,
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
        groups: Ptr::NULL,
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

/// Runs the products of a mixture's experts, each with its columns of the tiles `x`, which `groups` names;
/// results are rows in the order of the columns.
pub(crate) fn experts(
    device: &Device,
    job: &Job,
    x: Narrowed,
    (groups, grouping): (&Groups, Grouping),
    shared: Shared,
) -> Result<(), CudaError> {
    let (matrix, tile) = (
        &job.weight.matrix,
        expert_tile(grouping.pairs, grouping.experts),
    );
    let gated = if job.gated.is_some() { "gated_" } else { "" };
    let kernel = format!(
        "gemm_experts_{gated}{}_{}",
        matrix.layout.name(),
        tile.columns
    );
    let steps = matrix.cols().div_ceil(STEP);
    let gemm = Gemm {
        product: job.product(),
        x: x.x,
        scale: x.scale,
        parts: shared.parts,
        arrived: shared.arrived,
        groups: groups.tiles,
        atoms: grouping.atoms() as i32,
        steps: steps as i32,
        per: FEWEST.min(steps) as i32,
    };
    let blocks = device.multiprocessors.min(BLOCKS);
    let shape = Shape::line(blocks, 128 * tile.warpgroups as u32)
        .shared(tile.stages * tile.columns * 2 * STEP);
    // SAFETY: the groups name experts that exist and columns of x and y; tiles of them behind x, scales or none,
    // room for what blocks share, as planned.
    unsafe { launch!(device, &kernel, shape; gemm) }
}
