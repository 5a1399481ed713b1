//! What `zse info` says that a run needs, against what one uses.
#![cfg(target_os = "linux")]

use crate::common::zse;

/// The share by which the memory that `zse info` reports may miss what the process uses.
const TOLERANCE: f64 = 0.1;

/// Holds a run of `model` with `settings` that fills its context to what `zse info` says.
fn check(model: &str, settings: &[&str]) {
    // Long enough that a whole batch is computed before the rest of the context is filled.
    let prompt = "The fox ran over the hill to find the river. ".repeat(60);
    let info = zse(&[&["info", "--json", model], settings].concat()).json();
    let run = [
        "run",
        model,
        "--raw",
        "--json",
        "--ignore-eos",
        "-p",
        &prompt,
    ];
    let run = zse(&[&run[..], settings].concat()).json();
    let context = &info["memory"]["context"];
    assert_eq!(&run["usage"]["total_tokens"], context);
    let reported = info["memory"]["total"].as_f64().unwrap();
    let used = run["peak_rss"].as_f64().unwrap();
    let miss = reported / used - 1.0;
    assert!(
        miss.abs() <= TOLERANCE,
        "{model} {settings:?}: reported {reported}, used {used}: {:+.1}%",
        100.0 * miss
    );
}

#[test]
fn info_reports_the_memory_that_the_builtin_model_uses() {
    check("builtin", &["--ctx", "1024"]);
    check("builtin", &["--ctx", "0", "--kv-type", "f32"]);
}

#[test]
fn info_reports_the_memory_that_a_file_uses() {
    let dir = tempfile::tempdir().unwrap();
    for quant in ["f16", "q4_k_m"] {
        let out = dir
            .path()
            .join(format!("{quant}.gguf"))
            .display()
            .to_string();
        zse(&[
            "quantize",
            "builtin",
            "-o",
            &out,
            "--quant",
            quant,
            "--allow-requantize",
        ])
        .ok();
        check(&out, &["--ctx", "1024"]);
        check(&out, &["--ctx", "1024", "--kv-type", "q8_0"]);
    }
}
