//! Texts that must have a form have it, whatever runs beside them.

use std::sync::Arc;

use crate::common::*;
use zse_engine::{
    Completion, Engine, EngineConfig, EngineError, FinishReason, Generate, Request, RequestError,
};
use zse_model::executor::SampleJob;
use zse_model::sampler::{self, SampleParams};
use zse_text::{Constraint, Grammar, GrammarError, Grammars};

fn generate(seed: u64, constraint: impl Into<Constraint>) -> Generate {
    Generate {
        params: SampleParams {
            seed,
            ..SampleParams::default()
        },
        constraint: Some(constraint.into()),
        ..Generate::default()
    }
}

fn wide() -> EngineConfig {
    EngineConfig {
        channel_capacity: 1000,
        ..EngineConfig::default()
    }
}

fn serve(engine: &mut Engine, requests: &[(Vec<u32>, Generate)]) -> Vec<Vec<Completion>> {
    let streams: Vec<_> = requests
        .iter()
        .map(|(p, g)| {
            let request = Request::generate(p.clone(), g.clone());
            engine.submit(request).unwrap()
        })
        .collect();
    while engine.step() {}
    streams.into_iter().map(|s| s.completions()).collect()
}

/// Between 3 and 12 letters and an end.
fn letters() -> Grammar {
    Grammar::Regex("[a-f]{3,12}(yz|x)".into())
}

fn is_letters(text: &str) -> bool {
    let head = text.strip_suffix("yz").or(text.strip_suffix('x'));
    head.is_some_and(|h| {
        (3..=12).contains(&h.len()) && h.bytes().all(|b| (b'a'..=b'f').contains(&b))
    })
}

#[test]
fn a_text_has_its_form_alone_in_a_crowd_and_after_giving_way() {
    let requests: Vec<_> = (0..12)
        .map(|i| {
            let free = Generate {
                constraint: None,
                max_tokens: Some(20),
                ..generate(i, letters())
            };
            let settings = if i % 3 == 0 {
                free
            } else {
                generate(i, letters())
            };
            (prompt(i, 5 + i as usize), settings)
        })
        .collect();
    let alone: Vec<_> = requests
        .iter()
        .map(|r| {
            let mut engine = watched(1000, 64, wide()).0;
            serve(&mut engine, std::slice::from_ref(r)).remove(0)
        })
        .collect();
    let crowded = serve(&mut watched(1000, 64, wide()).0, &requests);
    let mut few = watched(15, 7, wide()).0;
    let pressed = serve(&mut few, &requests);
    assert!(few.metrics().preemptions > 0);
    for (i, (prompt, settings)) in requests.iter().enumerate() {
        assert_eq!(ids(&crowded[i][0]), ids(&alone[i][0]));
        assert_eq!(ids(&pressed[i][0]), ids(&alone[i][0]));
        let text = &alone[i][0].text;
        match settings.constraint {
            Some(_) => {
                assert!(is_letters(text), "{text:?}");
                let reason = &alone[i][0].finished.reason;
                assert_eq!(*reason, FinishReason::Stop(None));
            }
            None => assert_eq!(ids(&alone[i][0]), expected(prompt, settings, 0, 200)),
        }
    }
}

/// The tokens of a constrained text by definition: each mask made when its logits are there.
fn defined(prompt: &[u32], generate: &Generate) -> Vec<u32> {
    let grammars = Grammars::new(&tokenizer()).unwrap();
    let constraint = generate.constraint.as_ref().unwrap();
    let mut state = grammars.compile(constraint).unwrap();
    let mut tokens = prompt.to_vec();
    while !state.is_over() && tokens.last() != Some(&EOS) {
        let job = SampleJob {
            params: Arc::new(generate.params.clone()),
            history: Vec::new(),
            choice: 0,
            position: tokens.len() as u64,
            mu: 0.0,
        };
        let mask = state.mask().unwrap();
        let drawn = sampler::sample(&logits(&tokens), &job, Some(&mask)).unwrap();
        tokens.push(drawn.token);
        state.accept(drawn.token).unwrap();
    }
    tokens.split_off(prompt.len())
}

#[test]
fn masks_made_beside_the_forward_pass_are_those_of_one_after_it() {
    let requests: Vec<_> = (0..20)
        .map(|i| (prompt(i, 3 + i as usize), generate(i, letters())))
        .collect();
    // Also where each gives way again and again.
    for blocks in [1000, 20] {
        let all = serve(&mut watched(blocks, 16, wide()).0, &requests);
        for ((prompt, generate), done) in requests.iter().zip(all) {
            assert_eq!(ids(&done[0]), defined(prompt, generate));
        }
    }
}

#[test]
fn a_step_that_fails_gives_grammars_back() {
    let budget = budget(100, 16);
    let mut fake = Fake::new(&budget, false);
    fake.broken_steps = vec![3];
    let mut engine = Engine::new(Box::new(fake), SHAPE, Some(tokenizer()), &budget, wide());
    let requests = [(prompt(1, 5), generate(1, letters()))];
    let FinishReason::Failed(why) = serve(&mut engine, &requests)[0][0].finished.reason.clone()
    else {
        panic!("the device fell off")
    };
    assert!(why.contains("fell off"), "{why}");
    let again = serve(&mut engine, &requests);
    assert_eq!(ids(&again[0][0]), defined(&requests[0].0, &requests[0].1));
}

#[test]
fn every_continuation_goes_its_own_way() {
    let settings = Generate {
        n: 6,
        ..generate(3, letters())
    };
    let all = serve(&mut watched(200, 64, wide()).0, &[(prompt(1, 9), settings)]);
    let mut texts: Vec<_> = all[0].iter().map(|c| c.text.clone()).collect();
    assert!(texts.iter().all(|text| is_letters(text)), "{texts:?}");
    texts.sort();
    texts.dedup();
    assert!(texts.len() > 3, "{texts:?}");
}

#[test]
fn the_form_holds_from_a_marker_on() {
    for seed in 0..10 {
        let constraint = Constraint {
            after: Some("z".into()),
            ..Constraint::from(letters())
        };
        let request = (prompt(seed, 4), generate(seed, constraint));
        let all = serve(&mut watched(200, 64, wide()).0, &[request]);
        let text = all[0][0].text.split_once('z').map(|(_, text)| text);
        match all[0][0].finished.reason {
            FinishReason::Stop(None) => assert!(text.is_some_and(is_letters), "{text:?}"),
            FinishReason::ContextFull => assert_eq!(text, None),
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn limits_end_a_text_that_is_not_complete() {
    let settings = Generate {
        max_tokens: Some(2),
        ..generate(1, Grammar::Regex("[ac]{30}".into()))
    };
    let all = serve(&mut watched(200, 64, wide()).0, &[(prompt(1, 4), settings)]);
    assert_eq!(all[0][0].finished.reason, FinishReason::Length);
    assert_eq!(all[0][0].tokens.len(), 2);
}

#[test]
fn a_form_that_cannot_be_followed_fails_its_request_alone() {
    let free = Generate {
        constraint: None,
        ..generate(1, letters())
    };
    // No token of this vocabulary has a digit but behind a "w".
    let stuck = generate(2, Grammar::Regex("ab[0-9]".into()));
    let requests = [(prompt(1, 5), free.clone()), (prompt(2, 5), stuck)];
    let mut engine = watched(200, 64, wide()).0;
    let all = serve(&mut engine, &requests);
    assert_eq!(ids(&all[0][0]), expected(&prompt(1, 5), &free, 0, 200));
    let FinishReason::Failed(why) = &all[1][0].finished.reason else {
        panic!("{:?}", all[1][0].finished)
    };
    assert!(why.contains("no token continues it"), "{why}");
    assert!("ab".starts_with(&all[1][0].text));
    assert_eq!(engine.free_blocks(), Some(200));
}

#[test]
fn a_malformed_constraint_is_refused() {
    let request = || Request::generate(prompt(1, 4), generate(1, Grammar::Regex("(".into())));
    let is_invalid =
        |e: &RequestError| matches!(e, RequestError::Constraint(GrammarError::Invalid(_)));
    let mut engine = watched(200, 64, wide()).0;
    assert!(is_invalid(&engine.submit(request()).unwrap_err()));
    let handle = engine.start().unwrap();
    match handle.submit(request()).unwrap_err() {
        EngineError::Refused(error) => assert!(is_invalid(&error)),
        other => panic!("{other:?}"),
    }
    assert_eq!(handle.waiting(), 0);

    let budget = budget(100, 64);
    let fake = Box::new(Fake::new(&budget, false));
    let mut mute = Engine::new(fake, SHAPE, None, &budget, wide());
    let refused = mute.submit(Request::generate(prompt(1, 4), generate(1, letters())));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no tokenizer"), "{refused}");
}

#[test]
fn a_form_that_the_biases_rule_out_fails_its_request_and_costs_others_nothing() {
    let other = Generate {
        constraint: None,
        max_tokens: Some(20),
        ..generate(2, letters())
    };
    let mut none = Generate {
        n: 3,
        ..generate(1, letters())
    };
    // Only what the form does not allow is left.
    let forbidden = (0..VOCAB as u32).filter(|&id| id != EOS);
    none.params.logit_bias = forbidden.map(|id| (id, f32::NEG_INFINITY)).collect();
    let other = (prompt(2, 5), other);
    let (mut engine, log) = watched(1000, 64, wide());
    let alone = serve(&mut engine, std::slice::from_ref(&other)).remove(0);
    let steps = log.lock().unwrap().len();
    let (mut engine, log) = watched(1000, 64, wide());
    let mut both = serve(&mut engine, &[other, (prompt(1, 9), none)]);
    for completion in both.remove(1) {
        assert_eq!(completion.tokens, []);
        let reason = completion.finished.reason;
        assert!(matches!(reason, FinishReason::Failed(_)), "{reason:?}");
    }
    assert_eq!(ids(&both[0][0]), ids(&alone[0]));
    assert_eq!(log.lock().unwrap().len(), steps);
    assert_eq!(engine.free_blocks(), Some(1000));
}
