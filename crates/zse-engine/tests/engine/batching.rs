//! What a request gives does not depend on what else runs or how its tokens are batched.

use crate::common::*;
use zse_engine::{Engine, EngineConfig, Event, Generate, Request, Score};
use zse_model::sampler::{LogProbs, Mirostat, SampleParams};

/// Settings of every kind: greedy, plain draws, state over many tokens, state over draws.
fn settings(i: usize) -> Generate {
    let seed = i as u64;
    let params = match i % 4 {
        0 => SampleParams::greedy(),
        1 => SampleParams {
            seed,
            top_k: 20,
            min_p: 0.01,
            ..SampleParams::default()
        },
        2 => SampleParams {
            seed,
            frequency_penalty: 0.5,
            dry_multiplier: 0.5,
            ..SampleParams::default()
        },
        _ => SampleParams {
            seed,
            mirostat: Some(Mirostat {
                version: 2,
                tau: 3.0,
                eta: 0.2,
            }),
            ..SampleParams::default()
        },
    };
    Generate {
        params,
        max_tokens: Some(5 + 7 * i % 31),
        ..Generate::default()
    }
}

fn run(engine: &mut Engine) {
    for _ in 0..100_000 {
        if !engine.step() {
            return;
        }
    }
    panic!("the engine does not come to an end");
}

/// Serves `n` requests, some from the start, some later, and compares each with its definition.
fn serve(mut engine: Engine, n: usize) {
    let blocks = engine.free_blocks();
    let limit = engine.limits().sequence();
    let requests: Vec<(Vec<u32>, Generate)> = (0..n)
        .map(|i| (prompt(i as u64, 1 + 11 * i % 37), settings(i)))
        .collect();
    let mut streams = Vec::new();
    for (i, (prompt, generate)) in requests.iter().enumerate() {
        streams.push(
            engine
                .submit(Request::generate(prompt.clone(), generate.clone()))
                .unwrap(),
        );
        if i % 3 == 2 {
            engine.step();
        }
    }
    run(&mut engine);
    assert_eq!(engine.free_blocks(), blocks);
    assert!(engine.is_idle());
    for (i, (stream, (prompt, generate))) in streams.into_iter().zip(&requests).enumerate() {
        let completions = stream.completions();
        assert_eq!(completions.len(), 1);
        let tokens = expected(prompt, generate, 0, limit);
        assert_eq!(ids(&completions[0]), tokens, "request {i}");
        assert_eq!(
            completions[0].finished.usage.completion_tokens,
            tokens.len()
        );
        assert_eq!(completions[0].finished.usage.prompt_tokens, prompt.len());
    }
}

#[test]
fn sequences_in_one_batch_give_the_same_tokens_as_alone() {
    serve(engine(1000, 512), 16);
}

#[test]
fn chunked_prefill_gives_the_same_tokens() {
    for max_tokens in [1, 2, 3, 7, 20] {
        serve(engine(1000, max_tokens), 8);
    }
}

#[test]
fn sequences_that_give_way_and_start_again_give_the_same_tokens() {
    // 20 blocks hold 80 tokens, of which one sequence may want up to 72.
    let (engine, log) = watched(20, 64, EngineConfig::default());
    serve(engine, 16);
    let computed: usize = log.lock().unwrap().iter().flatten().sum();
    let (engine, log) = watched(1000, 64, EngineConfig::default());
    serve(engine, 16);
    let needed: usize = log.lock().unwrap().iter().flatten().sum();
    assert!(
        computed > needed,
        "nobody had to give way: {computed} tokens, {needed} needed"
    );
}

#[test]
fn few_places_only_make_requests_wait() {
    serve(
        watched(
            1000,
            64,
            EngineConfig {
                max_sequences: 2,
                ..EngineConfig::default()
            },
        )
        .0,
        9,
    );
}

#[test]
fn a_long_prompt_does_not_hold_up_sequences_that_generate() {
    let (mut engine, log) = watched(1000, 8, EngineConfig::default());
    let generate = Generate {
        max_tokens: Some(50),
        ignore_eos: true,
        ..Generate::default()
    };
    let first = engine
        .submit(Request::generate(prompt(1, 4), generate.clone()))
        .unwrap();
    engine.step();
    let _second = engine
        .submit(Request::generate(prompt(2, 100), generate))
        .unwrap();
    for _ in 0..10 {
        engine.step();
    }
    let log = log.lock().unwrap();
    assert_eq!(log[0], [4]);
    assert!(log[1..].iter().all(|step| *step == [1, 7]), "{log:?}");
    let tokens = std::iter::from_fn(|| first.try_recv().ok()).count();
    assert_eq!(tokens, 11, "a token in every step");
}

#[test]
fn continuations_share_the_prompt() {
    for (blocks, max_tokens) in [(1000, 256), (1000, 5), (24, 64)] {
        let config = EngineConfig {
            channel_capacity: 1000,
            ..EngineConfig::default()
        };
        let (mut engine, log) = watched(blocks, max_tokens, config);
        let generate = Generate {
            params: SampleParams {
                seed: 5,
                ..SampleParams::default()
            },
            max_tokens: Some(12),
            n: 4,
            ..Generate::default()
        };
        let prompt = prompt(7, 31);
        let stream = engine
            .submit(Request::generate(prompt.clone(), generate.clone()))
            .unwrap();
        run(&mut engine);
        assert_eq!(engine.free_blocks(), Some(blocks));
        let completions = stream.completions();
        assert_eq!(completions.len(), 4);
        for (choice, completion) in (0..).zip(&completions) {
            assert_eq!(completion.finished.choice, choice);
            assert_eq!(ids(completion), expected(&prompt, &generate, choice, 200));
        }
        assert_ne!(ids(&completions[0]), ids(&completions[1]));
        if blocks == 1000 {
            assert_eq!(completions[3].finished.usage.shared_tokens, 30);
            // The prompt once, its last token for each other choice, and what was drawn.
            let drawn: usize = completions.iter().map(|c| c.tokens.len() - 1).sum();
            let computed: usize = log.lock().unwrap().iter().flatten().sum();
            assert_eq!(computed, 31 + 3 + drawn);
        }
    }
}

/// Whose tokens come in which step, of requests with these priorities that are submitted together.
fn order(engine: &mut Engine, priorities: &[i32]) -> Vec<usize> {
    let streams: Vec<_> = (0..)
        .zip(priorities)
        .map(|(i, &priority)| {
            let generate = Generate {
                max_tokens: Some(1),
                priority,
                ..Generate::default()
            };
            let request = Request::generate(prompt(i, 5), generate);
            engine.submit(request).unwrap()
        })
        .collect();
    let mut order = Vec::new();
    while engine.step() {
        let read = |i: &usize| matches!(streams[*i].try_recv(), Ok(Event::Tokens { .. }));
        order.extend((0..streams.len()).filter(read));
    }
    order
}

#[test]
fn the_urgent_go_first_and_the_others_in_order_of_arrival() {
    let one = EngineConfig {
        max_sequences: 1,
        ..EngineConfig::default()
    };
    let mut engine = watched(100, 64, one).0;
    let served = order(&mut engine, &[0, 5, -1, 0, i32::MIN, 5, -1, i32::MAX]);
    assert_eq!(served, [4, 2, 6, 0, 3, 1, 5, 7]);
}

#[test]
fn the_less_urgent_give_way_and_are_none_the_wiser() {
    let config = EngineConfig {
        max_sequences: 2,
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    // Places lack, or blocks.
    for (blocks, max_sequences) in [(1000, 2), (14, 10)] {
        let config = EngineConfig {
            max_sequences,
            ..config
        };
        let (mut engine, _) = watched(blocks, 64, config);
        let request = |i: u64, priority| Generate {
            params: SampleParams {
                seed: i,
                ..SampleParams::default()
            },
            max_tokens: Some(6),
            ignore_eos: true,
            priority,
            ..Generate::default()
        };
        let submit = |engine: &mut Engine, i: u64, g: Generate| {
            engine.submit(Request::generate(prompt(i, 20), g)).unwrap()
        };
        let calm: Vec<_> = (0..2)
            .map(|i| submit(&mut engine, i, request(i, 1)))
            .collect();
        (0..3).for_each(|_| assert!(engine.step()));
        let urgent = submit(&mut engine, 2, request(2, 0));
        assert!(engine.step());
        let event = urgent.try_recv();
        assert!(matches!(event, Ok(Event::Tokens { .. })), "{event:?}");
        run(&mut engine);
        for (i, stream) in (0..).zip(calm) {
            let alone = watched(1000, 64, config).0.start().unwrap();
            let alone = alone.submit(Request::generate(prompt(i, 20), request(i, 0)));
            let alone = alone.unwrap().completions().remove(0);
            assert_eq!(ids(&stream.completions()[0]), ids(&alone));
        }
        assert_eq!(engine.free_blocks(), Some(blocks));
    }
}

#[test]
fn scores_do_not_depend_on_chunks() {
    let tokens = prompt(3, 50);
    let expected = |i: usize| {
        let logits = logits(&tokens[..i]);
        let model = LogProbs::new(&logits).unwrap();
        (model.of(tokens[i]), model.top(3))
    };
    for (max_tokens, top) in [(1, 0), (7, 0), (50, 0), (1, 3), (7, 3), (50, 3)] {
        let mut engine = engine(100, max_tokens);
        let other = engine
            .submit(Request::generate(prompt(1, 9), settings(1)))
            .unwrap();
        let wanted = Score {
            from: 20,
            top,
            ..Score::default()
        };
        let stream = engine
            .submit(Request::scored(tokens.clone(), wanted))
            .unwrap();
        run(&mut engine);
        let scores = stream.scores(None).unwrap();
        assert_eq!(scores.len(), 30);
        for (i, score) in (20..).zip(scores) {
            let (logprob, mut best) = expected(i);
            best.truncate(top as usize);
            assert_eq!((score.id, score.logprob), (tokens[i], logprob));
            assert_eq!(score.top, best);
        }
        assert_eq!(
            ids(&other.completions()[0]),
            crate::common::expected(&prompt(1, 9), &settings(1), 0, 200)
        );
    }
}

/// What `generate` gives for `prompt` where both penalties count all that was drawn: by the sampler's own, whose
/// window is as long as what was drawn.
fn expected_by_count(prompt: &[u32], generate: &Generate) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    while tokens.len() - prompt.len() < generate.max_tokens.expect("an end") {
        let mut step = generate.clone();
        step.params.penalty_last_n = Some((tokens.len() - prompt.len()) as u32);
        step.max_tokens = Some(1);
        tokens.extend(expected(&tokens, &step, 0, 1000));
    }
    tokens.split_off(prompt.len())
}

#[test]
fn penalties_count_what_was_drawn_and_nothing_of_the_prompt() {
    let wide = EngineConfig {
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    let (mut engine, _) = watched(1000, 64, wide);
    let mut others = Vec::new();
    let mut found = Vec::new();
    for seed in 0..6 {
        let mut generate = settings(1);
        generate.params.seed = seed;
        // Eighths: sums are exact in any order.
        generate.params.presence_penalty = 2.5;
        generate.params.frequency_penalty = -0.125;
        generate.params.logit_bias = vec![(EOS, f32::NEG_INFINITY), (prompt(seed, 9)[0], 1.5)];
        generate.count_drawn = true;
        generate.min_tokens = 3;
        generate.max_tokens = Some(100);
        let stream = engine
            .submit(Request::generate(prompt(seed, 9), generate.clone()))
            .unwrap();
        found.push((seed, generate, stream));
        others.push(engine.submit(Request::generate(prompt(seed, 5), settings(1))));
    }
    run(&mut engine);
    for (seed, generate, stream) in found {
        let tokens = ids(&stream.completions()[0]);
        assert_eq!(tokens, expected_by_count(&prompt(seed, 9), &generate));
        let mut windowed = generate.clone();
        windowed.count_drawn = false;
        assert_ne!(tokens, expected(&prompt(seed, 9), &windowed, 0, 1000));
    }
}
