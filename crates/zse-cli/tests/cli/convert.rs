//! `zse convert`, and the files that it writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::common::{command, zse};

fn golden(name: &str) -> String {
    format!(
        "{}/../zse-model/tests/golden/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// A temporary folder and a file in it.
fn place(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

#[test]
fn a_converted_model_says_what_it_said() {
    let (_dir, file) = place("builtin.zse");
    let file = text(&file);
    let said = zse(&["convert", "builtin", "-o", file]).ok();
    assert!(said.contains("bits per weight"), "{said}");
    let run = |model: &str| {
        let args = ["-p", "What is ZSE?", "-n", "12", "--temp", "0", "--json"];
        let object = zse(&[&["run", model][..], &args[..]].concat()).json();
        object["ids"].clone()
    };
    assert_eq!(run(file), run("builtin"));

    let info = zse(&["info", "--json", file]).json();
    let plain = zse(&["info", "--json", "builtin"]).json();
    assert_eq!(info["parameters"], plain["parameters"]);
    assert_eq!(info["weight_bytes"], plain["weight_bytes"]);
    // Weights are read where they are mapped.
    let weights = |info: &serde_json::Value| info["memory"]["weights"].as_u64().expect("bytes");
    assert!(20 * weights(&info) < weights(&plain), "{info}");

    let right = zse(&["info", "--verify", file]).ok();
    assert!(right.contains("all checksums are right"), "{right}");
    let mut bytes = fs::read(file).expect("it is there");
    *bytes.last_mut().expect("it has bytes") ^= 1;
    fs::write(file, bytes).expect("written");
    let damaged = zse(&["info", "--verify", file]);
    assert_eq!(damaged.code, 1);
    assert!(
        damaged.err.contains("the file is damaged"),
        "{}",
        damaged.err
    );
}

#[test]
fn a_killed_conversion_goes_on_and_gives_the_same_file() {
    let (dir, file) = place("model.zse");
    let (again, partial) = (
        dir.path().join("again.zse"),
        dir.path().join("model.zse.partial"),
    );
    let convert = |to: &Path| {
        let mut args = vec!["convert", "builtin", "-o", text(to)];
        args.extend(["--quant", "Q5_1", "--allow-requantize", "--threads", "1"]);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let args = convert(&file);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = command(&args)
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    // Whether it is killed early, late, or is done before, the end is the same.
    while !partial.exists() && child.try_wait().expect("it runs or ran").is_none() {
        std::thread::yield_now();
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().expect("it ends");
    zse(&args).ok();
    assert!(!partial.exists());
    let fresh = convert(&again);
    zse(&fresh.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert!(fs::read(&file).expect("written") == fs::read(&again).expect("written"));
}

#[test]
fn mistakes_are_named() {
    let (_dir, file) = place("model.onnx");
    let wrong = zse(&["convert", &golden("llama3.gguf"), "-o", text(&file)]);
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.err.contains("ends neither in .zse nor in .gguf"),
        "{}",
        wrong.err
    );
    let (_dir, file) = place("model.zse");
    for args in [
        &["--tensor-type", "ffn"][..],
        &["--target", "tpu"],
        &["--quant", "Q9"],
        &["--pure"],
    ] {
        let source = golden("llama3.gguf");
        let done = zse(&[&["convert", &source, "-o", text(&file)], args].concat());
        assert_eq!(done.code, 2, "{args:?}: {}", done.err);
    }
    let own = golden("llama3.gguf");
    assert_eq!(zse(&["convert", &own, "-o", &own]).code, 2);
    let gguf = zse(&["info", "--verify", &own]);
    assert!(
        gguf.code == 1 && gguf.err.contains("no checksums"),
        "{}",
        gguf.err
    );
}
