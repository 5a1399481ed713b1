//! From a row of logits to what was wanted of it: shared by executors that sample on the host.

use crate::sampler;

use super::{ExecError, Output, TokenMask, Want};

/// The output that `want` asks for, given the logits of row `row`.
///
/// # Errors
/// [`ExecError::NotFinite`] if the logits hold no number to choose by, or the sampler's own.
pub fn finish(
    row: usize,
    want: &Want,
    logits: &[f32],
    mask: Option<&TokenMask>,
) -> Result<Output, ExecError> {
    if logits.iter().any(|v| v.is_nan() || *v == f32::INFINITY) {
        return Err(ExecError::NotFinite { row });
    }
    match want {
        Want::Sample(job) => sampler::sample(logits, job, mask)
            .map(Output::Sampled)
            .map_err(|source| ExecError::Sample { row, source }),
        Want::Logits => Ok(Output::Logits(logits.to_vec())),
        Want::LogProb(token) => Ok(Output::LogProb(
            logits[*token as usize] - log_sum_exp(logits),
        )),
    }
}

/// `ln(sum(exp(x)))`, in f64.
pub(crate) fn log_sum_exp(x: &[f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|&v| f64::from(v - max).exp()).sum();
    max + sum.ln() as f32
}
