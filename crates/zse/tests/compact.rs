//! What it costs to compact the keys and values of idle conversations, in perplexity:
//! `cargo test -p zse --test compact -- --nocapture`.
#![cfg(feature = "builtin")]

use std::ops::ControlFlow;

use zse::{Engine, KvType, LoadOptions, ModelSource, SwapConfig};

/// Running text that the built-in model has not seen.
const TEXT: &str = include_str!("../../../models/builtin/eval/text.txt");
const CHUNK: usize = 512;
const CHUNKS: usize = 16;

fn engine(compact: Option<KvType>) -> Engine {
    let options = LoadOptions {
        context: Some(CHUNK),
        swap: SwapConfig {
            memory: 1 << 30,
            compact,
            ..SwapConfig::default()
        },
        ..LoadOptions::default()
    };
    Engine::load(&ModelSource::Builtin, &options).unwrap()
}

/// The perplexity of the second half of each chunk, whose first half was computed before all others
/// were, and so was swapped meanwhile.
fn perplexity(compact: Option<KvType>) -> f64 {
    let engine = engine(compact);
    let tokenizer = engine.tokenizer();
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let tokens = engine.open_tokens(TEXT, false);
    let chunks: Vec<Vec<u32>> = tokens
        .chunks_exact(CHUNK)
        .take(CHUNKS)
        .map(|chunk| [bos.as_slice(), &chunk[bos.iter().count()..]].concat())
        .collect();
    for chunk in &chunks {
        let half = chunk[..CHUNK / 2 + 1].to_vec();
        engine.score(half, CHUNK / 2, "").unwrap();
    }
    let (mut nll, mut scored) = (0.0, 0);
    for chunk in chunks {
        let scores = engine.score(chunk, CHUNK / 2 + 1, "").unwrap();
        nll -= scores.iter().map(|&score| f64::from(score)).sum::<f64>();
        scored += scores.len();
    }
    let metrics = engine.metrics();
    assert_eq!(metrics.swap_failures, 0);
    let halves = metrics.kv_blocks as u64 / 2 * CHUNKS as u64;
    assert_eq!(metrics.kv_blocks_restored, halves, "all of them came back");
    (nll / scored as f64).exp()
}

#[test]
fn compacted_keys_and_values_cost_little_perplexity() {
    let plain = Engine::load(&ModelSource::Builtin, &LoadOptions::default()).unwrap();
    let mut chunks = 0;
    let expected = plain.perplexity(TEXT, CHUNK, |_| {
        chunks += 1;
        match chunks < CHUNKS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    let expected = expected.unwrap().perplexity;
    let exact = perplexity(None);
    println!("exact: perplexity {exact:.4}");
    assert!((exact - expected).abs() < 1e-9, "{exact} is not {expected}");
    for (kept, most) in [(KvType::Q8_0, 1.005), (KvType::Q4_0, 1.10)] {
        let rounded = perplexity(Some(kept));
        let change = 100.0 * (rounded / exact - 1.0);
        println!("{kept}: perplexity {rounded:.4} ({change:+.2}%)");
        assert!(rounded != exact, "nothing was rounded");
        assert!(rounded < exact * most, "{kept}: {rounded} against {exact}");
    }
}
