//! Stages against llama.cpp's samplers: `tests/sampler/make_golden.py` made the expectations.

use serde_json::Value;

use super::candidates::Candidates;
use super::noise::Noise;
use super::{Mirostat, SampleParams, dry, mirostat, penalties};

fn floats(v: &Value) -> Vec<f32> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}

fn tokens(v: &Value) -> Vec<u32> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_u64().unwrap() as u32)
        .collect()
}

fn number(case: &Value, name: &str) -> f32 {
    case["args"][name].as_f64().unwrap() as f32
}

fn assert_close(got: &[f32], case: &Value) {
    for (i, (g, e)) in got.iter().zip(floats(&case["logits"])).enumerate() {
        assert!(
            (g - e).abs() <= 1e-5 * e.abs().max(1.0),
            "token {i}: {g}, not {e}: {}",
            case["args"]
        );
    }
}

/// The sorted ids that a truncation keeps, or the changed logits, compared with `case`.
fn check(case: &Value, logits: &[f32]) {
    let stage = case["stage"].as_str().unwrap();
    let all = Candidates::top_k(logits, 0);
    let kept = match stage {
        "top_k" => Candidates::top_k(logits, number(case, "k") as u32),
        "top_p" => with(all, |c| c.top_p(number(case, "p"))),
        "min_p" => with(all, |c| c.min_p(number(case, "p"))),
        "typical_p" => with(all, |c| c.typical_p(number(case, "p"))),
        "xtc" => with(all, |c| {
            c.xtc(1.0, number(case, "threshold"), &Noise::new(0, 0, 0))
        }),
        "penalties" => {
            let p = SampleParams {
                penalty_last_n: Some(number(case, "last_n") as u32),
                repetition_penalty: number(case, "repeat"),
                frequency_penalty: number(case, "frequency"),
                presence_penalty: number(case, "presence"),
                ..SampleParams::default()
            };
            let mut logits = logits.to_vec();
            penalties::penalize(&mut logits, &tokens(&case["args"]["history"]), &p);
            return assert_close(&logits, case);
        }
        "dry" => {
            let p = SampleParams {
                dry_multiplier: number(case, "multiplier"),
                dry_base: number(case, "base"),
                dry_allowed_length: number(case, "allowed_length") as u32,
                dry_last_n: Some(number(case, "last_n") as u32),
                dry_breakers: tokens(&case["args"]["breakers"]),
                ..SampleParams::default()
            };
            let mut logits = logits.to_vec();
            dry::penalize(&mut logits, &tokens(&case["args"]["history"]), &p);
            return assert_close(&logits, case);
        }
        "mirostat" => {
            let m = Mirostat {
                version: number(case, "version") as u8,
                tau: number(case, "tau"),
                eta: number(case, "eta"),
            };
            let token = number(case, "token") as u32;
            let (kept, mu) = mirostat::tests::stage(logits, &m, number(case, "mu"), token);
            assert_eq!(kept, tokens(&case["kept"]), "{}", case["args"]);
            let expected = case["mu"].as_f64().unwrap() as f32;
            assert!(
                (mu - expected).abs() < 1e-4,
                "mu {mu}, not {expected}: {}",
                case["args"]
            );
            return;
        }
        other => panic!("unknown stage {other}"),
    };
    let ids: Vec<u32> = kept.iter().map(|c| c.id).collect();
    assert_eq!(ids, tokens(&case["kept"]), "{stage} {}", case["args"]);
}

fn with(mut candidates: Candidates, stage: impl FnOnce(&mut Candidates)) -> Candidates {
    stage(&mut candidates);
    candidates
}

#[test]
fn stages_match_llama_cpp() {
    let golden: Value =
        serde_json::from_str(include_str!("../../tests/sampler/golden.json")).unwrap();
    let rows: Vec<Vec<f32>> = golden["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(floats)
        .collect();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        check(case, &rows[case["row"].as_u64().unwrap() as usize]);
    }
    for stage in [
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "xtc",
        "penalties",
        "dry",
        "mirostat",
    ] {
        assert!(
            cases.iter().any(|c| c["stage"] == stage),
            "no case for {stage}"
        );
    }
}
