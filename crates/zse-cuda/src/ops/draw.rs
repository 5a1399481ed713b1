//! `kernels/draw.cu`: tokens drawn from rows of logits.

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// The token of a row that allows none.
pub(crate) const NONE: u32 = u32::MAX;

/// The token of a row whose draw the kernel leaves to the host.
pub(crate) const UNDECIDED: u32 = u32::MAX - 1;

/// `Draw` of the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Draw {
    /// Of the noise.
    pub(crate) key: u64,
    pub(crate) temperature: f32,
    pub(crate) top_k: i32,
    pub(crate) top_p: f32,
    /// Logarithm of min-p.
    pub(crate) floor: f32,
    pub(crate) repetition: f32,
    pub(crate) presence: f32,
    pub(crate) frequency: f32,
    pub(crate) row: i32,
    /// The first 64-bit word of its mask, -1: none.
    pub(crate) mask: i32,
    /// Its changes.
    pub(crate) begin: i32,
    pub(crate) end: i32,
}

impl Draw {
    /// As words, in the kernel's order.
    pub(crate) fn words(&self) -> [u32; size_of::<Self>() / 4] {
        [
            self.key as u32,
            (self.key >> 32) as u32,
            self.temperature.to_bits(),
            self.top_k as u32,
            self.top_p.to_bits(),
            self.floor.to_bits(),
            self.repetition.to_bits(),
            self.presence.to_bits(),
            self.frequency.to_bits(),
            self.row as u32,
            self.mask as u32,
            self.begin as u32,
            self.end as u32,
            0,
        ]
    }
}

/// `Change` of the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Change {
    pub(crate) token: u32,
    pub(crate) bias: f32,
    /// How often it was said.
    pub(crate) count: u32,
    /// Place for the model's own logit.
    pub(crate) kept: f32,
}

impl Change {
    /// As words, in the kernel's order.
    pub(crate) fn words(&self) -> [u32; size_of::<Self>() / 4] {
        [
            self.token,
            self.bias.to_bits(),
            self.count,
            self.kept.to_bits(),
        ]
    }
}

/// What draws read and write on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Of `kernels/sample.cu`.
    pub(crate) best: Ptr,
    pub(crate) draws: Ptr,
    pub(crate) masks: Ptr,
    pub(crate) changes: Ptr,
    /// A word for each draw.
    pub(crate) tokens: Ptr,
    /// Two words for each draw: its token, and the logarithm of its probability (f32).
    pub(crate) results: Ptr,
}

/// Draws `n` tokens from rows of `vocab` logits.
pub(crate) fn draw(
    device: &Device,
    logits: Ptr,
    at: &Places,
    n: usize,
    vocab: usize,
) -> Result<(), CudaError> {
    let &Places {
        best,
        draws,
        masks,
        changes,
        tokens,
        results,
    } = at;
    let vocab = vocab as i32;
    let few = Shape::line(n, 128);
    // SAFETY: n draws of rows that exist, whose masks and changes lie behind theirs and name tokens that exist;
    // room for n results.
    unsafe {
        launch!(device, "draw_change", few; logits, draws, changes, vocab)?;
        launch!(device, "draw_tokens", Shape::line(n, 1024); logits, draws, masks, tokens, vocab)?;
        launch!(device, "draw_finish", few; logits, draws, changes, best, tokens, results, vocab)
    }
}
