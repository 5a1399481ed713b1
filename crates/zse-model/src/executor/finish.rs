//! From a row of logits to what was wanted of it: shared by executors that sample on the host.

use crate::sampler::{self, LogProbs, SampleError};

use super::{ExecError, Output, TokenMask, Want};

/// The output that `want` asks for, given the logits of row `row`.
///
/// # Errors
/// [`ExecError::NotFinite`] if a logit is NaN or positive infinity, or the sampler's own.
pub fn finish(
    row: usize,
    want: &Want,
    logits: &[f32],
    mask: Option<&TokenMask>,
) -> Result<Output, ExecError> {
    let output = match want {
        Want::Sample(job) => sampler::sample(logits, job, mask).map(Output::Sampled),
        Want::Logits => LogProbs::new(logits).map(|_| Output::Logits(logits.to_vec())),
        Want::LogProb(token) => LogProbs::new(logits).map(|p| Output::LogProb(p.of(*token))),
    };
    output.map_err(|error| match error {
        SampleError::NotFinite { .. } => ExecError::NotFinite { row },
        source => ExecError::Sample { row, source },
    })
}
