//! Truncations: `typical_p`, `top_p` and `min_p` (`top_k` makes the candidates, see
//! [`Candidates::top_k`]).

use super::candidates::Candidates;

impl Candidates {
    /// Locally typical sampling (Meister et al. 2022, arXiv:2202.00666): keeps the tokens whose
    /// information content is nearest the expected one, until they reach probability `p`.
    pub(super) fn typical_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let softmax = self.softmax();
        let entropy: f64 = self
            .iter()
            .map(|c| match softmax.probability(c.logit) {
                0.0 => 0.0,
                p => -p * softmax.ln(c.logit),
            })
            .sum();
        let typicality: Vec<f32> = self
            .iter()
            .map(|c| -(-softmax.ln(c.logit) - entropy).abs() as f32)
            .collect();
        self.keep_mass(&typicality, p);
    }

    /// Nucleus sampling (Holtzman et al. 2019, arXiv:1904.09751): keeps the most likely tokens
    /// until they reach probability `p`.
    pub(super) fn top_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let logits: Vec<f32> = self.iter().map(|c| c.logit).collect();
        self.keep_mass(&logits, p);
    }

    /// Min-p (Nguyen et al. 2024, arXiv:2407.01082): keeps the tokens with at least `p` times the
    /// probability of the most likely one.
    pub(super) fn min_p(&mut self, p: f32) {
        if p <= 0.0 {
            return;
        }
        let floor = self.max() + p.ln();
        self.retain(|c| c.logit >= floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates with these probabilities, ids from 0.
    fn of(probabilities: &[f32]) -> Candidates {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        Candidates::top_k(&logits, 0)
    }

    fn ids(candidates: &Candidates) -> Vec<u32> {
        candidates.iter().map(|c| c.id).collect()
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses_the_mass() {
        for (p, expected) in [
            (0.0, vec![2]),
            (0.39, vec![2]),
            (0.41, vec![0, 2]),
            (0.69, vec![0, 2]),
            (0.71, vec![0, 2, 3]),
            (0.95, vec![0, 1, 2, 3]),
            (1.0, vec![0, 1, 2, 3]),
        ] {
            let mut c = of(&[0.3, 0.1, 0.4, 0.2]);
            c.top_p(p);
            assert_eq!(ids(&c), expected, "p = {p}");
        }
    }

    #[test]
    fn top_p_reaches_beyond_its_first_guess_in_a_flat_distribution() {
        let mut c = of(&[1.0; 5000]);
        c.top_p(0.49995);
        assert_eq!(ids(&c), (0..2500).collect::<Vec<_>>());
    }

    #[test]
    fn min_p_compares_with_the_best() {
        let mut c = of(&[0.3, 0.1, 0.4, 0.2]);
        c.min_p(0.26);
        assert_eq!(ids(&c), [0, 2, 3]);
        c.min_p(0.74);
        assert_eq!(ids(&c), [0, 2]);
        c.min_p(1.0);
        assert_eq!(ids(&c), [2]);
    }

    #[test]
    fn typical_p_prefers_the_expected_surprise_to_the_best() {
        // Entropy 1.2799 nats; surprises 0.916, 1.204, 1.609, 2.303: 1 is nearest, then 2, then 0.
        let probabilities = [0.4, 0.3, 0.2, 0.1];
        for (p, expected) in [
            (0.29, vec![1]),
            (0.31, vec![1, 2]),
            (0.49, vec![1, 2]),
            (0.51, vec![0, 1, 2]),
        ] {
            let mut c = of(&probabilities);
            c.typical_p(p);
            assert_eq!(ids(&c), expected, "p = {p}");
        }
    }

    #[test]
    fn stages_renormalise_over_what_is_left() {
        let mut c = Candidates::top_k(&[0.3f32.ln(), 0.1f32.ln(), 0.4f32.ln(), 0.2f32.ln()], 2);
        // 0.4 and 0.3 are 4/7 and 3/7 now.
        c.top_p(0.56);
        assert_eq!(ids(&c), [2]);
    }
}
