//! Mirostat (Basu et al. 2020, arXiv:2007.14966): truncates so that the surprise of what is drawn
//! stays near a target.

use super::candidates::{Candidates, best};
use super::noise::Noise;
use super::{Mirostat, draw};

/// How many of the most likely tokens version 1 fits its exponent to.
const FITTED: usize = 100;

/// Draws from `logits`, of which the largest is `max`: the token, and the estimate after it.
pub(super) fn choose(
    logits: &[f32],
    max: f32,
    temperature: f32,
    mirostat: &Mirostat,
    mu: f32,
    noise: &Noise,
) -> (u32, f32) {
    let scaled: Vec<f32> = logits
        .iter()
        .map(|&l| ((f64::from(l) - f64::from(max)) / f64::from(temperature)) as f32)
        .collect();
    let candidates = truncate(&scaled, mirostat, mu);
    let token = draw::gumbel_max(candidates.iter(), candidates.max(), 1.0, noise);
    (token, updated(&candidates, token, mirostat, mu))
}

/// The tokens that the estimate `mu` lets through.
fn truncate(logits: &[f32], mirostat: &Mirostat, mu: f32) -> Candidates {
    if mirostat.version == 1 {
        return Candidates::top_k(logits, zipf_top_k(logits, mu));
    }
    let mut candidates = Candidates::top_k(logits, 0);
    let softmax = candidates.softmax();
    let best = candidates.max();
    let surprise = |logit: f32| -softmax.ln(logit) / std::f64::consts::LN_2;
    if surprise(best) > f64::from(mu) {
        return Candidates::top_k(logits, 1);
    }
    candidates.retain(|c| surprise(c.logit) <= f64::from(mu));
    candidates
}

/// Version 1: how many tokens to keep if probabilities fall by Zipf's law with the exponent that
/// fits the head of the distribution (equations 9 and 10 of the paper).
fn zipf_top_k(logits: &[f32], mu: f32) -> u32 {
    let head: Vec<f32> = best(logits.iter().copied(), FITTED)
        .into_iter()
        .map(|r| r.key)
        .filter(|l| *l > f32::NEG_INFINITY)
        .collect();
    let (mut tb, mut tt) = (0.0f64, 0.0f64);
    for (i, pair) in head.windows(2).enumerate() {
        let t = ((i + 2) as f64 / (i + 1) as f64).ln();
        tb += t * f64::from(pair[0] - pair[1]);
        tt += t * t;
    }
    let exponent = tb / tt;
    let eps = exponent - 1.0;
    let vocab = logits.len() as f64;
    // The limit where the exponent is 1.
    let scale = if eps.abs() < 1e-9 {
        1.0 / vocab.ln()
    } else {
        eps / (1.0 - vocab.powf(-eps))
    };
    let k = (scale * f64::from(mu).exp2()).powf(1.0 / exponent);
    // A cast saturates and takes NaN to 0; at least one token is kept.
    (k as u32).max(1)
}

/// The estimate after `token` was drawn from `candidates`.
fn updated(candidates: &Candidates, token: u32, mirostat: &Mirostat, mu: f32) -> f32 {
    let softmax = candidates.softmax();
    let logit = candidates
        .iter()
        .find(|c| c.id == token)
        .map_or(candidates.max(), |c| c.logit);
    let surprise = (-softmax.ln(logit) / std::f64::consts::LN_2) as f32;
    mu - mirostat.eta * (surprise - mirostat.tau)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The kept ids, and the estimate after `token`, for the golden test.
    pub(in crate::sampler) fn stage(
        logits: &[f32],
        mirostat: &Mirostat,
        mu: f32,
        token: u32,
    ) -> (Vec<u32>, f32) {
        let kept = truncate(logits, mirostat, mu);
        (
            kept.iter().map(|c| c.id).collect(),
            updated(&kept, token, mirostat, mu),
        )
    }

    const V2: Mirostat = Mirostat {
        version: 2,
        tau: 3.0,
        eta: 0.1,
    };
    const V1: Mirostat = Mirostat {
        version: 1,
        tau: 3.0,
        eta: 0.1,
    };

    #[test]
    fn version_two_cuts_by_surprise() {
        // Surprises 1, 2, 3 and 3 bits.
        let logits = [0.125f32.ln(), 0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln()];
        assert_eq!(stage(&logits, &V2, 2.5, 1).0, [1, 2]);
        assert_eq!(stage(&logits, &V2, 1.5, 1).0, [1]);
        assert_eq!(stage(&logits, &V2, 0.5, 1).0, [1]);
        // Renormalised, token 2 has 1/3: log2(3) bits.
        let (_, mu) = stage(&logits, &V2, 2.5, 2);
        assert!(
            (mu - (2.5 - 0.1 * (3f32.log2() - 3.0))).abs() < 1e-5,
            "{mu}"
        );
    }

    #[test]
    fn surprise_settles_at_the_target() {
        for mirostat in [V1, V2] {
            // Zipf's law over 2000 tokens: about 7.9 bits of surprise if nothing is cut.
            let logits: Vec<f32> = (1..=2000).map(|r| -(r as f32).ln()).collect();
            let softmax = Candidates::top_k(&logits, 0).softmax();
            let mut mu = 2.0 * mirostat.tau;
            let mut surprise = 0.0;
            for position in 0..3000 {
                let noise = Noise::new(9, 0, position);
                let kept = truncate(&logits, &mirostat, mu);
                let token;
                (token, mu) = choose(&logits, 0.0, 1.0, &mirostat, mu, &noise);
                if position >= 1000 {
                    surprise -= (softmax.ln(logits[token as usize])
                        - kept
                            .iter()
                            .map(|c| softmax.probability(c.logit))
                            .sum::<f64>()
                            .ln())
                        / std::f64::consts::LN_2;
                }
            }
            let mean = surprise / 2000.0;
            assert!(
                (mean - 3.0).abs() < 0.15,
                "version {}: {mean}",
                mirostat.version
            );
        }
    }

    #[test]
    fn degenerate_distributions_keep_a_token() {
        let noise = Noise::new(0, 0, 0);
        for mirostat in [V1, V2] {
            for logits in [vec![0.0], vec![0.0; 50], vec![0.0, f32::NEG_INFINITY]] {
                for mu in [f32::NAN, f32::NEG_INFINITY, -3.0, 0.0, 1e30] {
                    let (token, _) = choose(&logits, 0.0, 1.0, &mirostat, mu, &noise);
                    assert!(logits[token as usize] == 0.0);
                }
            }
        }
    }
}
