//! `kernels/attention.cu`.

use zse_model::executor::KvType;
use zse_model::program::Mask;

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::kv::{Plane, State};

/// The widest head that the kernel takes.
pub(crate) const WIDEST: usize = 1024;

/// `Attention` of the kernel.
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
    heads: i32,
    scale: f32,
    softcap: f32,
    window: i32,
    causal: i32,
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
    /// Tokens of the batch.
    pub(crate) n: usize,
}

/// How scores are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores {
    pub(crate) heads: usize,
    pub(crate) scale: f32,
    pub(crate) mask: Mask,
    pub(crate) softcap: Option<f32>,
}

/// Attention of queries `q` over `state`.
pub(crate) fn attention(
    device: &Device,
    ty: KvType,
    state: &State,
    [q, y]: [Ptr; 2],
    seqs: &Sequences,
    scores: &Scores,
) -> Result<(), CudaError> {
    let window = match scores.mask {
        Mask::Window(n) => i32::try_from(n).unwrap_or(i32::MAX),
        Mask::Causal | Mask::Bidirectional => 0,
    };
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
        heads: scores.heads as i32,
        scale: scores.scale,
        softcap: scores.softcap.unwrap_or(0.0),
        window,
        causal: i32::from(scores.mask != Mask::Bidirectional),
    };
    let kernel = format!("attention_{ty}");
    let shape = Shape::plane(scores.heads, seqs.n, 128);
    // SAFETY: rows behind q and y; tables name blocks that exist and hold the sequences
    // (`Batch::check`); heads are at most `WIDEST` wide (checked when the model was compiled).
    unsafe { launch!(device, &kernel, shape; arguments) }
}
