//! An engine on its own thread, asked from several others.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use zse_engine::{EngineConfig, EngineError, Event, EventStream, FinishReason, Generate, Request};
use zse_model::sampler::SampleParams;

fn generate(seed: u64) -> Generate {
    let params = SampleParams {
        seed,
        ..SampleParams::default()
    };
    Generate {
        params,
        max_tokens: Some(40),
        ..Generate::default()
    }
}

#[test]
fn many_callers_get_their_own_tokens() {
    // Channels of one event: everyone is descheduled and woken all the time.
    let config = EngineConfig {
        channel_capacity: 1,
        max_sequences: 5,
        ..EngineConfig::default()
    };
    let (engine, _) = watched(60, 32, config);
    let handle = engine.start().unwrap();
    thread::scope(|scope| {
        for caller in 0..6u64 {
            let handle = handle.clone();
            scope.spawn(move || {
                for i in 0..5 {
                    let seed = caller * 100 + i;
                    let prompt = prompt(seed, 1 + seed as usize % 30);
                    let request = Request::generate(prompt.clone(), generate(seed));
                    let completion = handle.submit(request).unwrap().completions().remove(0);
                    assert_eq!(ids(&completion), expected(&prompt, &generate(seed), 0, 200));
                }
            });
        }
    });
}

#[test]
fn a_stalled_engine_wakes_for_its_reader() {
    let config = EngineConfig {
        channel_capacity: 1,
        ..EngineConfig::default()
    };
    let (engine, _) = watched(60, 32, config);
    let handle = engine.start().unwrap();
    let endless = Generate {
        ignore_eos: true,
        ..generate(1)
    };
    let stream = handle
        .submit(Request::generate(prompt(1, 3), endless))
        .unwrap();
    let mut tokens = 0;
    while let Ok(event) = stream.recv_timeout(Duration::from_secs(60)) {
        // Let the engine fall asleep over a full channel every now and then.
        if tokens % 10 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        match event {
            Event::Tokens { tokens: new, .. } => tokens += new.len(),
            Event::Finished(f) => assert_eq!(f.reason, FinishReason::Length),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tokens, 40);
}

#[test]
fn a_dropped_stream_makes_room_for_others() {
    let (engine, _) = watched(
        10,
        32,
        EngineConfig {
            max_sequences: 1,
            ..EngineConfig::default()
        },
    );
    let handle = engine.start().unwrap();
    let endless = Generate {
        ignore_eos: true,
        max_tokens: None,
        ..generate(1)
    };
    let first = handle
        .submit(Request::generate(prompt(1, 3), endless.clone()))
        .unwrap();
    assert!(matches!(first.recv(), Some(Event::Tokens { .. })));
    drop(first);
    let second = handle
        .submit(Request::generate(prompt(2, 3), generate(2)))
        .unwrap();
    assert_eq!(
        ids(&second.completions()[0]),
        expected(&prompt(2, 3), &generate(2), 0, 40)
    );
}

#[test]
fn more_than_may_wait_are_refused_with_a_time_to_try_again() {
    let config = EngineConfig {
        max_sequences: 1,
        max_waiting: 3,
        channel_capacity: 1,
    };
    let (engine, log) = watched(50, 32, config);
    let handle = engine.start().unwrap();
    let request = |i| Request::generate(prompt(i, 5), generate(i));
    let running = handle.submit(request(0)).unwrap();
    assert!(matches!(running.recv(), Some(Event::Tokens { .. })));
    assert_eq!(handle.waiting(), 0, "what runs does not wait");
    // The executor stands still as long as nobody else may write its log.
    let stop = log.lock().unwrap();
    let mut accepted = vec![running];
    let refused = loop {
        match handle.submit(request(accepted.len() as u64)) {
            Ok(stream) => accepted.push(stream),
            Err(error) => break error,
        }
    };
    let EngineError::Busy {
        waiting,
        retry_after,
    } = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(waiting, 3);
    assert!((1..=60).contains(&retry_after.as_secs()));
    drop(stop);
    accepted.clear();
    while handle.waiting() > 0 {
        thread::yield_now();
    }
    let done = handle.submit(Request::generate(prompt(9, 4), generate(9)));
    assert_eq!(done.unwrap().completions().len(), 1);
}

#[test]
fn the_engine_ends_with_its_last_user() {
    let (engine, log) = watched(10, 32, EngineConfig::default());
    let handle = engine.start().unwrap();
    let stream = handle
        .submit(Request::generate(prompt(1, 3), generate(1)))
        .unwrap();
    drop(handle);
    let tokens = ids(&stream.completions()[0]);
    assert_eq!(tokens, expected(&prompt(1, 3), &generate(1), 0, 40));
    // The executor, and its end of the log, go when the engine does.
    while std::sync::Arc::strong_count(&log) > 1 {
        thread::yield_now();
    }
}

#[test]
fn the_end_is_told_once_handles_and_streams_are_gone() {
    let (engine, _) = watched(60, 32, EngineConfig::default());
    let handle = engine.start().unwrap();
    let ended = handle.ended();
    let endless = Generate {
        ignore_eos: true,
        ..generate(1)
    };
    let request = Request::generate(prompt(1, 5), endless);
    let stream = handle.submit(request).unwrap();
    drop(handle);
    let soon = || Instant::now() + Duration::from_millis(20);
    assert!(!ended.wait_until(soon()), "a stream keeps it alive");
    drop(stream);
    assert!(ended.wait_until(Instant::now() + Duration::from_secs(60)));
    assert!(ended.has_ended());
}

#[test]
fn a_cleared_cache_finds_nothing_and_harms_nobody() {
    let (engine, _) = watched(60, 32, EngineConfig::default());
    let handle = engine.start().unwrap();
    let start = || handle.submit(Request::generate(prompt(1, 30), generate(1)));
    let finish = |stream: EventStream| {
        let completion = stream.completions().remove(0);
        let tokens = expected(&prompt(1, 30), &generate(1), 0, 200);
        assert_eq!(ids(&completion), tokens);
        completion.finished.usage.shared_tokens
    };
    assert_eq!(finish(start().unwrap()), 0);
    assert_eq!(finish(start().unwrap()), 28);
    let running = start().unwrap();
    handle.clear_cache();
    finish(running);
    handle.clear_cache();
    assert_eq!(finish(start().unwrap()), 0);
}
