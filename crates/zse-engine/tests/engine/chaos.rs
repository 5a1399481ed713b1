//! Whatever callers do, in whatever order: everyone who stays gets what was asked for, and no block
//! is lost.

use std::sync::mpsc::TryRecvError;

use proptest::prelude::*;
use zse_engine::{
    Engine, EngineConfig, Event, EventStream, FinishReason, Generate, Request, SwapConfig, SwapDisk,
};
use zse_model::sampler::SampleParams;

use crate::common::*;

#[derive(Clone, Debug)]
enum Action {
    Submit {
        prompt: usize,
        tokens: usize,
        n: u32,
    },
    Step(usize),
    Read {
        of: usize,
        events: usize,
    },
    Drop(usize),
    Cancel(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (1..40usize, 0..20usize, 1..4u32)
            .prop_map(|(prompt, tokens, n)| Action::Submit { prompt, tokens, n }),
        5 => (1..12usize).prop_map(Action::Step),
        3 => (0..8usize, 1..20usize).prop_map(|(of, events)| Action::Read { of, events }),
        1 => (0..8usize).prop_map(Action::Drop),
        1 => (0..8usize).prop_map(Action::Cancel),
    ]
}

/// A request, and what came of it so far, by choice.
struct Caller {
    prompt: Vec<u32>,
    generate: Generate,
    stream: EventStream,
    tokens: Vec<Vec<u32>>,
    finished: Vec<Option<FinishReason>>,
    over: bool,
}

impl Caller {
    fn submit(engine: &mut Engine, seed: u64, prompt: usize, tokens: usize, n: u32) -> Self {
        // Some begin alike.
        let (len, shared) = (prompt, seed as usize * 7 % 30);
        let mut prompt = crate::common::prompt(seed % 2, shared.min(len));
        prompt.extend(crate::common::prompt(seed, len - prompt.len()));
        let generate = Generate {
            params: SampleParams {
                seed,
                presence_penalty: 0.3,
                ..SampleParams::default()
            },
            max_tokens: Some(tokens),
            n,
            priority: (seed / 3 % 3) as i32 - 1,
            cache: !seed.is_multiple_of(5),
            ..Generate::default()
        };
        let request = Request::generate(prompt.clone(), generate.clone());
        Self {
            prompt,
            generate,
            stream: engine.submit(request).unwrap(),
            tokens: vec![Vec::new(); n as usize],
            finished: vec![None; n as usize],
            over: false,
        }
    }

    fn read(&mut self, events: usize) {
        for _ in 0..events {
            match self.stream.try_recv() {
                Ok(Event::Tokens { choice, tokens, .. }) => {
                    assert_eq!(self.finished[choice as usize], None);
                    self.tokens[choice as usize].extend(tokens.iter().map(|t| t.id));
                }
                Ok(Event::Finished(f)) => {
                    assert_eq!(self.finished[f.choice as usize].replace(f.reason), None);
                }
                Ok(other) => panic!("{other:?}"),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    fn check(&self, limit: usize) {
        for (choice, (tokens, reason)) in (0..).zip(self.tokens.iter().zip(&self.finished)) {
            let expected = expected(&self.prompt, &self.generate, choice, limit);
            match reason {
                Some(FinishReason::Cancelled) => assert!(expected.starts_with(tokens)),
                Some(FinishReason::Failed(what)) => panic!("{what}"),
                Some(_) => assert_eq!(tokens, &expected),
                None => panic!("choice {choice} has no end"),
            }
        }
    }
}

/// No more runs than may, and every block is held, or free, of which some are cached. (The executor
/// checks what a batch may hold.)
fn check_budgets(engine: &Engine, blocks: usize, max_sequences: usize) {
    let metrics = engine.metrics();
    assert!(metrics.running <= max_sequences);
    assert_eq!(metrics.kv_blocks, blocks);
    let free = engine.free_blocks().unwrap();
    assert_eq!(metrics.kv_blocks_used + free, blocks);
    assert!(metrics.kv_blocks_cached <= free);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn everyone_who_stays_is_served(
        actions in prop::collection::vec(action(), 1..60),
        blocks in 15..80usize,
        max_tokens in 1..40usize,
        max_sequences in 1..10usize,
        channel_capacity in 1..6usize,
        memory in prop_oneof![Just(0), 0..60usize],
        disk in prop_oneof![Just(0), 1..60usize],
    ) {
        let config = EngineConfig { max_sequences, channel_capacity, ..EngineConfig::default() };
        let (engine, _) = watched(blocks, max_tokens, config);
        let swap = SwapConfig {
            memory: (memory * BLOCK_BYTES) as u64,
            disk: (disk > 0).then(|| SwapDisk {
                folder: std::env::temp_dir(),
                bytes: (disk * BLOCK_BYTES) as u64,
            }),
            compact: None,
        };
        let mut engine = engine.with_swap(&swap).unwrap();
        let limit = engine.limits().sequence();
        let mut callers: Vec<Caller> = Vec::new();
        for (seed, action) in (0..).zip(actions) {
            match action {
                Action::Submit { prompt, tokens, n } => {
                    callers.push(Caller::submit(&mut engine, seed, prompt, tokens, n));
                }
                Action::Step(n) => (0..n).for_each(|_| {
                    engine.step();
                    check_budgets(&engine, blocks, max_sequences);
                }),
                Action::Read { of, events } if of < callers.len() => callers[of].read(events),
                Action::Drop(i) if i < callers.len() => drop(callers.remove(i)),
                Action::Cancel(i) if i < callers.len() => callers[i].stream.cancel(),
                Action::Read { .. } | Action::Drop(_) | Action::Cancel(_) => {}
            }
        }
        let mut idle = 0;
        while callers.iter().any(|c| !c.over) {
            idle = if engine.step() { 0 } else { idle + 1 };
            check_budgets(&engine, blocks, max_sequences);
            prop_assert!(idle < 100, "nothing moves");
            callers.iter_mut().for_each(|c| c.read(3));
        }
        engine.step();
        callers.iter().for_each(|c| c.check(limit));
        prop_assert!(engine.is_idle());
        prop_assert_eq!(engine.free_blocks(), Some(blocks));
        prop_assert!(engine.cached_blocks() <= blocks);
        prop_assert!(engine.metrics().kv_blocks_swapped <= memory + disk);
        prop_assert_eq!(engine.metrics().swap_failures, 0);
    }
}
