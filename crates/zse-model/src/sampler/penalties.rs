//! What changes the logits of single tokens: `logit_bias` and the penalties on repeated tokens.

use super::{SampleError, SampleParams};

/// Adds the biases; a token that is named twice gets both.
pub(super) fn bias(logits: &mut [f32], biases: &[(u32, f32)]) -> Result<(), SampleError> {
    let vocab = logits.len();
    for &(token, bias) in biases {
        let logit = logits
            .get_mut(token as usize)
            .ok_or(SampleError::UnknownToken { token, vocab })?;
        *logit = finite(*logit + bias);
    }
    Ok(())
}

/// Lowers the tokens among the newest [`SampleParams::penalty_last_n`] of `history`: repetition
/// penalty (Keskar et al. 2019, arXiv:1909.05858; negative logits multiplied, so that they fall as
/// well), then frequency and presence penalty as OpenAI's API defines them.
pub(super) fn penalize(logits: &mut [f32], history: &[u32], p: &SampleParams) {
    let mut seen = newest(history, p.penalty_last_n).to_vec();
    seen.sort_unstable();
    for run in seen.chunk_by(|a, b| a == b) {
        let Some(logit) = logits.get_mut(run[0] as usize) else {
            continue;
        };
        let repeated = if *logit <= 0.0 {
            *logit * p.repetition_penalty
        } else {
            *logit / p.repetition_penalty
        };
        *logit = finite(repeated - (run.len() as f32 * p.frequency_penalty + p.presence_penalty));
    }
}

/// The newest `n` tokens; `None`: all.
pub(super) fn newest(history: &[u32], n: Option<u32>) -> &[u32] {
    let n = n.map_or(history.len(), |n| history.len().min(n as usize));
    &history[history.len() - n..]
}

/// Sums that overflow stay numbers; forbidden tokens (negative infinity) stay forbidden.
pub(super) fn finite(x: f32) -> f32 {
    if x.is_nan() {
        f32::NEG_INFINITY
    } else {
        x.min(f32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_add_up_and_unknown_tokens_are_refused() {
        let mut logits = [0.0, 1.0];
        bias(&mut logits, &[(1, 2.0), (0, -1.0), (1, 0.5)]).unwrap();
        assert_eq!(logits, [-1.0, 3.5]);
        assert_eq!(
            bias(&mut logits, &[(2, 1.0)]),
            Err(SampleError::UnknownToken { token: 2, vocab: 2 })
        );
    }

    #[test]
    fn repetition_lowers_positive_and_negative_logits_once() {
        let p = SampleParams {
            repetition_penalty: 2.0,
            ..SampleParams::default()
        };
        let mut logits = [3.0, -3.0, 1.0];
        penalize(&mut logits, &[0, 1, 0, 1, 1, 77], &p);
        assert_eq!(logits, [1.5, -6.0, 1.0]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not() {
        let p = SampleParams {
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            ..SampleParams::default()
        };
        let mut logits = [3.0, 3.0, 3.0];
        penalize(&mut logits, &[0, 1, 0, 0], &p);
        assert_eq!(logits, [1.25, 2.25, 3.0]);
    }

    #[test]
    fn only_the_newest_tokens_count() {
        let p = SampleParams {
            presence_penalty: 1.0,
            penalty_last_n: Some(2),
            ..SampleParams::default()
        };
        let mut logits = [0.0; 4];
        penalize(&mut logits, &[0, 1, 2, 3], &p);
        assert_eq!(logits, [0.0, 0.0, -1.0, -1.0]);
    }

    #[test]
    fn overflow_and_forbidden_tokens_stay_ordered() {
        let p = SampleParams {
            repetition_penalty: 1e-30,
            ..SampleParams::default()
        };
        let mut logits = [f32::MAX, f32::NEG_INFINITY];
        penalize(&mut logits, &[0, 1], &p);
        assert_eq!(logits, [f32::MAX, f32::NEG_INFINITY]);
        bias(&mut logits, &[(0, f32::NEG_INFINITY), (1, 100.0)]).unwrap();
        assert_eq!(logits, [f32::NEG_INFINITY; 2]);
    }
}
