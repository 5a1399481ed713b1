//! Wrong use, files that are no models, closed pipes.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::common::{command, zse};

#[test]
fn wrong_use_is_exit_code_2_with_a_hint() {
    for (args, hint) in [
        (&["sing"][..], "unrecognized subcommand"),
        (&["run", "--temp", "warm"], "--temp"),
        (&["run", "-p", "a", "--file", "b"], "cannot be used with"),
        (&["info", "llama3:8b"], "path of a GGUF"),
        (&["info", "--device", "gpu"], "known are `auto`"),
        (&["info", "--kv-type", "q3_0"], "known are f32"),
        (
            &["quantize", "builtin", "-o", "x.gguf", "--quant", "q4"],
            "Q4_K_M",
        ),
        (&["bench", "-p", "0", "-n", "0"], "nothing to measure"),
        (&["run", "-p", "a", "--top-p", "1.5"], "top_p is 1.5"),
        (&["run", "-p", "a", "--stop", ""], "--stop is empty"),
    ] {
        let done = zse(args);
        assert_eq!(done.code, 2, "{args:?}: {}", done.err);
        assert!(done.err.contains(hint), "{args:?}: {}", done.err);
        assert_eq!(done.out, "", "{args:?}");
    }
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_build_for_the_cpu_says_so() {
    let done = zse(&["info", "--device", "cuda"]);
    assert_eq!(done.code, 2, "{}", done.err);
    assert!(
        done.err.contains("this build runs on the CPU"),
        "{}",
        done.err
    );
}

#[test]
fn failures_are_exit_code_1_and_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("text.gguf"), "hello").unwrap();
    std::fs::write(path("model.safetensors"), "hello").unwrap();
    std::fs::write(path("lines.jsonl"), "{\"messages\": []}\nnonsense\n").unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../zse-model/tests/golden/");
    let short_heads = format!("{golden}llama2.gguf");
    for (args, hint) in [
        (["info", &path("absent.gguf")].to_vec(), "absent.gguf"),
        (["info", &path("text.gguf")].to_vec(), "text.gguf"),
        (["info", &path("model.safetensors")].to_vec(), "safetensors"),
        (
            ["perplexity", "-f", &path("absent.txt")].to_vec(),
            "absent.txt",
        ),
        (
            ["run", "--messages", &path("lines.jsonl")].to_vec(),
            "lines.jsonl:2",
        ),
        (["run", "-p", "a", "--ctx", "4"].to_vec(), "tokens"),
        (
            ["info", &short_heads, "--kv-type", "q8_0"].to_vec(),
            "q8_0 stores blocks of 32 numbers, but a head has 8; choose f16",
        ),
    ] {
        let done = zse(&args);
        assert_eq!(done.code, 1, "{args:?}: {}", done.err);
        assert!(done.err.starts_with("error: "), "{args:?}: {}", done.err);
        assert!(done.err.contains(hint), "{args:?}: {}", done.err);
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut command = command(&["info", "--metadata", "--json"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(err, "");
    assert!(child.wait().unwrap().success());
}

#[test]
fn help_lists_every_command() {
    let help = zse(&["--help"]).ok();
    for name in [
        "chat",
        "run",
        "bench",
        "info",
        "tokenize",
        "perplexity",
        "quantize",
        "pull",
        "models",
        "hardware",
        "doctor",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{name}: {help}");
    }
    for option in ["--device", "--threads", "--ctx", "--kv-type", "--log"] {
        assert!(help.contains(option), "{option}: {help}");
    }
}

#[test]
fn aliases_are_understood() {
    assert!(zse(&["benchmark", "--help"]).ok().contains("--n-prompt"));
    assert!(zse(&["validate", "--help"]).ok().contains("MODEL"));
}
