//! What was computed is found again, changes no token, and never reaches another tenant.

use crate::common::*;
use zse_engine::{
    Completion, Engine, EngineConfig, EngineHandle, FinishReason, Generate, Request, Score,
};

fn wide() -> EngineConfig {
    EngineConfig {
        channel_capacity: 1000,
        ..EngineConfig::default()
    }
}

/// Serves one request, and holds its tokens against their definition.
fn serve(engine: &mut Engine, prompt: &[u32], generate: &Generate) -> Completion {
    let stream = engine
        .submit(Request::generate(prompt.to_vec(), generate.clone()))
        .unwrap();
    while engine.step() {}
    let completion = stream.completions().remove(0);
    let mut bare = generate.clone();
    bare.params.logit_bias.push((EOS, f32::NEG_INFINITY));
    assert_eq!(ids(&completion), expected(prompt, &bare, 0, 200));
    completion
}

#[test]
fn a_conversation_computes_only_what_is_new() {
    let (mut engine, log) = watched(100, 64, wide());
    let mut conversation = prompt(1, 11);
    let mut known = 0;
    for turn in 0..5u64 {
        let completion = serve(&mut engine, &conversation, &generate(turn));
        assert_eq!(completion.finished.usage.shared_tokens, known);
        let computed = conversation.len() + completion.tokens.len() - 1;
        known = computed / BLOCK_LEN * BLOCK_LEN;
        conversation.extend(ids(&completion));
        conversation.extend(prompt(100 + turn, 5));
        assert_eq!(engine.free_blocks(), Some(100));
        assert_eq!(engine.cached_blocks(), known / BLOCK_LEN);
    }
    let steps = log.lock().unwrap();
    let longest = steps.iter().skip(1).flatten().max().unwrap();
    assert!(*longest < 5 + 12 + BLOCK_LEN, "{longest} tokens at once");
}

#[test]
fn a_system_prompt_is_computed_once() {
    let (mut engine, log) = watched(200, 512, wide());
    let system = prompt(1, 40);
    for user in 0..6 {
        let mut all = system.clone();
        all.extend(prompt(50 + user, 7));
        let shared = serve(&mut engine, &all, &generate(user)).finished.usage;
        assert_eq!(shared.shared_tokens, if user == 0 { 0 } else { 40 });
    }
    let prompts = log.lock().unwrap().iter().filter(|s| s[0] > 1).count();
    assert_eq!(prompts, 6);
    let metrics = engine.metrics();
    assert_eq!((metrics.requests, metrics.completed), (6, 6));
    assert_eq!(metrics.prompt_tokens, 6 * 47);
    assert_eq!(metrics.prefix_queried_tokens, 6 * 47);
    assert_eq!(metrics.prefix_found_tokens, 5 * 40);
    assert_eq!(metrics.generated_tokens, 6 * 12);
    assert_eq!(metrics.queue_time.count(), 6);
    assert_eq!(metrics.time_to_first_token.count(), 6);
    assert_eq!(metrics.time_between_tokens.count(), 6 * 11);
    assert_eq!((metrics.kv_blocks, metrics.kv_blocks_used), (200, 0));
    assert_eq!(metrics.kv_blocks_cached, engine.cached_blocks());
}

#[test]
fn the_same_prompt_again_computes_at_least_its_last_token() {
    for len in 1..30 {
        let mut engine = engine(100, 64);
        for again in [false, true] {
            let generate = Generate {
                max_tokens: Some(1),
                ..generate(1)
            };
            let usage = serve(&mut engine, &prompt(1, len), &generate)
                .finished
                .usage;
            let found = if again {
                (len - 1) / BLOCK_LEN * BLOCK_LEN
            } else {
                0
            };
            assert_eq!(usage.shared_tokens, found, "{len} tokens");
        }
    }
}

#[test]
fn continuations_find_the_prompt_of_an_earlier_request() {
    let (mut engine, log) = watched(200, 512, wide());
    let prompt = prompt(1, 33);
    serve(&mut engine, &prompt, &generate(1));
    log.lock().unwrap().clear();
    let generate = Generate {
        n: 3,
        max_tokens: Some(1),
        ..generate(2)
    };
    let stream = engine.submit(Request::generate(prompt, generate)).unwrap();
    while engine.step() {}
    let shared = stream.completions().into_iter();
    let shared: Vec<_> = shared.map(|c| c.finished.usage.shared_tokens).collect();
    assert_eq!(shared, [32, 32, 32]);
    assert_eq!(log.lock().unwrap().iter().flatten().sum::<usize>(), 3);
}

#[test]
fn tenants_and_those_who_do_not_want_it_share_nothing() {
    let mut engine = engine(200, 64);
    let mut shared = |salt: &str, cache| {
        let generate = Generate {
            salt: salt.to_owned(),
            cache,
            ..generate(1)
        };
        let completion = serve(&mut engine, &prompt(1, 30), &generate);
        completion.finished.usage.shared_tokens
    };
    assert_eq!(shared("", false), 0);
    assert_eq!(shared("", true), 0, "nothing was kept");
    assert_eq!(shared("", false), 0);
    assert_eq!(shared("", true), 28);
    assert_eq!(shared("one", true), 0);
    assert_eq!(shared("another", true), 0);
    assert_eq!(shared("one", true), 28);
}

#[test]
fn a_full_cache_gives_way_to_whoever_needs_blocks() {
    // 30 blocks hold 120 tokens; each request wants up to 62, three run at the same time.
    let (mut engine, _) = watched(30, 32, wide());
    for round in 0..10u64 {
        let requests: Vec<_> = (0..3)
            .map(|i| {
                let mut all = prompt(round % 2, 24);
                all.extend(prompt(round * 10 + i, (10 + 8 * i) as usize));
                (all, generate(round + i))
            })
            .collect();
        let streams: Vec<_> = requests
            .iter()
            .map(|(p, g)| {
                engine
                    .submit(Request::generate(p.clone(), g.clone()))
                    .unwrap()
            })
            .collect();
        while engine.step() {}
        for (stream, (prompt, generate)) in streams.into_iter().zip(&requests) {
            let mut bare = generate.clone();
            bare.params.logit_bias.push((EOS, f32::NEG_INFINITY));
            let tokens = expected(prompt, &bare, 0, 120);
            assert_eq!(ids(&stream.completions()[0]), tokens);
        }
        assert_eq!(engine.free_blocks(), Some(30));
    }
    assert!(engine.cached_blocks() > 15);
}

#[test]
fn scores_are_the_same_from_the_cache() {
    let text = prompt(4, 50);
    let fresh = engine(100, 64).start().unwrap();
    let handle = engine(100, 64).start().unwrap();
    for from in [40, 1, 20, 49, 33] {
        let scores = handle.score(text.clone(), from, "").unwrap();
        assert_eq!(scores.len(), 50 - from);
        assert_eq!(scores, fresh.score(text.clone(), from, "").unwrap());
        // Another text evicts nothing, but begins alike.
        let mut other = text[..30].to_vec();
        other.extend(prompt(from as u64, 10));
        handle.score(other, 35, "").unwrap();
    }
    // What is found saves nothing of what is wanted, and what is not to be kept is not.
    let all = |engine: &EngineHandle, cache| {
        let wanted = Score {
            top: 2,
            cache,
            ..Score::default()
        };
        let request = Request::scored(text.clone(), wanted);
        engine.submit(request).unwrap().scores(None).unwrap()
    };
    let unseen = engine(100, 64).start().unwrap();
    let scores = all(&unseen, false);
    assert_eq!(unseen.metrics().kv_blocks_cached, 0);
    assert_eq!(all(&handle, true), scores);
    assert_eq!(all(&handle, true), scores);
}

#[test]
fn a_fault_empties_the_cache() {
    let budget = budget(100, 8);
    for steps_until_fault in [0, 3] {
        let mut fake = Fake::new(&budget, false);
        let first = 5 + 11;
        fake.broken_steps = vec![first + steps_until_fault];
        let mut engine = Engine::new(Box::new(fake), SHAPE, Some(tokenizer()), &budget, wide());
        let prompt = prompt(1, 35);
        serve(&mut engine, &prompt, &generate(1));
        assert!(engine.cached_blocks() > 8);
        let again = Request::generate(prompt.clone(), generate(2));
        let stream = engine.submit(again).unwrap();
        while engine.step() {}
        let finished = stream.completions().remove(0).finished;
        assert!(matches!(finished.reason, FinishReason::Failed(_)));
        assert_eq!(engine.cached_blocks(), 0);
        let usage = serve(&mut engine, &prompt, &generate(2)).finished.usage;
        assert_eq!(usage.shared_tokens, 0);
    }
    let (mut engine, _) = watched(100, 64, wide());
    serve(&mut engine, &prompt(1, 35), &generate(1));
    let mut poisoned = prompt(1, 20);
    poisoned.push(POISON);
    let other = Generate {
        salt: "another".into(),
        ..generate(1)
    };
    serve(&mut engine, &prompt(1, 35), &other);
    let blocks = engine.cached_blocks() / 2;
    let stream = engine
        .submit(Request::generate(poisoned, generate(1)))
        .unwrap();
    while engine.step() {}
    assert_eq!(stream.completions()[0].finished.usage.shared_tokens, 20);
    assert_eq!(
        engine.cached_blocks(),
        blocks,
        "nothing that gave no numbers stays, and what others have does"
    );
    assert_eq!(engine.free_blocks(), Some(100));
    let usage = serve(&mut engine, &prompt(1, 35), &generate(1))
        .finished
        .usage;
    assert_eq!(usage.shared_tokens, 0);
    let usage = serve(&mut engine, &prompt(1, 35), &other).finished.usage;
    assert!(usage.shared_tokens > 30);
}
