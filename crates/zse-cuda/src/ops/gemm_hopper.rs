//! `kernels/gemm_hopper.cuh` and `gemm_hopper_shared.cu`: products with more than a few columns by Hopper's warpgroups.

use super::gemm_bytes;
use super::gemv::{Job, Product};
use super::quantize::{Form, Narrowed};
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::weights::Layout;

/// A block's columns, the warpgroups that take 64 rows each, and how many steps of columns it holds.
/// Of up to [`FEW`] columns: those of quantized weights.
struct Tile {
    columns: usize,
    warpgroups: usize,
    stages: usize,
}

/// Most columns by which 16-bit weights come through shared memory, and whose products may run side by side.
const FEW: usize = 64;

impl Tile {
    fn warpgroups(&self, layout: Layout) -> usize {
        if self.columns <= FEW && layout.is_16_bit() {
            2
        } else {
            self.warpgroups
        }
    }

    /// Bytes of shared memory: steps of columns, and of 16-bit weights that wait there.
    fn shared(&self, layout: Layout) -> usize {
        let columns = self.columns * 2 * STEP;
        if self.columns > FEW || !layout.is_16_bit() {
            return self.stages * columns;
        }
        // Of weights two rows a thread, 64 bytes of each.
        3 * columns + 4 * 2 * 128 * self.warpgroups(layout) * 64
    }
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
        // Of the tiles with most sums; a counter for 32 rows or more, of tiles of up to 128.
        let sums = 2 * BLOCKS * 64 * 2 * EXPERT_COLUMNS[EXPERT_COLUMNS.len() - 1];
        let counters = rows.next_multiple_of(128) / 32;
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
    /// Bytes of both for products of up to `n` columns with a matrix of `rows`, gated or not, or with up to
    /// [`TOGETHER`] such matrices side by side.
    pub(crate) fn bytes(n: usize, rows: usize) -> [usize; 2] {
        let tile = tile(n);
        let sums = 2 * BLOCKS * 64 * tile.warpgroups * tile.columns;
        // A counter for 32 rows or more, of tiles of up to 128.
        let counters = rows.next_multiple_of(128) / 32;
        let many = counters.saturating_mul(n.div_ceil(tile.columns));
        let bytes = gemm_bytes::shared_bytes(rows);
        [
            bytes[0].max(4 * sums),
            bytes[1].max(4 * many.max(TOGETHER * counters)),
        ]
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
    Bytes,
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
            Form::Bytes => Order::Bytes,
            Form::Groups | Form::Fp8 => Order::Groups,
            // The largest tile has weights in shared memory.
            _ if tile(n).columns == 256 => Order::Plain,
            _ => Order::Lanes,
        };
        Self {
            at,
            atoms: if form == Form::Bytes {
                gemm_bytes::eights(n)
            } else {
                atoms(n)
            } as i32,
            order,
        }
    }

    /// Those of a mixture's columns.
    pub(crate) fn grouped(at: Ptr, form: Form, grouping: Grouping) -> Self {
        let order = match form {
            Form::Bytes | Form::Groups | Form::Fp8 => Order::Groups,
            Form::Bf16 | Form::F16 | Form::Rows | Form::RowsFp8 => Order::Lanes,
        };
        Self {
            at,
            atoms: grouping.atoms() as i32,
            order,
        }
    }

    /// The same, unless they are no tiles or would be scaled: that takes a look at whole columns.
    pub(crate) fn unscaled(at: Ptr, form: Form, n: usize) -> Option<Self> {
        let scaled = matches!(form, Form::F16 | Form::Fp8 | Form::Rows | Form::RowsFp8);
        (!scaled).then(|| Self::new(at, form, n))
    }
}

/// `Gemm` of the kernels.
#[repr(C)]
pub(super) struct Gemm {
    pub(super) product: Product,
    pub(super) x: Ptr,
    pub(super) scale: Ptr,
    pub(super) parts: Ptr,
    pub(super) arrived: Ptr,
    pub(super) groups: Ptr,
    pub(super) beside: i32,
    pub(super) atoms: i32,
    pub(super) steps: i32,
    pub(super) per: i32,
}

/// Most products that run side by side.
pub(super) const TOGETHER: usize = 3;

/// How a product is dealt out to blocks.
struct Deal {
    tile: &'static Tile,
    warpgroups: usize,
    /// Of rows and columns.
    tiles: usize,
    /// Steps along k of each, and of a block.
    steps: usize,
    per: usize,
}

impl Deal {
    fn new(device: &Device, job: &Job) -> Self {
        let (matrix, tile) = (&job.weight.matrix, tile(job.n));
        let warpgroups = tile.warpgroups(matrix.layout);
        let rows = if job.gated.is_some() { 32 } else { 64 } * warpgroups;
        let steps = matrix.cols().div_ceil(STEP);
        let tiles = matrix.rows().div_ceil(rows) * job.n.div_ceil(tile.columns);
        let blocks = device.multiprocessors.min(BLOCKS);
        let even = (tiles * steps).div_ceil(blocks).max(FEWEST.min(steps));
        // At small cost, many blocks are at the same k, and share what the cache holds.
        let aligned = even.next_multiple_of(steps.div_ceil(PHASES));
        let per = if aligned - even <= even / 16 {
            aligned
        } else {
            even
        };
        Self {
            tile,
            warpgroups,
            tiles,
            steps,
            per,
        }
    }

    fn blocks(&self) -> usize {
        (self.tiles * self.steps).div_ceil(self.per)
    }

    /// Bytes of sums and of counters that the blocks use.
    fn shared_bytes(&self) -> [usize; 2] {
        let sums = 2 * self.blocks() * 64 * self.warpgroups * self.tile.columns;
        [4 * sums, 4 * self.tiles * self.warpgroups]
    }
}

/// Runs products whose columns are the tiles `x`, of which none reads what another writes; few columns side by
/// side, if the GPU holds all blocks at once.
pub(crate) fn gemm(
    device: &Device,
    jobs: &[Job],
    x: Narrowed,
    mut shared: Shared,
) -> Result<(), CudaError> {
    let deals: Vec<Deal> = jobs.iter().map(|job| Deal::new(device, job)).collect();
    let blocks: usize = deals.iter().map(Deal::blocks).sum();
    let fit = blocks <= device.multiprocessors.min(BLOCKS) && jobs.len() <= TOGETHER;
    for (i, (job, deal)) in jobs.iter().zip(&deals).enumerate() {
        let gated = if job.gated.is_some() { "gated_" } else { "" };
        let layout = job.weight.matrix.layout;
        let kernel = format!("gemm_{gated}{}_{}", layout.name(), deal.tile.columns);
        let together = fit && job.n <= FEW;
        let gemm = Gemm {
            product: job.product(),
            x: x.x,
            scale: x.scale,
            parts: shared.parts,
            arrived: shared.arrived,
            groups: Ptr::NULL,
            beside: i32::from(together && i > 0),
            atoms: atoms(job.n) as i32,
            steps: deal.steps as i32,
            per: deal.per as i32,
        };
        let shape = Shape::line(deal.blocks(), 128 * deal.warpgroups as u32)
            .shared(deal.tile.shared(layout));
        // SAFETY: tiles of n columns behind x, n scales or none, n rows behind y and add, room for what blocks
        // share, as planned.
        unsafe { launch!(device, &kernel, shape; gemm) }?;
        if together {
            let [sums, counters] = deal.shared_bytes();
            shared = Shared {
                parts: shared.parts.offset(sums),
                arrived: shared.arrived.offset(counters),
            };
        }
    }
    Ok(())
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
        beside: 0,
        atoms: grouping.atoms() as i32,
        steps: steps as i32,
        per: FEWEST.min(steps) as i32,
    };
    let blocks = device.multiprocessors.min(BLOCKS);
    let threads = 128 * tile.warpgroups(matrix.layout) as u32;
    let shape = Shape::line(blocks, threads).shared(tile.shared(matrix.layout));
    // SAFETY: the groups name experts that exist and columns of x and y; tiles of them behind x, scales or none,
    // room for what blocks share, as planned.
    unsafe { launch!(device, &kernel, shape; gemm) }
}
