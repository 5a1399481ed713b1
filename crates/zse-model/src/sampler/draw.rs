//! The draw itself.

use super::candidates::Candidate;
use super::noise::Noise;

/// The candidate with the largest `(logit - max) * (1 / temperature) + noise`, in f64: one drawn
/// from softmax. `candidates` come in rising order of id, are not empty, and `max` is their largest
/// logit.
pub(super) fn gumbel_max(
    candidates: impl Iterator<Item = Candidate>,
    max: f32,
    temperature: f32,
    noise: &Noise,
) -> u32 {
    let (max, sharpness) = (f64::from(max), 1.0 / f64::from(temperature));
    let mut best = (f64::NEG_INFINITY, 0);
    for c in candidates {
        let scaled = (f64::from(c.logit) - max) * sharpness;
        if noise.may_exceed(c.id, best.0 - scaled) {
            let score = scaled + noise.gumbel(c.id);
            if score > best.0 {
                best = (score, c.id);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::super::candidates::all;
    use super::*;

    /// Pearson's statistic of `draws` draws from softmax(`logits`).
    fn chi_square(logits: &[f32], temperature: f32, draws: u64) -> f64 {
        let weights: Vec<f64> = logits
            .iter()
            .map(|&l| (f64::from(l) / f64::from(temperature)).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let mut counts = vec![0u64; logits.len()];
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        for position in 0..draws {
            let noise = Noise::new(42, 3, position);
            counts[gumbel_max(all(logits), max, temperature, &noise) as usize] += 1;
        }
        let expected = |i: usize| weights[i] / total * draws as f64;
        (0..logits.len())
            .map(|i| (counts[i] as f64 - expected(i)).powi(2) / expected(i))
            .sum()
    }

    #[test]
    fn draws_follow_softmax() {
        // 9 degrees of freedom: a statistic above 27.9 has probability 0.001.
        let uniform = [0.0; 10];
        let skewed = [2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, -2.5];
        assert!(chi_square(&uniform, 1.0, 20_000) < 27.9);
        assert!(chi_square(&skewed, 1.0, 20_000) < 27.9);
        assert!(chi_square(&skewed, 0.7, 20_000) < 27.9);
        assert!(chi_square(&skewed, 3.0, 20_000) < 27.9);
    }

    #[test]
    fn the_statistic_notices_a_wrong_distribution() {
        let skewed = [2.0, 1.5, 1.0, 0.5, 0.0];
        let draws = 5_000;
        let weights: Vec<f64> = skewed.iter().map(|l: &f32| f64::from(*l).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut counts = [0u64; 5];
        for position in 0..draws {
            let noise = Noise::new(42, 3, position);
            counts[gumbel_max(all(&skewed), 2.0, 1.3, &noise) as usize] += 1;
        }
        let expected = |i: usize| weights[i] / total * draws as f64;
        let statistic: f64 = (0..5)
            .map(|i| (counts[i] as f64 - expected(i)).powi(2) / expected(i))
            .sum();
        assert!(statistic > 40.0, "{statistic}");
    }

    #[test]
    fn the_bound_changes_no_draw() {
        let logits: Vec<f32> = (0..5000)
            .map(|i| ((i * 7919) % 5000) as f32 * 0.004)
            .collect();
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        for position in 0..50 {
            let noise = Noise::new(5, 0, position);
            let score = |c: &Candidate| f64::from(c.logit) - f64::from(max) + noise.gumbel(c.id);
            let expected = all(&logits)
                .max_by(|a, b| score(a).total_cmp(&score(b)))
                .unwrap()
                .id;
            assert_eq!(gumbel_max(all(&logits), max, 1.0, &noise), expected);
        }
    }

    #[test]
    fn extreme_logits_and_temperatures_draw_something_possible() {
        let noise = Noise::new(1, 0, 0);
        let logits = [f32::MIN, 1.0, f32::MAX];
        assert_eq!(gumbel_max(all(&logits), f32::MAX, 1e-30, &noise), 2);
        assert_eq!(gumbel_max(all(&[-5.0]), -5.0, 1.0, &noise), 0);
        assert!(gumbel_max(all(&logits), f32::MAX, f32::MAX, &noise) < 3);
    }
}
