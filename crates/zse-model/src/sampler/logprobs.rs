//! The model's own probabilities.

use super::SampleError;
use super::candidates::best;
use super::math;

/// Log-probabilities of a row of logits, without a copy of it.
#[derive(Clone, Copy, Debug)]
pub struct LogProbs<'a> {
    logits: &'a [f32],
    /// `ln(sum(exp(logits)))`.
    total: f64,
}

impl<'a> LogProbs<'a> {
    /// Of `logits` (`[vocab]`).
    ///
    /// # Errors
    /// If a logit is NaN or positive infinity, or all are negative infinity.
    pub fn new(logits: &'a [f32]) -> Result<Self, SampleError> {
        if let Some(token) = math::first_unusable(logits) {
            return Err(SampleError::NotFinite {
                token: token as u32,
            });
        }
        let max = math::max(logits);
        if max == f32::NEG_INFINITY {
            return Err(SampleError::NoCandidates);
        }
        Ok(Self {
            logits,
            total: f64::from(max) + math::exp_sum(logits, max).ln(),
        })
    }

    /// Natural logarithm of the probability of `token`; negative infinity for one that the model
    /// forbids or does not have.
    pub fn of(&self, token: u32) -> f32 {
        let logit = self
            .logits
            .get(token as usize)
            .copied()
            .unwrap_or(f32::NEG_INFINITY);
        (f64::from(logit) - self.total) as f32
    }

    /// The `n` most likely tokens with their log-probabilities, best first; none that the model
    /// forbids.
    pub fn top(&self, n: usize) -> Vec<(u32, f32)> {
        best(self.logits.iter().copied(), n)
            .into_iter()
            .filter(|r| r.key > f32::NEG_INFINITY)
            .map(|r| (r.index as u32, self.of(r.index as u32)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_softmax() {
        let logits = [1.0, 3.0, 2.0, f32::NEG_INFINITY];
        let total = (1f64.exp() + 3f64.exp() + 2f64.exp()).ln();
        let p = LogProbs::new(&logits).unwrap();
        for (i, l) in [1.0, 3.0, 2.0].into_iter().enumerate() {
            assert!((f64::from(p.of(i as u32)) - (l - total)).abs() < 1e-6);
        }
        assert_eq!(p.of(3), f32::NEG_INFINITY);
        assert_eq!(p.of(4), f32::NEG_INFINITY);
        assert_eq!(p.top(2), [(1, p.of(1)), (2, p.of(2))]);
        assert_eq!(p.top(0), []);
        assert_eq!(p.top(9).len(), 3);
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        let e = |logits: &[f32]| LogProbs::new(logits).unwrap_err();
        assert_eq!(e(&[0.0, f32::NAN]), SampleError::NotFinite { token: 1 });
        assert_eq!(e(&[f32::INFINITY]), SampleError::NotFinite { token: 0 });
        assert_eq!(e(&[f32::NEG_INFINITY; 3]), SampleError::NoCandidates);
        assert_eq!(e(&[]), SampleError::NoCandidates);
    }
}
