//! Conversations that had to give way come back, and nobody notices.

use std::sync::Arc;

use crate::common::*;
use zse_engine::{Engine, EngineConfig, FinishReason, Generate, Request, SwapConfig, SwapDisk};

/// Room for so many swapped blocks in memory and on disk.
fn room(memory: usize, disk: usize) -> SwapConfig {
    SwapConfig {
        memory: (memory * BLOCK_BYTES) as u64,
        disk: (disk > 0).then(|| SwapDisk {
            folder: std::env::temp_dir(),
            bytes: (disk * BLOCK_BYTES) as u64,
        }),
        compact: None,
    }
}

fn swapping(blocks: usize, config: &SwapConfig) -> (Engine, Log) {
    let wide = EngineConfig {
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    let (engine, log) = watched(blocks, 64, wide);
    (engine.with_swap(config).unwrap(), log)
}

/// Serves one request, and holds its tokens against their definition; how many it found.
fn serve(engine: &mut Engine, prompt: &[u32], generate: &Generate) -> usize {
    let stream = engine
        .submit(Request::generate(prompt.to_vec(), generate.clone()))
        .unwrap();
    while engine.step() {}
    let completion = stream.completions().remove(0);
    let mut bare = generate.clone();
    bare.params.logit_bias.push((EOS, f32::NEG_INFINITY));
    assert_eq!(ids(&completion), expected(prompt, &bare, 0, 200));
    completion.finished.usage.shared_tokens
}

#[test]
fn idle_conversations_come_back() {
    // Room for one conversation at a time: 20 blocks hold 80 tokens.
    for (memory, disk) in [(100, 0), (0, 100), (7, 100)] {
        let (mut engine, _) = swapping(20, &room(memory, disk));
        let talks: Vec<Vec<u32>> = (0..4).map(|i| prompt(i, 60)).collect();
        for talk in &talks {
            assert_eq!(serve(&mut engine, talk, &generate(1)), 0);
        }
        assert_eq!(engine.metrics().kv_blocks_restored, 0);
        for round in 0..3 {
            for talk in &talks {
                assert_eq!(serve(&mut engine, talk, &generate(round)), 56);
            }
        }
        let metrics = engine.metrics();
        assert!(metrics.kv_blocks_restored >= 3 * 4 * 12, "{metrics:?}");
        assert_eq!(metrics.swap_failures, 0);
        assert!(metrics.kv_blocks_swapped > 40);
        assert_eq!(engine.free_blocks(), Some(20));
        engine.clear_cache();
        assert_eq!(engine.metrics().kv_blocks_swapped, 0);
        assert_eq!(serve(&mut engine, &talks[0], &generate(1)), 0);
    }
}

#[test]
fn no_more_is_swapped_than_there_is_room_for() {
    let (mut engine, _) = swapping(20, &room(10, 10));
    for seed in 0..6 {
        serve(&mut engine, &prompt(seed, 60), &generate(seed));
        assert!(engine.metrics().kv_blocks_swapped <= 20);
    }
    // The one before the last is swapped as a whole, and what is older is not.
    assert_eq!(serve(&mut engine, &prompt(4, 60), &generate(1)), 56);
    assert_eq!(serve(&mut engine, &prompt(1, 60), &generate(1)), 0);
}

#[test]
fn who_gives_way_computes_nothing_again() {
    // Two that run together want 2 x 28 blocks of 40.
    let computed = |config: &SwapConfig| {
        let (mut engine, log) = swapping(40, config);
        let long = Generate {
            max_tokens: Some(70),
            ..generate(3)
        };
        let streams: Vec<_> = (0..2)
            .map(|i| engine.submit(Request::generate(prompt(i, 40), long.clone())))
            .collect();
        while engine.step() {}
        for (i, stream) in (0..).zip(streams) {
            let mut bare = long.clone();
            bare.params.logit_bias.push((EOS, f32::NEG_INFINITY));
            let tokens = expected(&prompt(i, 40), &bare, 0, 200);
            assert_eq!(ids(&stream.unwrap().completions()[0]), tokens);
        }
        assert!(engine.metrics().preemptions > 0);
        let steps = log.lock().unwrap();
        steps.iter().flatten().sum::<usize>()
    };
    let once = 2 * (40 + 69);
    assert!(computed(&room(0, 0)) > once + BLOCK_LEN);
    assert!(computed(&room(100, 0)) <= once + BLOCK_LEN);
}

#[test]
fn a_fault_forgets_what_is_swapped() {
    let budget = budget(20, 64);
    let mut fake = Fake::new(&budget, false);
    let steps = Arc::clone(&fake.log);
    fake.broken_steps = vec![24];
    let wide = EngineConfig {
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    let engine = Engine::new(Box::new(fake), SHAPE, Some(tokenizer()), &budget, wide);
    let mut engine = engine.with_swap(&room(50, 50)).unwrap();
    serve(&mut engine, &prompt(1, 60), &generate(1));
    serve(&mut engine, &prompt(2, 60), &generate(1));
    assert_eq!(steps.lock().unwrap().len(), 24);
    assert!(engine.metrics().kv_blocks_swapped > 0);
    let request = Request::generate(prompt(1, 60), generate(1));
    let stream = engine.submit(request).unwrap();
    while engine.step() {}
    let finished = stream.completions().remove(0).finished;
    assert!(matches!(finished.reason, FinishReason::Failed(_)));
    assert_eq!(engine.metrics().kv_blocks_swapped, 0);
    assert_eq!(serve(&mut engine, &prompt(1, 60), &generate(1)), 0);
}

#[test]
fn a_folder_that_is_not_there_is_named_at_once() {
    let config = SwapConfig {
        memory: 0,
        disk: Some(SwapDisk {
            folder: "/nowhere".into(),
            bytes: 1 << 20,
        }),
        compact: None,
    };
    assert!(engine(20, 64).with_swap(&config).is_err());
}

/// Files without a name are reached through the process that has them open.
#[cfg(target_os = "linux")]
#[test]
fn damage_on_the_disk_is_computed_again() {
    let (folder, config) = on_disk("damage");
    let (mut engine, log) = swapping(20, &config);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    serve(&mut engine, &prompt(1, 60), &generate(1));
    serve(&mut engine, &prompt(2, 60), &generate(1));
    let files = open_files(&folder);
    assert_eq!(files.len(), 1);
    let len = std::fs::metadata(&files[0]).unwrap().len() as usize;
    std::fs::write(&files[0], vec![77; len]).unwrap();
    log.lock().unwrap().clear();
    serve(&mut engine, &prompt(1, 60), &generate(1));
    assert_eq!(log.lock().unwrap().iter().flatten().sum::<usize>(), 60 + 11);
    assert_eq!(engine.metrics().swap_failures, 1);
    assert_eq!(serve(&mut engine, &prompt(1, 60), &generate(1)), 56);
    // Nothing is put there any more.
    serve(&mut engine, &prompt(2, 60), &generate(1));
    assert_eq!(engine.metrics().kv_blocks_swapped, 0);
    assert_eq!(engine.metrics().swap_failures, 1);
    assert!(open_files(&folder).is_empty());
    std::fs::remove_dir(&folder).unwrap();
}

/// Clearing leaves nothing on the disk, even of what nobody asked to be written over.
#[cfg(target_os = "linux")]
#[test]
fn what_is_cleared_is_gone_from_the_disk() {
    let (folder, config) = on_disk("clear");
    let (mut engine, _) = swapping(20, &config);
    serve(&mut engine, &prompt(1, 60), &generate(1));
    serve(&mut engine, &prompt(2, 60), &generate(1));
    let files = open_files(&folder);
    let len = || std::fs::metadata(&files[0]).unwrap().len();
    assert!(len() > 0);
    // Others go on meanwhile.
    let request = Request::generate(prompt(3, 60), generate(1));
    let stream = engine.submit(request).unwrap();
    engine.step();
    engine.clear_cache();
    assert_eq!(len(), 0);
    while engine.step() {}
    assert_eq!(stream.completions().len(), 1);
    assert_eq!(engine.metrics().swap_failures, 0);
    drop(engine);
    std::fs::remove_dir(&folder).unwrap();
}

/// Room on the disk alone, in a folder of its own for the test `name`.
#[cfg(target_os = "linux")]
fn on_disk(name: &str) -> (std::path::PathBuf, SwapConfig) {
    let folder = std::env::temp_dir().join(format!("zse-swap-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = SwapConfig {
        memory: 0,
        disk: Some(SwapDisk {
            folder: folder.clone(),
            bytes: 1 << 20,
        }),
        compact: None,
    };
    (folder, config)
}

/// The files in `folder` that this process has open, as links that can be opened again.
#[cfg(target_os = "linux")]
fn open_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = links.map(|link| link.unwrap().path());
    let is_ours = |target: std::path::PathBuf| target.starts_with(folder);
    links
        .filter(|link| std::fs::read_link(link).is_ok_and(is_ours))
        .collect()
}
