//! `zse info`, `tokenize`, `quantize`.

use serde_json::{Value, json};

use crate::common::{zse, zse_with_input};

fn info(args: &[&str]) -> Value {
    zse(&[&["info", "--json"], args].concat()).json()
}

#[test]
fn info_adds_up() {
    let object = info(&[]);
    assert_eq!(object["architecture"], "llama");
    let sum = |field: &str| -> u64 {
        let types = object["types"].as_array().unwrap();
        types.iter().map(|t| t[field].as_u64().unwrap()).sum()
    };
    assert_eq!(object["parameters"], sum("parameters"));
    assert_eq!(object["weight_bytes"], sum("bytes"));
    let memory = &object["memory"];
    let parts = ["weights", "mapped", "kv", "activations", "process"];
    let total: u64 = parts.iter().map(|p| memory[p].as_u64().unwrap()).sum();
    assert_eq!(memory["total"], total);
    let text = zse(&["info"]).ok();
    assert!(
        text.contains("architecture   llama") && text.contains("KV cache"),
        "{text}"
    );
    assert!(text.contains("chat template  its own"), "{text}");
}

#[test]
fn info_names_the_template_of_a_model_that_brings_none() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../zse-model/tests/golden/");
    let text = zse(&["info", &format!("{golden}llama2.gguf")]).ok();
    assert!(
        text.contains("none: `zse chat` takes plain headings"),
        "{text}"
    );
}

#[test]
fn kv_memory_follows_context_and_type() {
    let kv = |args: &[&str]| info(args)["memory"]["kv"].as_u64().unwrap();
    let base = kv(&["--ctx", "512"]);
    assert_eq!(kv(&["--ctx", "1024"]), 2 * base);
    assert_eq!(kv(&["--ctx", "512", "--kv-type", "f32"]), 2 * base);
    assert_eq!(kv(&["--ctx", "512", "--kv-type", "q8_0"]), base / 64 * 34);
}

#[test]
fn memory_is_that_of_the_device() {
    let info = info(&["--device", "reference", "--ctx", "512"]);
    let parameters = info["parameters"].as_u64().unwrap();
    assert_eq!(info["memory"]["weights"], 4 * parameters);
}

#[test]
fn graph_is_the_program() {
    let graph = zse(&["info", "--graph"]).ok();
    assert!(graph.starts_with("program "), "{graph}");
    assert!(
        graph.contains("blk.0.attn_q.weight") && graph.contains("# layer 1"),
        "{graph}"
    );
    let metadata = zse(&["info", "--metadata", "--json"]).json();
    assert_eq!(metadata["general.architecture"], "llama");
}

#[test]
fn tokens_spell_the_text() {
    let text = "Hello, wörld! 1234 \u{1f98a}\n  indented";
    let object = zse(&["tokenize", "-p", text, "--no-bos", "--json"]).json();
    let ids = object["ids"].as_array().unwrap();
    let pieces = object["pieces"].as_array().unwrap();
    assert_eq!(ids.len(), pieces.len());
    let ascii = zse(&["tokenize", "-p", "Hello there", "--no-bos", "--json"]).json();
    let joined: String = ascii["pieces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    assert_eq!(joined, "Hello there");
    assert_eq!(
        zse_with_input(&["tokenize", "--no-bos", "--json"], text).json(),
        object
    );
}

#[test]
fn special_tokens_are_parsed_unless_told_otherwise() {
    let count = |extra: &[&str]| {
        let args = [
            &["tokenize", "--json", "--no-bos", "-p", "<|im_end|>"],
            extra,
        ]
        .concat();
        zse(&args).json()["ids"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 1);
    assert!(count(&["--no-parse-special"]) > 1);
}

#[test]
fn a_quantized_model_is_smaller_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("small.gguf").display().to_string();
    let args = ["quantize", "builtin", "-o", &out, "--quant", "q4_0"];
    let refused = zse(&args);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("--allow-requantize"),
        "{}",
        refused.err
    );
    zse(&[&args[..], &["--allow-requantize"]].concat()).ok();
    let (before, after) = (info(&[]), info(&[&out]));
    assert_eq!(after["parameters"], before["parameters"]);
    assert!(after["file_bytes"].as_u64() < before["file_bytes"].as_u64());
    let types: Vec<&str> = after["types"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["type"].as_str().unwrap())
        .collect();
    assert!(
        types.contains(&"q4_0") && types.contains(&"f32"),
        "{types:?}"
    );
    let answer = zse(&[
        "run", &out, "-p", "Hello!", "--temp", "0", "-n", "8", "--json",
    ])
    .json();
    assert_ne!(answer["ids"], json!([]));

    let same = zse(&["quantize", &out, "-o", &out, "--quant", "q8_0"]);
    assert_eq!(same.code, 2, "{}", same.err);
    assert!(same.err.contains("both source and result"), "{}", same.err);
}
