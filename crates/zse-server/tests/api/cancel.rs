//! Whoever goes away in the middle of one long score or ranking stops it, and its blocks are free.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zse::{Engine, LoadOptions};
use zse_server::Served;

use crate::common::{Running, changed_with, load, message, serve_models};

/// Within which time blocks are free again.
const SOON: Duration = Duration::from_millis(500);

/// A model whose context takes many short steps to compute, and its server.
fn served() -> (Engine, Running) {
    let options = LoadOptions {
        context: Some(CONTEXT),
        batch_tokens: 64,
        ..LoadOptions::default()
    };
    let engine = changed_with(&options, |writer| {
        let set = writer.set("llama.context_length", CONTEXT as u32);
        set.expect("a number");
    });
    let server = serve_models(vec![Served::new("long", engine.clone())], |_| {});
    (engine, server)
}

const CONTEXT: usize = 16384;

/// Asks, goes away once something is computed, and sees that it stops.
#[track_caller]
fn leave(engine: &Engine, server: &Running, path: &str, body: &Value) {
    let before = engine.metrics();
    let mut client = server.connect();
    let request = message("POST", path, "", &body.to_string());
    client.write_all(request.as_bytes()).expect("it listens");
    let start = Instant::now();
    while engine.metrics().kv_blocks_used == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{path} never began"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    let gone = Instant::now();
    while engine.metrics().kv_blocks_used > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = gone.elapsed();
    let after = engine.metrics();
    assert_eq!(
        after.cancelled,
        before.cancelled + 1,
        "{path} was computed to its end"
    );
    assert_eq!(
        after.completed, before.completed,
        "{path} was computed to its end"
    );
    assert!(took < SOON, "{path} held its blocks for {took:?}");
}

#[test]
fn one_long_score_or_ranking_stops_with_its_client() {
    let (engine, server) = served();
    let tokens = vec![300; CONTEXT - 100];
    let score = json!({ "prompt": tokens, "echo": true, "logprobs": 1, "max_tokens": 0 });
    leave(&engine, &server, "/v1/completions", &score);
    let mut streamed = score;
    streamed["stream"] = true.into();
    leave(&engine, &server, "/v1/completions", &streamed);
    let text = "the fox and the owl ".repeat(CONTEXT / 10);
    let rank = json!({ "query": "What is ZSE?", "documents": [text] });
    leave(&engine, &server, "/v1/rerank", &rank);
}

#[test]
fn embeddings_that_nobody_waits_for_are_not_computed() {
    let engine = load(BERT);
    let server = serve_models(vec![Served::new("bert", engine.clone())], |_| {});
    let inputs = vec![vec![5; engine.context().min(100)]; 2048];
    let body = json!({ "input": inputs });
    let mut client = server.connect();
    let request = message("POST", "/v1/embeddings", "", &body.to_string());
    client.write_all(request.as_bytes()).expect("it listens");
    let start = Instant::now();
    while engine.metrics().requests == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    std::thread::sleep(SOON);
    let metrics = engine.metrics();
    assert!(metrics.requests < 2048, "all were computed");
    assert_eq!(metrics.kv_blocks_used, 0);
    std::thread::sleep(SOON);
    assert_eq!(engine.metrics().requests, metrics.requests, "it goes on");
}

const BERT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../zse-model/tests/golden/bert-mean.gguf"
);
