//! `kernels/sample.cu`: the most likely token of each row.

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// Parts that a row is cut into.
const PARTS: usize = 32;

/// Words of a result: log-probability (f32), token, a sum, whether a logit is not finite.
pub(crate) const WORDS: usize = 4;

/// Bytes of what `n` rows need between the two kernels.
pub(crate) fn scratch_bytes(n: usize) -> usize {
    n.saturating_mul(PARTS * WORDS * 4)
}

/// Finds the best of each of `n` rows of `vocab` logits; [`WORDS`] words a row behind `best`.
pub(crate) fn best(
    device: &Device,
    logits: Ptr,
    [scratch, best]: [Ptr; 2],
    n: usize,
    vocab: usize,
) -> Result<(), CudaError> {
    let (vocab, parts) = (vocab as i32, PARTS as i32);
    // SAFETY: n rows of logits, `scratch_bytes(n)` behind scratch, n results behind best.
    unsafe {
        launch!(device, "best_of_parts", Shape::plane(PARTS, n, 256); logits, scratch, vocab)?;
        launch!(device, "best_of_rows", Shape::line(n, 32); scratch, best, parts)
    }
}
