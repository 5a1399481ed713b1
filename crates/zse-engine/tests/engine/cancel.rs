//! Whoever goes away is gone within one step, wherever the request was, and so are its blocks.

use std::cell::Cell;
use std::thread;

use crate::common::*;
use zse_engine::{Engine, EngineConfig, EngineError, Event, EventStream, Generate, Request};
use zse_model::sampler::SampleParams;

fn endless(seed: u64, n: u32) -> Generate {
    Generate {
        params: SampleParams {
            seed,
            ..SampleParams::default()
        },
        ignore_eos: true,
        n,
        ..Generate::default()
    }
}

fn config(max_sequences: usize) -> EngineConfig {
    EngineConfig {
        max_sequences,
        channel_capacity: 1000,
        ..EngineConfig::default()
    }
}

/// An engine with one sequence that decodes, and what the steps hold.
fn busy(max_sequences: usize) -> (Engine, Log, EventStream) {
    let (mut engine, log) = watched(100, 8, config(max_sequences));
    let stays = Request::generate(prompt(1, 3), endless(1, 1));
    let stays = engine.submit(stays).unwrap();
    assert!(engine.step());
    (engine, log, stays)
}

/// Drops `stream`, steps once, and sees that nothing but the one that stays is left.
fn check_gone(engine: &mut Engine, log: &Log, stream: EventStream) {
    drop(stream);
    assert!(engine.step());
    assert_eq!(log.lock().unwrap().last().unwrap(), &[1]);
    let metrics = engine.metrics();
    assert_eq!((metrics.waiting, metrics.running), (0, 1));
    let tokens = 3 + engine.metrics().generated_tokens as usize;
    assert!(engine.free_blocks().unwrap() >= 100 - tokens.div_ceil(BLOCK_LEN));
}

#[test]
fn cancelled_in_the_queue() {
    for n in [1, 3] {
        let (mut engine, log, _stays) = busy(1);
        let goes = Request::generate(prompt(2, 50), endless(2, n));
        let goes = engine.submit(goes).unwrap();
        assert!(engine.step());
        assert_eq!(engine.metrics().waiting, n as usize);
        check_gone(&mut engine, &log, goes);
        assert_eq!(engine.metrics().cancelled, u64::from(n));
    }
}

#[test]
fn cancelled_in_prefill() {
    for n in [1, 3] {
        let (mut engine, log, _stays) = busy(10);
        let goes = Request::generate(prompt(2, 50), endless(2, n));
        let goes = engine.submit(goes).unwrap();
        assert!(engine.step());
        assert_eq!(log.lock().unwrap().last().unwrap(), &[1, 7], "a chunk");
        check_gone(&mut engine, &log, goes);
    }
}

#[test]
fn cancelled_in_decode() {
    for n in [1, 3] {
        let (mut engine, log, _stays) = busy(10);
        let goes = Request::generate(prompt(2, 5), endless(2, n));
        let goes = engine.submit(goes).unwrap();
        (0..6).for_each(|_| assert!(engine.step()));
        let all = vec![1; n as usize + 1];
        assert_eq!(log.lock().unwrap().last().unwrap(), &all);
        let generated = engine.metrics().generated_tokens;
        check_gone(&mut engine, &log, goes);
        assert_eq!(engine.metrics().generated_tokens, generated + 1);
    }
}

#[test]
fn cancelled_in_the_middle_of_scores() {
    let (mut engine, log, _stays) = busy(10);
    let goes = engine.submit(Request::score(prompt(2, 50), 1)).unwrap();
    for _ in 0..2 {
        assert!(engine.step());
        assert_eq!(log.lock().unwrap().last().unwrap(), &[1, 7], "a chunk");
    }
    check_gone(&mut engine, &log, goes);
    assert_eq!(engine.metrics().cancelled, 1);
}

#[test]
fn who_waits_for_scores_may_go() {
    let (engine, _) = watched(100, 1, config(4));
    let handle = engine.start().unwrap();
    let looks = Cell::new(0);
    let is_gone = || looks.replace(looks.get() + 1) == 5;
    let stream = handle.submit(Request::score(prompt(2, 190), 1)).unwrap();
    assert_eq!(stream.scores(Some(&is_gone)), Err(EngineError::Cancelled));
    let stays = handle.submit(Request::score(prompt(2, 190), 1)).unwrap();
    assert_eq!(stays.values(Some(&|| false)).unwrap().len(), 189);
}

#[test]
fn a_thousand_disconnects_leave_every_block_free() {
    let (engine, _) = watched(60, 16, config(8));
    let handle = engine.start().unwrap();
    thread::scope(|scope| {
        for caller in 0..4u64 {
            let handle = handle.clone();
            scope.spawn(move || {
                for i in 0..250 {
                    let seed = caller * 1000 + i;
                    let mut all = prompt(seed % 3, 20);
                    all.extend(prompt(seed, 1 + i as usize % 40));
                    let request = Request::generate(all, endless(seed, 1 + i as u32 % 3));
                    let stream = handle.submit(request).unwrap();
                    // At once, in the prompt, or after some tokens.
                    for _ in 0..i % 4 {
                        assert!(matches!(stream.recv(), Some(Event::Tokens { .. })));
                    }
                }
            });
        }
    });
    let metrics = loop {
        let metrics = handle.metrics();
        if metrics.waiting + metrics.running == 0 && metrics.requests == 1000 {
            break metrics;
        }
        thread::yield_now();
    };
    assert_eq!(metrics.kv_blocks_used, 0);
    // Some may have come to their end before.
    let ended = metrics.cancelled + metrics.completed;
    assert_eq!(ended, 4 * (84 + 2 * 83 + 3 * 83));
    assert!(metrics.cancelled > metrics.completed);
    let last = Request::generate(prompt(9, 30), endless(9, 1));
    assert_eq!(handle.submit(last).unwrap().completions().len(), 1);
}
