//! Requests with adapters over a real, if small, decoder.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use zse_cpu::CpuBackend;
use zse_engine::{
    AdapterChoice, AdapterLoadError, Engine, EngineConfig, EngineError, Event, Generate,
    LoadedAdapter, Request, RequestError,
};
use zse_model::conformance::{DecoderSpec, adapter, decoder};
use zse_model::executor::Budget;
use zse_model::sampler::SampleParams;
use zse_model::{Adapter, AdapterError, Model};
use zse_quant::GgmlType;

use crate::common::{self, ids};

fn model() -> Arc<Model> {
    let spec = DecoderSpec {
        layers: 1,
        width: 64,
        ff: 96,
        ..DecoderSpec::small(GgmlType::F32)
    };
    decoder(&spec, 11).unwrap()
}

fn engine() -> Engine {
    let budget = Budget {
        kv_blocks: 64,
        block_len: 8,
        ..Budget::for_context(8, 1, 48)
    };
    let config = EngineConfig::default();
    Engine::load(&CpuBackend::default(), model(), None, &budget, config).unwrap()
}

fn adapters() -> [Adapter; 2] {
    let model = model();
    [adapter(&model, &[4], 1), adapter(&model, &[3, 9], 2)].map(Result::unwrap)
}

fn generate(seed: u64, max_tokens: usize) -> Generate {
    Generate {
        params: SampleParams {
            seed,
            ..SampleParams::default()
        },
        max_tokens: Some(max_tokens),
        ..Generate::default()
    }
}

fn prompt(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| (i * 31 + seed * 17) % 97).collect()
}

/// What an adapter of each kind is used for: none, the first, the second, both.
fn choices(loaded: &[LoadedAdapter; 2], kind: usize) -> Vec<AdapterChoice> {
    let [a, b] = loaded;
    let half = |adapter: &LoadedAdapter| AdapterChoice {
        adapter: adapter.clone(),
        scale: 0.5,
    };
    match kind {
        0 => Vec::new(),
        1 => vec![a.whole()],
        2 => vec![b.whole()],
        // In another order than they were loaded in.
        _ => vec![half(b), a.whole()],
    }
}

fn load(engine: &mut Engine) -> [LoadedAdapter; 2] {
    adapters().map(|adapter| engine.load_adapter(&adapter).unwrap())
}

#[test]
fn requests_with_different_adapters_share_steps_and_get_what_they_get_alone() {
    let request = |loaded: &[LoadedAdapter; 2], i: usize| {
        let prompt = prompt(i as u32, 3 + 4 * i as u32);
        Request::generate(prompt, generate(i as u64, 12)).with_adapters(choices(loaded, i % 4))
    };
    let alone: Vec<_> = (0..8)
        .map(|i| {
            let mut engine = engine();
            let loaded = load(&mut engine);
            let stream = engine.submit(request(&loaded, i)).unwrap();
            while engine.step() {}
            ids(&stream.completions()[0])
        })
        .collect();
    let mut engine = engine();
    let loaded = load(&mut engine);
    let streams: Vec<_> = (0..8)
        .map(|i| engine.submit(request(&loaded, i)).unwrap())
        .collect();
    while engine.step() {}
    assert!(engine.metrics().steps < 40, "they share steps");
    let together = streams.into_iter().map(|s| ids(&s.completions()[0]));
    assert_eq!(together.collect::<Vec<_>>(), alone);
}

#[test]
fn the_prefix_cache_is_not_shared_between_adapters() {
    let mut engine = engine();
    let loaded = load(&mut engine);
    let scaled = |scale| {
        let adapter = loaded[0].clone();
        vec![AdapterChoice { adapter, scale }]
    };
    let mut shared = |salt: &str, adapters: Vec<AdapterChoice>| {
        let settings = Generate {
            salt: salt.to_owned(),
            ..generate(1, 4)
        };
        let request = Request::generate(prompt(1, 40), settings).with_adapters(adapters);
        let stream = engine.submit(request).unwrap();
        while engine.step() {}
        stream.completions()[0].finished.usage.shared_tokens
    };
    assert_eq!(shared("", vec![]), 0);
    assert_eq!(shared("", choices(&loaded, 1)), 0);
    assert_eq!(shared("", choices(&loaded, 2)), 0);
    assert_eq!(shared("", choices(&loaded, 3)), 0);
    assert_eq!(shared("", scaled(0.5)), 0);
    for adapters in [
        vec![],
        choices(&loaded, 1),
        choices(&loaded, 2),
        scaled(0.5),
    ] {
        assert_eq!(shared("", adapters), 32);
    }
    // Nothing of an adapter is the model itself; twice a half is a whole.
    assert_eq!(shared("", scaled(0.0)), 32);
    assert_eq!(shared("", [scaled(0.5), scaled(0.5)].concat()), 32);
    // Whatever a tenant's salt is, it stands for no adapter.
    assert_eq!(shared("0*3f800000 \0", vec![]), 0);
    assert_eq!(shared("0*3f800000 ", vec![]), 0);
}

#[test]
fn an_adapter_that_was_dropped_serves_the_requests_that_use_it() {
    let mut engine = engine();
    let before = engine.memory().weights;
    let [a, b] = load(&mut engine);
    assert_eq!(engine.memory().weights, before + a.bytes() + b.bytes());
    assert!(a.bytes() > 0);
    let request = |adapter: &LoadedAdapter| {
        Request::generate(prompt(2, 9), generate(2, 20)).with_adapters(vec![adapter.whole()])
    };
    let first = engine.submit(request(&a)).unwrap();
    while engine.step() {}
    let expected = ids(&first.completions()[0]);

    let again = engine.submit(request(&a)).unwrap();
    engine.step();
    let size = a.bytes();
    drop(a);
    engine.step();
    assert_eq!(engine.memory().weights, before + size + b.bytes());
    while engine.step() {}
    assert_eq!(ids(&again.completions()[0]), expected);
    assert_eq!(engine.memory().weights, before + b.bytes());

    // Its place in the prefix cache is not that of the next one.
    let [c, _] = load(&mut engine);
    let other = engine.submit(request(&c)).unwrap();
    while engine.step() {}
    let completion = &other.completions()[0];
    assert_eq!(completion.finished.usage.shared_tokens, 0);
    assert_eq!(ids(completion), expected);
}

#[test]
fn adapters_come_and_go_while_others_are_served() {
    let handle = engine().start().unwrap();
    let run = |adapters: Vec<AdapterChoice>| {
        let request = Request::generate(prompt(3, 11), generate(3, 24)).with_adapters(adapters);
        let stream = handle.submit(request).unwrap();
        ids(&stream.completions()[0])
    };
    let [a, b] = adapters();
    let [base, with_a, with_b] = {
        let loaded = [&a, &b].map(|x| handle.load_adapter(x.clone()).unwrap());
        [0, 1, 2].map(|kind| run(choices(&loaded, kind)))
    };
    assert!(base != with_a && with_a != with_b && base != with_b);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..6).for_each(|_| assert_eq!(run(Vec::new()), base)));
        }
        for (adapter, expected) in [(&a, &with_a), (&b, &with_b)] {
            let (handle, run) = (&handle, &run);
            scope.spawn(move || {
                for _ in 0..6 {
                    let loaded = handle.load_adapter(adapter.clone()).unwrap();
                    let used = vec![loaded.whole()];
                    drop(loaded);
                    assert_eq!(&run(used), expected);
                }
            });
        }
    });
}

#[test]
fn an_idle_engine_gives_the_memory_of_an_adapter_back_and_ends() {
    let handle = engine().start().unwrap();
    let [a, _] = adapters();
    let loaded = handle.load_adapter(a.clone()).unwrap();
    let first = loaded.whole();
    drop((loaded, first));
    let ended = handle.ended();
    // One that outlives the handle does not keep the engine.
    let last = handle.load_adapter(a.clone()).unwrap();
    drop((handle, last));
    assert!(ended.wait_until(Instant::now() + Duration::from_secs(60)));
}

#[test]
fn what_cannot_be_used_is_refused() {
    let (mut engine, mut other) = (engine(), engine());
    let [a, _] = load(&mut engine);
    let request = |choice| Request::score(vec![1, 2], 1).with_adapters(vec![choice]);
    let refused = other.submit(request(a.whole())).unwrap_err();
    assert_eq!(refused, RequestError::AdapterOfAnother);
    let handle = other.start().unwrap();
    let refused = handle.submit(request(a.whole())).unwrap_err();
    assert_eq!(
        refused,
        EngineError::Refused(RequestError::AdapterOfAnother)
    );
    for scale in [f32::NAN, f32::INFINITY] {
        let adapter = a.clone();
        let refused = engine.submit(request(AdapterChoice { adapter, scale }));
        assert!(matches!(refused, Err(RequestError::AdapterScale { .. })));
    }
    let half = |scale| AdapterChoice {
        adapter: a.clone(),
        scale,
    };
    let twice = Request::score(vec![1, 2], 1).with_adapters(vec![half(3e38), half(3e38)]);
    let refused = engine.submit(twice).unwrap_err();
    let scale = f32::INFINITY;
    assert_eq!(refused, RequestError::AdapterScale { scale });

    // An executor that knows none.
    let fake = common::engine(4, 16).start().unwrap();
    let refused = fake.load_adapter(adapters()[0].clone());
    assert!(matches!(
        refused,
        Err(AdapterLoadError::Refused(AdapterError::Unsupported))
    ));
}

#[test]
fn scores_are_those_of_the_adapter() {
    let mut engine = engine();
    let loaded = load(&mut engine);
    let mut scores = |kind: usize| {
        let request = Request::score(prompt(4, 20), 1).with_adapters(choices(&loaded, kind));
        let stream = engine.submit(request).unwrap();
        while engine.step() {}
        let mut all = Vec::new();
        while let Ok(event) = stream.try_recv() {
            if let Event::Scores(scores) = event {
                all.extend(scores);
            }
        }
        all
    };
    let base = scores(0);
    assert_eq!(base.len(), 19);
    assert!(scores(1) != base && scores(2) != base);
    assert_eq!(scores(0), base);
}
