//! XTC, "exclude top choices": makes text less predictable by removing the likeliest tokens.

use super::candidates::Candidates;
use super::noise::Noise;

impl Candidates {
    /// With probability `probability`, removes every token of at least probability `threshold`
    /// except the least likely of them (p-e-w 2024, text-generation-webui pull request 6335).
    pub(super) fn xtc(&mut self, probability: f32, threshold: f32, noise: &Noise) {
        if probability <= 0.0 || noise.coin() >= f64::from(probability) {
            return;
        }
        let softmax = self.softmax();
        let above = |logit: f32| softmax.probability(logit) >= f64::from(threshold);
        // The least likely one; of equals the highest id, as if sorted with ties by rising id.
        let last = self
            .iter()
            .filter(|c| above(c.logit))
            .reduce(|last, c| if c.logit <= last.logit { c } else { last });
        if let Some(last) = last {
            self.retain(|c| c.id == last.id || !above(c.logit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(probabilities: &[f32], threshold: f32, probability: f32, position: u64) -> Vec<u32> {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let mut c = Candidates::top_k(&logits, 0);
        c.xtc(probability, threshold, &Noise::new(0, 0, position));
        c.iter().map(|c| c.id).collect()
    }

    #[test]
    fn keeps_the_least_likely_of_the_top_choices() {
        let p = [0.1, 0.4, 0.3, 0.2];
        assert_eq!(after(&p, 0.15, 1.0, 0), [0, 3]);
        assert_eq!(after(&p, 0.05, 1.0, 0), [0]);
        assert_eq!(after(&p, 0.35, 1.0, 0), [0, 1, 2, 3]);
        assert_eq!(after(&p, 0.45, 1.0, 0), [0, 1, 2, 3]);
        assert_eq!(after(&p, 0.15, 0.0, 0), [0, 1, 2, 3]);
    }

    #[test]
    fn acts_as_often_as_asked() {
        let acted = (0..10_000)
            .filter(|i| after(&[0.6, 0.4], 0.1, 0.3, *i).len() == 1)
            .count();
        // Binomial(10000, 0.3): four standard deviations are 183.
        assert!((2_817..=3_183).contains(&acted), "{acted}");
    }
}
