//! The random numbers of a draw: a function of (seed, choice, position, token), not a sequence.

use std::f64::consts::LN_2;

/// The noise of one draw: for each token a number from the standard Gumbel distribution.
///
/// Built on `SplitMix64` (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
/// generators"). With `mix` its finaliser and `G = 0x9e3779b97f4a7c15` its increment:
/// ```text
/// absorb(h, x) = mix((h ^ x) + G)
/// key(s)       = absorb(absorb(absorb(absorb(0, seed), choice), position), s)
/// bits(key, i) = mix(key + (i + 1) * G)         the i-th output of SplitMix64 seeded by key
/// v            = ((bits >> 12) + 0.5) * 2^-52   uniform in (0, 1)
/// gumbel       = -ln(-ln(1 - v))
/// ```
/// all on wrapping 64-bit integers. Stream `s` 0 has the tokens' noise (`i` is the token), stream 1
/// the coin that XTC throws (`i` is 0).
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    tokens: u64,
    coin: u64,
}

const G: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn absorb(h: u64, x: u64) -> u64 {
    mix((h ^ x).wrapping_add(G))
}

fn bits(key: u64, i: u64) -> u64 {
    mix(key.wrapping_add(i.wrapping_add(1).wrapping_mul(G)))
}

/// Uniform in the open interval (0, 1), from the upper 52 bits.
fn uniform(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

impl Noise {
    /// The noise of the draw at `position` of choice `choice` of a request with `seed`.
    pub fn new(seed: u64, choice: u32, position: u64) -> Self {
        let draw = absorb(absorb(absorb(0, seed), choice.into()), position);
        Self {
            tokens: absorb(draw, 0),
            coin: absorb(draw, 1),
        }
    }

    /// The key of the tokens' stream, which is all that their noise depends on: for devices that draw.
    pub fn key(&self) -> u64 {
        self.tokens
    }

    /// The noise of `token`.
    pub fn gumbel(&self, token: u32) -> f64 {
        let v = uniform(bits(self.tokens, token.into()));
        -(-(-v).ln_1p()).ln()
    }

    /// Whether the noise of `token` may exceed `floor`; `false` is certain. Costs a few integer
    /// operations, so that nearly all tokens of a vocabulary never see a logarithm.
    ///
    /// `-ln(1 - v) >= v`, so the noise is at most `-ln(v)`, and `v >= 2^-(z+1)` for `z` leading
    /// zeros of its bits.
    pub(super) fn may_exceed(&self, token: u32, floor: f64) -> bool {
        let zeros = (bits(self.tokens, token.into()) >> 12 << 12).leading_zeros();
        f64::from(zeros.min(52) + 1) * LN_2 + 1e-9 > floor
    }

    /// A uniform number in (0, 1) for decisions about the draw as a whole.
    pub(super) fn coin(&self) -> f64 {
        uniform(bits(self.coin, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_splitmix64() {
        // The first outputs for seed 1234567, as published with the algorithm's test suites.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (i, e) in expected.into_iter().enumerate() {
            assert_eq!(bits(1_234_567, i as u64), e);
        }
    }

    #[test]
    fn gumbel_noise_has_its_mean_and_variance() {
        let n = 200_000u32;
        let noise = Noise::new(1, 0, 0);
        let (mut sum, mut squares) = (0.0, 0.0);
        for token in 0..n {
            let g = noise.gumbel(token);
            sum += g;
            squares += g * g;
        }
        let mean = sum / f64::from(n);
        let variance = squares / f64::from(n) - mean * mean;
        // Euler's constant and pi^2 / 6; the standard errors are 0.0029 and 0.0077.
        assert!((mean - 0.577_215_66).abs() < 0.012, "{mean}");
        assert!((variance - 1.644_934_07).abs() < 0.03, "{variance}");
    }

    #[test]
    fn every_part_of_the_key_changes_the_noise() {
        let base = Noise::new(7, 0, 100).gumbel(5);
        let others = [
            Noise::new(8, 0, 100).gumbel(5),
            Noise::new(7, 1, 100).gumbel(5),
            Noise::new(7, 0, 101).gumbel(5),
            Noise::new(7, 0, 100).gumbel(6),
            Noise::new(0, 7, 100).gumbel(5),
            Noise::new(7, 100, 0).gumbel(5),
        ];
        assert!(others.iter().all(|g| *g != base));
    }

    #[test]
    fn the_bound_never_rules_out_a_winner() {
        let noise = Noise::new(3, 0, 9);
        let mut ruled_out = 0;
        for token in 0..100_000 {
            let g = noise.gumbel(token);
            assert!(noise.may_exceed(token, g - 1e-9), "token {token}: {g}");
            ruled_out += u32::from(!noise.may_exceed(token, 6.0));
        }
        assert!(ruled_out > 98_000, "only {ruled_out} of 100000 ruled out");
    }

    #[test]
    fn extreme_bits_stay_finite() {
        for b in [0, u64::MAX] {
            let v = uniform(b);
            assert!(v > 0.0 && v < 1.0);
            assert!((-(-(-v).ln_1p()).ln()).is_finite());
        }
    }
}
