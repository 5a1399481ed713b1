//! A flow of urgent requests that never ends keeps nobody from beginning.

use std::collections::VecDeque;

use crate::common::*;
use zse_engine::{Engine, EngineConfig, Event, EventStream, Generate, Request};

/// As in the scheduler.
const OVERTAKES: u64 = 16;

/// Small random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn generate(seed: u64, priority: i32, tokens: u64, n: u32) -> Generate {
    Generate {
        priority,
        max_tokens: Some(tokens as usize),
        n,
        ..crate::common::generate(seed)
    }
}

/// A request of those that are less urgent.
struct Calm {
    prompt: Vec<u32>,
    generate: Generate,
    stream: EventStream,
    /// How many sequences had begun when it came.
    came: u64,
    /// And when its first token came.
    began: Option<u64>,
    tokens: Vec<u32>,
}

fn begun(engine: &Engine) -> u64 {
    engine.metrics().queue_time.count()
}

/// Steps until all of `calm` have ended, with so many urgent requests always there; how many these were.
fn serve_among_urgent(engine: &mut Engine, calm: &mut [Calm], dice: &mut Dice, flow: usize) -> u64 {
    let mut urgent = VecDeque::new();
    let (mut seed, mut left) = (1000, calm.len());
    while left > 0 {
        while urgent.len() < flow {
            let (len, tokens) = (1 + dice.below(30), 1 + dice.below(4));
            let wanted = generate(seed, -1 - dice.below(3) as i32, tokens, 1);
            let request = Request::generate(prompt(seed, len as usize), wanted);
            urgent.push_back(engine.submit(request).unwrap());
            seed += 1;
        }
        assert!(engine.step(), "there is always work");
        urgent.retain(|stream| {
            loop {
                match stream.try_recv() {
                    Ok(_) => {}
                    Err(error) => break error == std::sync::mpsc::TryRecvError::Empty,
                }
            }
        });
        for one in calm.iter_mut() {
            while let Ok(event) = one.stream.try_recv() {
                match event {
                    Event::Tokens {
                        choice: 0, tokens, ..
                    } => {
                        one.began.get_or_insert(begun(engine));
                        one.tokens.extend(tokens.iter().map(|t| t.id));
                    }
                    Event::Finished(finished) if finished.choice == 0 => left -= 1,
                    _ => {}
                }
            }
        }
        assert!(seed < 100_000, "somebody never comes to an end");
    }
    seed - 1000
}

#[test]
fn everybody_begins_within_the_bound_and_in_order() {
    for case in 0..24 {
        let mut dice = Dice(case);
        let places = 1 + dice.below(4) as usize;
        let config = EngineConfig {
            max_sequences: places,
            channel_capacity: 1000,
            ..EngineConfig::default()
        };
        // Where blocks lack, the urgent push others back again and again.
        let (blocks, batch) = (
            20 + 100 * dice.below(2) as usize,
            8 + dice.below(40) as usize,
        );
        let (mut engine, _) = watched(blocks, batch, config);
        let mut calm = Vec::new();
        for i in 0..1 + dice.below(5) {
            let prompt = prompt(i, 1 + dice.below(40) as usize);
            let generate = generate(
                i,
                dice.below(2) as i32,
                1 + dice.below(8),
                1 + dice.below(2) as u32,
            );
            let request = Request::generate(prompt.clone(), generate.clone());
            calm.push(Calm {
                prompt,
                generate,
                stream: engine.submit(request).unwrap(),
                came: 0,
                began: None,
                tokens: Vec::new(),
            });
        }
        // They are overtaken before the first of them starts.
        serve_among_urgent(&mut engine, &mut calm, &mut dice, places + 3);
        let mut sequences = 0;
        for (i, one) in calm.iter().enumerate() {
            sequences += u64::from(one.generate.n);
            // As many as overtake it and those before it, these themselves, and what runs beside its prompt.
            let bound = (i as u64 + 1) * (OVERTAKES + 10 * places as u64) + sequences;
            let waited = one.began.unwrap() - one.came;
            assert!(
                waited <= bound,
                "case {case}: {i} waited for {waited}, not {bound}"
            );
            let mut bare = one.generate.clone();
            bare.params.logit_bias.push((EOS, f32::NEG_INFINITY));
            let alone = expected(&one.prompt, &bare, 0, 200);
            assert_eq!(one.tokens, alone, "case {case}");
        }
        for priority in 0..2 {
            let began = calm.iter().filter(|c| c.generate.priority == priority);
            let began: Vec<_> = began.map(|c| c.began).collect();
            assert!(began.is_sorted(), "case {case}: {began:?}");
        }
        while engine.step() {}
        assert_eq!(engine.free_blocks(), Some(blocks));
    }
}

#[test]
fn a_long_prompt_gets_its_part_of_steps() {
    let config = EngineConfig {
        max_sequences: 2,
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    let (mut engine, _) = watched(200, 8, config);
    let wanted = generate(1, 0, 2, 1);
    let request = Request::generate(prompt(1, 100), wanted.clone());
    let long = engine.submit(request).unwrap();
    assert!(engine.step());
    // Prompts that take every step as a whole, one behind the other.
    let mut urgent = Vec::new();
    for seed in 2.. {
        assert!(seed < 60, "the long prompt is never computed");
        let request = Request::generate(prompt(seed, 80), generate(seed, -1, 1, 1));
        urgent.push(engine.submit(request).unwrap());
        (0..10).for_each(|_| assert!(engine.step()));
        if let Ok(event) = long.try_recv() {
            assert!(matches!(event, Event::Tokens { .. }), "{event:?}");
            break;
        }
    }
    while engine.step() {}
    assert_eq!(engine.free_blocks(), Some(200));
}

#[test]
fn a_raised_request_can_be_cancelled() {
    let config = EngineConfig {
        max_sequences: 1,
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    let (mut engine, _) = watched(200, 64, config);
    let endless = Generate {
        max_tokens: None,
        n: 2,
        ..generate(1, 0, 1, 1)
    };
    let calm = engine
        .submit(Request::generate(prompt(1, 9), endless))
        .unwrap();
    let mut urgent = Vec::new();
    while calm.try_recv().is_err() {
        let seed = 2 + urgent.len() as u64;
        let request = Request::generate(prompt(seed, 5), generate(seed, -1, 1, 1));
        urgent.push(engine.submit(request).unwrap());
        assert!(engine.step());
        assert!(urgent.len() < 100, "it never begins");
    }
    drop(calm);
    while engine.step() {}
    assert_eq!(engine.metrics().cancelled, 2);
    assert_eq!(engine.metrics().running + engine.metrics().waiting, 0);
    assert_eq!(engine.free_blocks(), Some(200));
}
