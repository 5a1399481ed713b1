//! DRY, "don't repeat yourself": lowers tokens that would continue a passage said before.

use std::collections::HashMap;

use super::SampleParams;
use super::penalties::{finite, newest};

/// Lowers every token that would extend a repetition of length `n >= dry_allowed_length` by
/// `dry_multiplier * dry_base^(n - dry_allowed_length)` (p-e-w 2024, text-generation-webui pull
/// request 5677). A repetition is a run of tokens at the end of `history` that stands earlier in it
/// as well; it does not reach across a token of `dry_breakers`, and breakers are never lowered.
pub(super) fn penalize(logits: &mut [f32], history: &[u32], p: &SampleParams) {
    let history = newest(history, p.dry_last_n);
    let longest = history
        .iter()
        .rev()
        .take_while(|t| !p.dry_breakers.contains(t))
        .count();
    if longest < p.dry_allowed_length as usize {
        return;
    }
    let mut repeats: HashMap<u32, usize> = HashMap::new();
    for (i, run) in runs_at_end(history).into_iter().enumerate() {
        let run = run.min(longest);
        if run >= p.dry_allowed_length as usize && !p.dry_breakers.contains(&history[i]) {
            let longest_of_token = repeats.entry(history[i]).or_default();
            *longest_of_token = run.max(*longest_of_token);
        }
    }
    for (token, run) in repeats {
        if let Some(logit) = logits.get_mut(token as usize) {
            let growth = (run - p.dry_allowed_length as usize) as f32;
            let penalty = p.dry_multiplier * p.dry_base.powf(growth);
            // An overflowing penalty lowers a token as far as can be without forbidding it.
            *logit = finite(*logit - penalty.min(f32::MAX)).max(f32::MIN.min(*logit));
        }
    }
}

/// For each place `i` of `x`: how many tokens just before it equal the tokens at the end of `x`.
///
/// The Z-algorithm (Gusfield 1997, section 1.4) on `x` reversed: linear in the length.
fn runs_at_end(x: &[u32]) -> Vec<usize> {
    let n = x.len();
    let at = |i: usize| x[n - 1 - i];
    let mut runs = vec![0; n];
    // z[k] = runs[n - k]: reversed, `at(k..k + z)` equals `at(0..z)`; [left, right) is the match
    // that reaches farthest.
    let (mut left, mut right) = (0, 0);
    for k in 1..n {
        let mut z = if k < right {
            runs[n - (k - left)].min(right - k)
        } else {
            0
        };
        while k + z < n && at(z) == at(k + z) {
            z += 1;
        }
        if k + z > right {
            (left, right) = (k, k + z);
        }
        runs[n - k] = z;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(x: &[u32]) -> Vec<usize> {
        (0..x.len())
            .map(|i| {
                x[..i]
                    .iter()
                    .rev()
                    .zip(x.iter().rev())
                    .take_while(|(a, b)| a == b)
                    .count()
            })
            .collect()
    }

    #[test]
    fn runs_are_those_of_the_definition() {
        assert_eq!(runs_at_end(&[]), Vec::<usize>::new());
        // a b c c b c y a b c
        assert_eq!(
            runs_at_end(&[0, 1, 2, 2, 1, 2, 9, 0, 1, 2]),
            [0, 0, 0, 3, 1, 0, 2, 0, 0, 0]
        );
        let mut state = 1u32;
        for len in 0..200 {
            let x: Vec<u32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) % 2
                })
                .collect();
            assert_eq!(runs_at_end(&x), naive(&x), "{x:?}");
        }
    }

    fn lowered(history: &[u32], p: &SampleParams) -> Vec<f32> {
        let mut logits = vec![0.0; 10];
        penalize(&mut logits, history, p);
        logits
    }

    #[test]
    fn penalty_grows_with_the_length_of_the_repetition() {
        let p = SampleParams {
            dry_multiplier: 1.0,
            dry_base: 2.0,
            ..SampleParams::default()
        };
        // After `1 2 3 4 .. 1 2 3`, token 4 extends a repetition of 3: 2^(3 - 2).
        let expected = [0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(lowered(&[1, 2, 3, 4, 9, 1, 2, 3], &p), expected);
        // A repetition of 1 is free.
        assert_eq!(lowered(&[1, 2, 3, 1], &p), [0.0; 10]);
    }

    #[test]
    fn breakers_end_a_repetition_and_are_never_lowered() {
        let p = SampleParams {
            dry_multiplier: 1.0,
            dry_base: 2.0,
            dry_breakers: vec![2],
            ..SampleParams::default()
        };
        assert_eq!(lowered(&[1, 2, 3, 4, 9, 1, 2, 3], &p), [0.0; 10]);
        let p = SampleParams {
            dry_breakers: vec![4],
            ..p
        };
        assert_eq!(lowered(&[1, 2, 3, 4, 9, 1, 2, 3], &p), [0.0; 10]);
    }

    #[test]
    fn only_the_newest_tokens_are_searched() {
        let p = SampleParams {
            dry_multiplier: 1.0,
            dry_base: 2.0,
            dry_last_n: Some(6),
            ..SampleParams::default()
        };
        // Of `3 4 9 1 2 3` only a repetition of 1 is left.
        assert_eq!(lowered(&[1, 2, 3, 4, 9, 1, 2, 3], &p), [0.0; 10]);
    }

    #[test]
    fn long_repetitions_stay_finite() {
        let p = SampleParams {
            dry_multiplier: 5.0,
            ..SampleParams::default()
        };
        let logits = lowered(&[7; 4000], &p);
        assert_eq!(logits[7], f32::MIN);
        assert!(logits.iter().all(|l| l.is_finite()));
    }
}
