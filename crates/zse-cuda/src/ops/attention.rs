//! `kernels/attention.cu`, `kernels/flash.cu` and `kernels/flash_hopper.cu`.

use zse_model::executor::{Batch, KvType};
use zse_model::program::{Mask, Paged, Program, StateId};

use super::quantize::Columns;
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::kv::{Plane, State};

/// The widest head that the plain kernel takes.
pub(crate) const WIDEST: usize = 1024;

/// Keys of one split, at least; a multiple of what tiles take at once.
const SPLIT: usize = 128;

/// Blocks that fill a GPU: keys are split until there are so many.
const BLOCKS: usize = 528;

/// Most threads that put the splits of a number together.
const MERGERS: usize = 8;

/// Rows of queries that a block of the tensor-core kernels takes at once, or a warpgroup on Hopper.
const TILE_ROWS: usize = 64;

/// Keys that tiles take at once: of the widest heads half as many, but on Hopper.
const TILE_KEYS: usize = 64;

/// Stages of Hopper's kernel in shared memory; of packed caches those of numbers, and those of what is kept.
const STAGES: usize = 4;
const UNPACKED: [usize; 2] = [3, 3];

/// The widest head that Hopper's own kernel takes.
const WIDEST_TILE: usize = 128;

/// What a cache's type and heads ask for in shared memory, in bytes for 16 keys and as many values.
#[derive(Clone, Copy, Debug)]
struct Slab {
    /// As numbers of 16 bits.
    numbers: usize,
    /// As they are kept, where that is less.
    packed: Option<usize>,
}

impl Slab {
    fn of(ty: KvType, dim: usize) -> Self {
        let kept = ty.head_bytes(dim).unwrap_or(0);
        let is_packed = matches!(ty, KvType::Q8_0 | KvType::Fp8);
        Self {
            numbers: 2 * 16 * 2 * dim,
            packed: is_packed.then_some(2 * 16 * kept),
        }
    }

    /// A ring of so many, with room for one unpacked.
    fn ring(self, stages: usize) -> usize {
        match self.packed {
            None => stages * self.numbers,
            Some(packed) => stages * packed + self.numbers,
        }
    }
}

/// `Attention` of the kernels.
#[repr(C)]
struct Arguments {
    q: Ptr,
    y: Ptr,
    keys: Plane,
    values: Plane,
    tables: Ptr,
    starts: Ptr,
    seq: Ptr,
    index: Ptr,
    ends: Ptr,
    spans: Ptr,
    parts: Ptr,
    weights: Ptr,
    heads: i32,
    scale: f32,
    softcap: f32,
    window: i32,
    causal: i32,
    split: i32,
    n: i32,
}

/// The batch's sequences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences {
    /// Blocks of all sequences of the group.
    pub(crate) tables: Ptr,
    /// Where each sequence's begin.
    pub(crate) starts: Ptr,
    /// The sequence of each token.
    pub(crate) seq: Ptr,
    /// The index in its sequence of each token.
    pub(crate) index: Ptr,
    /// Tokens of each sequence.
    pub(crate) ends: Ptr,
    /// Where each sequence's tokens begin in the batch, and behind the last.
    pub(crate) spans: Ptr,
    pub(crate) shape: BatchShape,
}

/// What of a batch decides which kernels run and how large their grids are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct BatchShape {
    tokens: usize,
    seqs: usize,
    /// Most tokens of a sequence here.
    most: usize,
    /// No sequence is longer, with what was cached; a power of two.
    longest: usize,
}

impl BatchShape {
    pub(crate) fn of(batch: &Batch) -> Self {
        let most = batch.seqs.iter().map(|s| s.tokens.len()).max();
        let longest = batch.seqs.iter().map(|s| s.first + s.tokens.len()).max();
        Self {
            tokens: batch.tokens.len(),
            seqs: batch.seqs.len(),
            most: most.unwrap_or(0),
            longest: longest.unwrap_or(0).next_power_of_two().max(SPLIT),
        }
    }

    /// How many splits the keys of `kv_heads` heads are cut into, and the keys of each.
    fn splits(&self, kv_heads: usize) -> (usize, usize) {
        let wanted = (BLOCKS / (self.seqs * kv_heads).max(1)).clamp(1, self.longest / SPLIT);
        let keys = self.longest.div_ceil(wanted).next_multiple_of(SPLIT);
        (self.longest.div_ceil(keys), keys)
    }
}

/// How scores are made, and where splits leave their sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores {
    pub(crate) heads: usize,
    pub(crate) scale: f32,
    pub(crate) mask: Mask,
    pub(crate) softcap: Option<f32>,
    /// Whether a block takes all keys of a token, one token after the other: so its sums are in the same order,
    /// whatever else is there.
    pub(crate) whole: bool,
    /// As large as [`scratch_bytes`] says.
    pub(crate) scratch: [Ptr; 2],
}

/// Bytes that splits of `heads` query heads over the state `id` leave their sums in.
pub(crate) fn scratch_bytes(program: &Program, id: StateId, heads: usize) -> [usize; 2] {
    let Paged {
        kv_heads, v_dim, ..
    } = program.paged(id);
    let sums = BLOCKS.saturating_mul(heads / kv_heads.max(1));
    [sums.saturating_mul(4 * v_dim), sums.saturating_mul(8)]
}

/// Whether the tensor-core kernels take these heads.
fn is_fast(ty: KvType, state: &State, heads: usize) -> bool {
    let (keys, group) = (&state.keys, heads / (state.keys.heads as usize).max(1));
    !matches!(ty, KvType::F32 | KvType::Q4_0)
        && keys.dim == state.values.dim
        && matches!(keys.dim, 64 | 128 | 256)
        && keys.block_len % 16 == 0
        && group <= 16
}

/// Attention of queries `q` over `state`, to `y` or, where that costs no launch, rounded to `rounded`:
/// tells whether it went there.
pub(crate) fn attention(
    device: &Device,
    ty: KvType,
    state: &State,
    [q, y]: [Ptr; 2],
    seqs: &Sequences,
    scores: &Scores,
    rounded: Option<Columns>,
) -> Result<bool, CudaError> {
    let window = match scores.mask {
        Mask::Window(n) => i32::try_from(n).unwrap_or(i32::MAX),
        Mask::Causal | Mask::Bidirectional => 0,
    };
    let shape = seqs.shape;
    let (kv_heads, dim) = (state.keys.heads as usize, state.keys.dim as usize);
    let (splits, keys) = match scores.whole {
        true => (1, shape.longest),
        false => shape.splits(kv_heads),
    };
    let [parts, weights] = scores.scratch;
    let arguments = Arguments {
        q,
        y,
        keys: state.keys,
        values: state.values,
        tables: seqs.tables,
        starts: seqs.starts,
        seq: seqs.seq,
        index: seqs.index,
        ends: seqs.ends,
        spans: seqs.spans,
        parts,
        weights,
        heads: scores.heads as i32,
        scale: scores.scale,
        softcap: scores.softcap.unwrap_or(0.0),
        window,
        causal: i32::from(scores.mask != Mask::Bidirectional),
        split: keys as i32,
        n: shape.tokens as i32,
    };
    if !is_fast(ty, state, scores.heads) {
        let (kernel, grid) = (
            format!("attention_{ty}"),
            Shape::plane(scores.heads, shape.tokens, 128),
        );
        // SAFETY: rows behind q and y; tables name blocks that exist and hold the sequences
        // (`Batch::check`); heads are at most `WIDEST` wide (checked when the model was compiled).
        unsafe { launch!(device, &kernel, grid; arguments) }?;
        return Ok(false);
    }
    let grid = |x: usize, z: usize| Shape {
        grid: [x as u32, kv_heads as u32, z as u32],
        ..Shape::line(0, 128)
    };
    let slab = Slab::of(ty, dim);
    if shape.most > 1 && !scores.whole {
        let rows = shape.most * (scores.heads / kv_heads);
        if device.is_hopper && dim <= WIDEST_TILE {
            // Three warpgroups hide more of each other's waits, if there are blocks enough.
            let tiles = |warpgroups: usize| rows.div_ceil(TILE_ROWS * warpgroups);
            let fill = tiles(3) * kv_heads * shape.seqs >= device.multiprocessors;
            let warpgroups = if fill { 3 } else { 2 };
            let kernel = format!("flash_hopper_{ty}_{dim}_{warpgroups}");
            let stages = TILE_KEYS / 16
                * match slab.packed {
                    None => STAGES * slab.numbers,
                    Some(packed) => UNPACKED[0] * slab.numbers + UNPACKED[1] * packed,
                };
            let shared = 2 * dim * TILE_ROWS * warpgroups + stages;
            let grid = Shape {
                block: 128 * warpgroups as u32,
                ..grid(tiles(warpgroups), shape.seqs).shared(shared)
            };
            // SAFETY: as above; blocks are multiples of 16 tokens.
            unsafe { launch!(device, &kernel, grid; arguments) }?;
            return Ok(false);
        }
        let kernel = format!("flash_tile_{ty}_{dim}");
        let tiles = rows.div_ceil(TILE_ROWS);
        // The tile that is read and the next.
        let keys = TILE_KEYS / if dim > WIDEST_TILE { 2 } else { 1 };
        let grid = grid(tiles, shape.seqs).shared(keys / 16 * slab.ring(2));
        // SAFETY: as above; blocks are multiples of 16 tokens.
        unsafe { launch!(device, &kernel, grid; arguments) }?;
        return Ok(false);
    }
    let kernel = format!("flash_split_{ty}_{dim}");
    // Each warp has a ring of 3.
    let warps = if dim > WIDEST_TILE { 2 } else { 4 };
    let grid = Shape {
        block: 32 * warps,
        ..grid(splits, shape.tokens).shared(warps as usize * slab.ring(3))
    };
    // SAFETY: as above; no more splits than the scratch was sized for.
    unsafe { launch!(device, &kernel, grid; arguments) }?;
    if splits == 1 {
        return Ok(false);
    }
    let (count, Columns { q, s }) = (splits as i32, rounded.unwrap_or_default());
    let mergers = MERGERS.min(1024 / dim);
    let grid = Shape::plane(scores.heads, shape.tokens, (mergers * dim) as u32);
    // SAFETY: as above; columns of all heads behind q and s, where they are not null.
    unsafe { launch!(device, "flash_merge", grid; arguments, count, q, s) }?;
    Ok(rounded.is_some())
}
