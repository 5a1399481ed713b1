//! Tests of the whole chain.

use std::sync::Arc;

use super::*;

fn job(params: SampleParams) -> SampleJob {
    job_at(params, 0)
}

fn job_at(params: SampleParams, position: u64) -> SampleJob {
    let mu = params.initial_mu();
    SampleJob {
        params: Arc::new(params),
        history: vec![],
        choice: 0,
        position,
        mu,
    }
}

/// Random-looking logits in [-8, 8).
fn logits(n: u32, seed: u32) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let h = (i ^ seed)
                .wrapping_mul(2_654_435_761)
                .rotate_left(13)
                .wrapping_mul(0x85eb_ca6b);
            (h >> 8) as f32 / (1 << 20) as f32 - 8.0
        })
        .collect()
}

/// The tokens that 400 draws give.
fn drawn(logits: &[f32], params: &SampleParams) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..400)
        .map(|position| {
            sample(logits, &job_at(params.clone(), position), None)
                .unwrap()
                .token
        })
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

#[test]
fn greedy_takes_the_lowest_of_the_best() {
    let s = sample(&[0.0, 2.0, 2.0], &job(SampleParams::greedy()), None).unwrap();
    assert_eq!(s.token, 1);
    let probability = 2f64.exp() / (1.0 + 2.0 * 2f64.exp());
    assert!((f64::from(s.logprob) - probability.ln()).abs() < 1e-6);
    assert_eq!(s.top, []);
}

#[test]
fn greedy_sees_biases_masks_and_penalties() {
    let x = [1.0, 3.0, 2.0, 0.0];
    let params = SampleParams {
        logit_bias: vec![(1, f32::NEG_INFINITY)],
        ..SampleParams::greedy()
    };
    assert_eq!(sample(&x, &job(params.clone()), None).unwrap().token, 2);
    let mask = vec![0b1001];
    assert_eq!(sample(&x, &job(params), Some(&mask)).unwrap().token, 0);
    let params = SampleParams {
        presence_penalty: 1.5,
        ..SampleParams::greedy()
    };
    let job = SampleJob {
        history: vec![1],
        ..job(params)
    };
    assert_eq!(sample(&x, &job, None).unwrap().token, 2);
}

#[test]
fn greedy_ignores_what_would_remove_the_best() {
    let params = SampleParams {
        xtc_probability: 1.0,
        xtc_threshold: 0.0,
        typical_p: 0.01,
        mirostat: Some(Mirostat {
            version: 2,
            tau: 5.0,
            eta: 0.1,
        }),
        ..SampleParams::greedy()
    };
    assert_eq!(
        sample(&[0.0, 5.0, 4.0], &job(params), None).unwrap().token,
        1
    );
}

#[test]
fn reported_probabilities_are_the_models_own() {
    let params = SampleParams {
        logit_bias: vec![(0, 50.0)],
        temperature: 0.3,
        top_logprobs: 2,
        ..SampleParams::default()
    };
    let x = [0.0, 1.0, 2.0];
    let s = sample(&x, &job(params), None).unwrap();
    let p = LogProbs::new(&x).unwrap();
    assert_eq!(s.token, 0);
    assert_eq!(s.logprob, p.of(0));
    assert_eq!(s.top, [(2, p.of(2)), (1, p.of(1))]);
}

#[test]
fn faults_are_errors_whatever_the_settings() {
    for params in [
        SampleParams::greedy(),
        SampleParams {
            top_k: 2,
            ..SampleParams::default()
        },
    ] {
        let job = job(params);
        let e = |x: &[f32], mask: Option<TokenMask>| sample(x, &job, mask.as_ref()).unwrap_err();
        assert_eq!(
            e(&[0.0, f32::NAN], None),
            SampleError::NotFinite { token: 1 }
        );
        assert_eq!(
            e(&[0.0, f32::INFINITY], None),
            SampleError::NotFinite { token: 1 }
        );
        assert_eq!(e(&[f32::NEG_INFINITY; 4], None), SampleError::NoCandidates);
        assert_eq!(e(&[0.0, 1.0], Some(vec![0b100])), SampleError::NoCandidates);
        assert_eq!(e(&[0.0, 1.0], Some(vec![])), SampleError::NoCandidates);
    }
}

#[test]
fn a_mask_never_lets_a_token_through() {
    let x = logits(200, 3);
    let mask: TokenMask = vec![0x00ff_0000_0000_0f00, 0, 1 << 63, 0];
    let allowed = |t: u32| mask[t as usize / 64] >> (t % 64) & 1 == 1;
    for params in [
        SampleParams::default(),
        SampleParams {
            top_k: 50,
            ..SampleParams::default()
        },
        SampleParams {
            typical_p: 0.5,
            temperature: 5.0,
            ..SampleParams::default()
        },
        SampleParams {
            xtc_probability: 1.0,
            xtc_threshold: 0.01,
            ..SampleParams::default()
        },
        SampleParams {
            mirostat: Some(Mirostat {
                version: 1,
                tau: 5.0,
                eta: 0.1,
            }),
            ..SampleParams::default()
        },
    ] {
        for position in 0..200 {
            let token = sample(&x, &job_at(params.clone(), position), Some(&mask))
                .unwrap()
                .token;
            assert!(allowed(token), "{token} with {params:?}");
        }
    }
}

#[test]
fn seed_choice_and_position_decide_the_draw() {
    let x = logits(1000, 1);
    let run = |seed, choice| -> Vec<u32> {
        (0..50)
            .map(|position| {
                let params = SampleParams {
                    seed,
                    ..SampleParams::default()
                };
                sample(
                    &x,
                    &SampleJob {
                        choice,
                        ..job_at(params, position)
                    },
                    None,
                )
                .unwrap()
                .token
            })
            .collect()
    };
    assert_eq!(run(1, 0), run(1, 0));
    assert_ne!(run(1, 0), run(2, 0));
    assert_ne!(run(1, 0), run(1, 1));
}

#[test]
fn a_truncation_that_keeps_the_drawn_token_does_not_change_it() {
    // Noise belongs to the token, not to its place among the candidates.
    let x = logits(3000, 2);
    for position in 0..100 {
        let free = sample(&x, &job_at(SampleParams::default(), position), None)
            .unwrap()
            .token;
        let params = SampleParams {
            min_p: 1e-5,
            top_k: 2999,
            ..SampleParams::default()
        };
        assert_eq!(
            sample(&x, &job_at(params, position), None).unwrap().token,
            free
        );
    }
}

#[test]
fn truncations_come_before_temperature() {
    // At temperature 1 token 0 has 0.88: top_p 0.8 leaves it alone, however hot the draw is.
    let params = SampleParams {
        top_p: 0.8,
        temperature: 100.0,
        ..SampleParams::default()
    };
    assert_eq!(drawn(&[4.0, 2.0, 0.0], &params), [0]);
    let params = SampleParams {
        top_k: 2,
        temperature: 100.0,
        ..SampleParams::default()
    };
    assert_eq!(drawn(&[4.0, 2.0, 0.0], &params), [0, 1]);
}

#[test]
fn penalties_come_before_truncations() {
    let params = SampleParams {
        top_k: 1,
        presence_penalty: 3.0,
        ..SampleParams::default()
    };
    let job = SampleJob {
        history: vec![0],
        ..job(params)
    };
    assert_eq!(sample(&[4.0, 2.0, 0.0], &job, None).unwrap().token, 1);
}

#[test]
fn xtc_comes_after_truncations() {
    // Of 0.47, 0.29, 0.17 and 0.06, top_k 2 leaves two, of which XTC removes the first.
    let params = SampleParams {
        top_k: 2,
        xtc_probability: 1.0,
        xtc_threshold: 0.1,
        ..SampleParams::default()
    };
    assert_eq!(drawn(&[2.0, 1.5, 1.0, 0.0], &params), [1]);
}

#[test]
fn typical_p_comes_before_top_p() {
    // Of 0.4, 0.3, 0.2 and 0.1, typical_p 0.45 leaves 0.3 and 0.2, renormalised 0.6 and 0.4.
    let x = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
    let params = SampleParams {
        typical_p: 0.45,
        top_p: 0.59,
        ..SampleParams::default()
    };
    assert_eq!(drawn(&x, &params), [1]);
    assert_eq!(
        drawn(
            &x,
            &SampleParams {
                top_p: 0.61,
                ..params
            }
        ),
        [1, 2]
    );
}

#[test]
fn extreme_settings_draw_an_allowed_token() {
    let mut x = logits(500, 7);
    x[3] = f32::MAX;
    x[4] = f32::MIN;
    x[5] = f32::NEG_INFINITY;
    for temperature in [1e-38, 1e-3, 1.0, f32::MAX] {
        for top_p in [0.0, 1e-9, 0.5, 1.0] {
            for min_p in [0.0, 1e-30, 1.0] {
                for typical_p in [0.0, 0.5, 1.0] {
                    let p = SampleParams {
                        temperature,
                        top_p,
                        min_p,
                        typical_p,
                        ..SampleParams::default()
                    };
                    let token = sample(&x, &job(p), None).unwrap().token;
                    assert!(token != 5 && (token as usize) < x.len());
                }
            }
        }
    }
}
