//! Adapters on the command line.

use serde_json::Value;

use crate::common::zse;

/// A file of zse-model's tests.
fn fixture(name: &str) -> String {
    format!("{}/../zse-model/tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The tokens that `zse run MODEL MORE` draws.
fn ids(model: &str, more: &[&str]) -> Value {
    let args = [
        "run", model, "--raw", "-p", "abc", "-n", "16", "--temp", "0",
    ];
    let args = [&args[..], &["--ignore-eos", "--json"], more].concat();
    zse(&args).json()["ids"].clone()
}

#[test]
fn an_adapter_is_added_to_a_model_or_merged_into_it() {
    let (model, adapter) = (fixture("golden/llama2.gguf"), fixture("lora/llama2"));
    let base = ids(&model, &[]);
    let with = ids(&model, &["--lora", &adapter]);
    assert_ne!(with, base);
    assert_eq!(ids(&model, &["--lora", &fixture("lora/llama2.gguf")]), with);
    let second = fixture("lora/llama2-patterns");
    let both = ids(&model, &["--lora", &adapter, "--lora", &second]);
    assert_ne!(both, with);

    let dir = tempfile::tempdir().expect("a temporary directory");
    let merged = dir.path().join("merged.zse");
    let merged = merged.to_str().expect("a path of UTF-8");
    zse(&["convert", &model, "-o", merged, "--merge-lora", &adapter]).ok();
    assert_eq!(ids(merged, &[]), with);
}

#[test]
fn speed_is_measured_with_adapters() {
    let (model, adapter) = (fixture("golden/llama2.gguf"), fixture("lora/llama2"));
    let args = [
        "bench", &model, "-p", "4", "-n", "2", "-r", "1", "-o", "json",
    ];
    let runs = zse(&[&args[..], &["--lora", &adapter]].concat()).json();
    assert_eq!(runs.as_array().map(Vec::len), Some(2));
}

#[test]
fn mistakes_are_named() {
    let model = fixture("golden/llama2.gguf");
    let other = fixture("lora/phi3");
    let run = zse(&["run", &model, "-p", "a", "--lora", &other]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("for another one"), "{}", run.err);
    let named = zse(&["run", &model, "-p", "a", "--lora", "="]);
    assert_eq!(named.code, 2);
    assert!(named.err.contains("names no adapter"), "{}", named.err);
    let adapter = fixture("lora/llama2");
    let serve = zse(&[
        "serve", &model, "builtin", "--port", "0", "--lora", &adapter,
    ]);
    assert_eq!(serve.code, 2);
    assert!(serve.err.contains("which one it is for"), "{}", serve.err);
    let folder = zse(&["serve", "--port", "0", "--lora-dir", "absent"]);
    assert_eq!(folder.code, 2);
    assert!(folder.err.contains("it is no folder"), "{}", folder.err);
}
