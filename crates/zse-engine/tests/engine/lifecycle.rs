//! How requests end: by themselves, by their callers, by faults.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::common::*;
use zse_engine::{
    Engine, EngineConfig, EngineError, Event, EventStream, FinishReason, Generate, ModelShape,
    Request, RequestError,
};
use zse_model::sampler::SampleParams;

fn seeded(seed: u64) -> Generate {
    Generate {
        params: SampleParams {
            seed,
            ..SampleParams::default()
        },
        ..Generate::default()
    }
}

/// Channels that never fill.
fn wide() -> EngineConfig {
    EngineConfig {
        channel_capacity: 1000,
        ..EngineConfig::default()
    }
}

fn finish_of(engine: &mut Engine, request: Request) -> (Vec<u32>, String, FinishReason) {
    let (mut tokens, mut all, mut reason) = (Vec::new(), String::new(), None);
    let result = engine.complete(request, |event| {
        match event {
            Event::Tokens {
                tokens: new, text, ..
            } => {
                tokens.extend(new.iter().map(|t| t.id));
                all.push_str(&text);
            }
            Event::Finished(f) => assert_eq!(reason.replace(f.reason), None),
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    });
    result.unwrap();
    (tokens, all, reason.unwrap())
}

/// Steps the engine and reads `stream` to its end.
fn read_to_end(engine: &mut Engine, stream: &EventStream) -> (Vec<u32>, FinishReason) {
    let mut tokens = Vec::new();
    loop {
        match stream.try_recv() {
            Ok(Event::Tokens { tokens: new, .. }) => tokens.extend(new.iter().map(|t| t.id)),
            Ok(Event::Finished(f)) => return (tokens, f.reason),
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(engine.step(), "a reader that catches up is served"),
        }
    }
}

#[test]
fn generations_end_for_the_stated_reason() {
    let mut engine = engine(1000, 64);
    let prompt = prompt(1, 10);
    let long = expected(&prompt, &seeded(3), 0, 200);
    let (tokens, _, reason) = finish_of(&mut engine, Request::generate(prompt.clone(), seeded(3)));
    assert_eq!(tokens, long);
    assert_eq!(long.last(), Some(&EOS));
    assert!(long.len() > 8);
    assert_eq!(reason, FinishReason::Stop(Some(EOS)));

    let short = Generate {
        max_tokens: Some(5),
        ..seeded(3)
    };
    let (tokens, _, reason) = finish_of(&mut engine, Request::generate(prompt.clone(), short));
    assert_eq!((&tokens[..], reason), (&long[..5], FinishReason::Length));

    let stop = Generate {
        stop_tokens: vec![long[6]],
        ..seeded(3)
    };
    let (tokens, _, reason) = finish_of(&mut engine, Request::generate(prompt.clone(), stop));
    assert_eq!(Some(&long[6]), tokens.last());
    assert_eq!(reason, FinishReason::Stop(Some(long[6])));

    let endless = Generate {
        ignore_eos: true,
        ..seeded(3)
    };
    let (tokens, _, reason) = finish_of(&mut engine, Request::generate(prompt.clone(), endless));
    assert_eq!((tokens.len(), reason), (190, FinishReason::ContextFull));
    assert!(!tokens.contains(&EOS));

    let late = Generate {
        min_tokens: long.len(),
        ..seeded(3)
    };
    let (tokens, _, _) = finish_of(&mut engine, Request::generate(prompt.clone(), late));
    assert_eq!(tokens[..long.len() - 1], long[..long.len() - 1]);
    assert!(tokens.len() > long.len(), "the end came too soon");

    let nothing = Generate {
        max_tokens: Some(0),
        ..seeded(3)
    };
    let (tokens, _, reason) = finish_of(&mut engine, Request::generate(prompt, nothing));
    assert_eq!((tokens.len(), reason), (0, FinishReason::Length));
    assert_eq!(engine.free_blocks(), Some(1000));
}

#[test]
fn a_full_kv_cache_ends_a_sequence_that_has_it_for_itself() {
    let mut engine = engine(5, 64);
    let endless = Generate {
        ignore_eos: true,
        ..seeded(1)
    };
    let (tokens, _, reason) = finish_of(&mut engine, Request::generate(prompt(1, 6), endless));
    assert_eq!((tokens.len(), reason), (14, FinishReason::ContextFull));
}

#[test]
fn what_can_never_fit_is_refused() {
    let mut engine = engine(5, 64);
    let error = engine
        .submit(Request::generate(prompt(1, 20), Generate::default()))
        .unwrap_err();
    assert_eq!(
        error,
        RequestError::TooLong {
            tokens: 21,
            limit: 20,
            of: "the KV cache"
        }
    );
}

#[test]
fn text_is_that_of_the_tokens() {
    let tokenizer = tokenizer();
    for seed in 0..40 {
        let mut engine = engine(1000, 64);
        let prompt = prompt(seed, 5);
        let (tokens, text, _) =
            finish_of(&mut engine, Request::generate(prompt.clone(), seeded(seed)));
        let all: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
        let whole = tokenizer.decode(&all, true);
        assert!(
            whole.ends_with(&text),
            "{whole:?} does not end with {text:?}"
        );
        assert!(text.chars().count() >= tokens.len() / 4);
    }
}

#[test]
fn stop_strings_never_leak() {
    let mut stopped = 0;
    for seed in 0..300 {
        let mut engine = engine(1000, 64);
        let stops = ["ab", "ñ", "a w", "the", "bz"].map(String::from);
        let (_, free, _) = finish_of(
            &mut engine,
            Request::generate(prompt(seed, 5), seeded(seed)),
        );
        let generate = Generate {
            stop: stops.to_vec(),
            ..seeded(seed)
        };
        let (_, text, reason) =
            finish_of(&mut engine, Request::generate(prompt(seed, 5), generate));
        let cut = stops
            .iter()
            .filter_map(|s| free.find(s.as_str()).map(|at| (at + s.len(), at, s)))
            .min();
        match (cut, reason) {
            (Some((_, at, stop)), FinishReason::StopString(found)) => {
                assert_eq!((&free[..at], stop), (&text[..], &found));
                stopped += 1;
            }
            (None, reason) => {
                assert_eq!((text, reason), (free, FinishReason::Stop(Some(EOS))));
            }
            (cut, reason) => panic!("{cut:?} {reason:?}"),
        }
        assert_eq!(engine.free_blocks(), Some(1000));
    }
    assert!((30..270).contains(&stopped), "{stopped} of 300");
}

#[test]
fn cancelled_stream_frees_its_blocks() {
    let mut engine = engine(100, 8);
    let endless = Generate {
        ignore_eos: true,
        ..seeded(1)
    };
    let prefilling = engine
        .submit(Request::generate(prompt(1, 60), endless.clone()))
        .unwrap();
    engine.step();
    assert!(engine.free_blocks().unwrap() <= 85);
    drop(prefilling);
    let generating = engine
        .submit(Request::generate(prompt(2, 4), endless.clone()))
        .unwrap();
    engine.step();
    assert_eq!(engine.free_blocks(), Some(98), "freed within one step");
    let waiting = engine
        .submit(Request::generate(prompt(3, 4), endless))
        .unwrap();
    drop(waiting);
    engine.step();
    generating.cancel();
    assert!(!engine.step());
    assert_eq!(engine.free_blocks(), Some(100));
    let completion = generating.completions().remove(0);
    assert_eq!(completion.finished.reason, FinishReason::Cancelled);
    assert_eq!(completion.tokens.len(), 2);
    assert!(engine.is_idle());
}

#[test]
fn breaking_out_of_complete_cancels() {
    let mut engine = engine(100, 64);
    let endless = Generate {
        ignore_eos: true,
        ..seeded(1)
    };
    let mut seen = 0;
    let result = engine.complete(Request::generate(prompt(1, 4), endless), |_| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((result, seen), (Ok(()), 3));
    assert_eq!(engine.free_blocks(), Some(100));
}

#[test]
fn full_channel_deschedules() {
    let config = EngineConfig {
        channel_capacity: 3,
        ..EngineConfig::default()
    };
    let (mut engine, log) = watched(1000, 64, config);
    let endless = Generate {
        ignore_eos: true,
        max_tokens: Some(30),
        ..seeded(1)
    };
    let slow = engine
        .submit(Request::generate(prompt(1, 4), endless.clone()))
        .unwrap();
    while engine.step() {}
    // Three events in the channel, and one that did not fit.
    assert_eq!(log.lock().unwrap().len(), 4);

    let (tokens, ..) = finish_of(
        &mut engine,
        Request::generate(prompt(2, 4), endless.clone()),
    );
    assert_eq!(tokens.len(), 30, "others go on");

    let (tokens, reason) = read_to_end(&mut engine, &slow);
    assert_eq!(reason, FinishReason::Length);
    let mut free = crate::common::engine(1000, 64);
    assert_eq!(
        tokens,
        finish_of(&mut free, Request::generate(prompt(1, 4), endless)).0
    );
    assert_eq!(engine.free_blocks(), Some(1000));
}

#[test]
fn what_nobody_reads_gives_way_to_what_waits() {
    let config = EngineConfig {
        channel_capacity: 2,
        max_sequences: 2,
        ..EngineConfig::default()
    };
    let (mut engine, _) = watched(10, 64, config);
    let endless = Generate {
        ignore_eos: true,
        max_tokens: Some(12),
        ..seeded(1)
    };
    let slow: Vec<_> = (0..2)
        .map(|i| {
            engine
                .submit(Request::generate(prompt(i, 15), endless.clone()))
                .unwrap()
        })
        .collect();
    while engine.step() {}
    let (tokens, ..) = finish_of(&mut engine, Request::generate(prompt(9, 30), seeded(2)));
    assert!(!tokens.is_empty());
    for (i, stream) in slow.iter().enumerate() {
        let (tokens, _) = read_to_end(&mut engine, stream);
        let mut free = crate::common::engine(1000, 64);
        let request = Request::generate(prompt(i as u64, 15), endless.clone());
        assert_eq!(tokens, finish_of(&mut free, request).0);
    }
}

#[test]
fn what_nobody_reads_gives_way_to_what_runs() {
    let config = EngineConfig {
        channel_capacity: 2,
        ..EngineConfig::default()
    };
    let (mut engine, _) = watched(10, 64, config);
    let long = Generate {
        ignore_eos: true,
        max_tokens: Some(12),
        ..seeded(1)
    };
    let request = |i| Request::generate(prompt(i, 15), long.clone());
    let unread = engine.submit(request(1)).unwrap();
    let read = engine.submit(request(2)).unwrap();
    let mut tokens = Vec::new();
    // As its thread does: it sleeps once a step had nothing to do.
    while engine.step() {
        while let Ok(event) = read.try_recv() {
            if let Event::Tokens { tokens: new, .. } = event {
                tokens.extend(new.iter().map(|t| t.id));
            }
        }
    }
    let mut alone = long.clone();
    alone.params.logit_bias.push((EOS, f32::NEG_INFINITY));
    assert_eq!(tokens, expected(&prompt(2, 15), &alone, 0, 200));
    let (tokens, _) = read_to_end(&mut engine, &unread);
    assert_eq!(tokens, expected(&prompt(1, 15), &alone, 0, 200));
}

#[test]
fn a_request_that_forbids_every_token_costs_others_one_step() {
    let (mut engine, log) = watched(1000, 64, wide());
    let mut none = Generate { n: 9, ..seeded(1) };
    none.params.logit_bias = (0..VOCAB as u32)
        .map(|id| (id, f32::NEG_INFINITY))
        .collect();
    let other = engine
        .submit(Request::generate(prompt(2, 5), seeded(2)))
        .unwrap();
    let stream = engine
        .submit(Request::generate(prompt(1, 9), none))
        .unwrap();
    while engine.step() {}
    for completion in stream.completions() {
        let reason = completion.finished.reason;
        assert!(matches!(reason, FinishReason::Failed(_)), "{reason:?}");
    }
    let tokens = ids(&other.completions()[0]);
    assert_eq!(tokens, expected(&prompt(2, 5), &seeded(2), 0, 200));
    assert_eq!(log.lock().unwrap().len(), tokens.len() + 1);
    assert_eq!(engine.free_blocks(), Some(1000));
}

#[test]
fn a_fault_fails_only_what_it_touched() {
    let (mut engine, _) = watched(1000, 64, wide());
    let mut poisoned = prompt(1, 9);
    poisoned.push(POISON);
    let before = engine
        .submit(Request::generate(prompt(2, 5), seeded(2)))
        .unwrap();
    let faulty = engine
        .submit(Request::generate(poisoned, seeded(1)))
        .unwrap();
    let after = engine
        .submit(Request::generate(prompt(3, 6), seeded(3)))
        .unwrap();
    while engine.step() {}
    let completion = faulty.completions().remove(0);
    assert_eq!(completion.tokens, []);
    let FinishReason::Failed(what) = completion.finished.reason else {
        panic!()
    };
    assert!(what.contains("not finite"), "{what}");
    for (stream, seed, len) in [(before, 2, 5), (after, 3, 6)] {
        let tokens = expected(&prompt(seed, len), &seeded(seed), 0, 200);
        assert_eq!(ids(&stream.completions()[0]), tokens);
    }
    assert_eq!(engine.free_blocks(), Some(1000));
}

#[test]
fn a_device_error_fails_the_step_and_the_engine_goes_on() {
    let budget = budget(100, 8);
    let mut fake = Fake::new(&budget, false);
    fake.broken_steps = vec![5];
    let config = EngineConfig {
        channel_capacity: 2,
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(Box::new(fake), SHAPE, Some(tokenizer()), &budget, config);
    let request = |seed, len| {
        let generate = Generate {
            max_tokens: Some(20),
            ignore_eos: true,
            ..seeded(seed)
        };
        Request::generate(prompt(seed, len), generate)
    };
    // Full after three steps: not in the one that breaks, but its blocks are gone.
    let paused = engine.submit(request(4, 3)).unwrap();
    let touched = engine.submit(request(1, 70)).unwrap();
    let waiting = engine.submit(request(3, 5)).unwrap();
    (0..6).for_each(|_| assert!(engine.step()));
    let (tokens, reason) = read_to_end(&mut engine, &touched);
    let FinishReason::Failed(what) = reason else {
        panic!()
    };
    assert!(tokens.is_empty());
    assert!(what.contains("fell off"));
    let (mut free, _) = watched(1000, 64, wide());
    for (stream, seed, len) in [(paused, 4, 3), (waiting, 3, 5)] {
        let (tokens, reason) = read_to_end(&mut engine, &stream);
        assert_eq!(reason, FinishReason::Length);
        assert_eq!(tokens, finish_of(&mut free, request(seed, len)).0);
    }
    assert_eq!(
        finish_of(&mut engine, request(1, 70)).0,
        finish_of(&mut free, request(1, 70)).0
    );
    assert_eq!(engine.free_blocks(), Some(100));
}

#[test]
fn a_missing_result_fails_the_step_and_the_engine_goes_on() {
    let budget = budget(100, 64);
    let mut fake = Fake::new(&budget, false);
    fake.short_steps = vec![0, 1, 4];
    let config = EngineConfig::default();
    let mut engine = Engine::new(Box::new(fake), SHAPE, Some(tokenizer()), &budget, config);
    let endless = Generate {
        ignore_eos: true,
        ..seeded(1)
    };
    let generate = Request::generate(prompt(1, 5), endless);
    for request in [Request::score(prompt(1, 5), 1), generate.clone(), generate] {
        let (_, _, reason) = finish_of(&mut engine, request);
        let FinishReason::Failed(what) = reason else {
            panic!("{reason:?}")
        };
        assert!(what.contains("results where"), "{what}");
    }
    let (tokens, ..) = finish_of(&mut engine, Request::generate(prompt(1, 5), seeded(1)));
    assert_eq!(tokens, expected(&prompt(1, 5), &seeded(1), 0, 200));
    assert_eq!(engine.free_blocks(), Some(100));
}

#[test]
fn embeddings_come_from_whole_prompts() {
    let budget = budget(100, 10);
    let shape = ModelShape {
        pools: true,
        causal: false,
        ..SHAPE
    };
    let fake = Fake::new(&budget, true);
    let log = Arc::clone(&fake.log);
    let engine = Engine::new(
        Box::new(fake),
        shape,
        None,
        &budget,
        EngineConfig::default(),
    );
    let handle = engine.start().unwrap();
    let streams: Vec<_> = [4, 6, 7, 3]
        .map(|n| {
            (
                n,
                handle.submit(Request::embed(prompt(n as u64, n))).unwrap(),
            )
        })
        .into_iter()
        .collect();
    for (n, stream) in streams {
        assert_eq!(
            stream.recv(),
            Some(Event::Embedding(embedding(&prompt(n as u64, n))))
        );
    }
    assert_eq!(handle.embed(prompt(1, 8)), Ok(embedding(&prompt(1, 8))));
    assert!(
        log.lock()
            .unwrap()
            .iter()
            .flatten()
            .all(|n| [4, 6, 7, 3, 8].contains(n))
    );
    assert_eq!(
        handle.embed(prompt(1, 11)),
        Err(EngineError::Refused(RequestError::TooLong {
            tokens: 11,
            limit: 10,
            of: "a batch"
        }))
    );
    let wrong = handle
        .submit(Request::generate(prompt(1, 2), seeded(1)))
        .unwrap_err();
    assert!(wrong.to_string().contains("gives embeddings"));
}
