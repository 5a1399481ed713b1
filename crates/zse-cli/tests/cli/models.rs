//! Pulling, listing and checking models, with a hub on this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use zse_hub_mock::{COMMIT, Server};

use crate::common::{Done, command};

/// The built-in model's file.
const BUILTIN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../models/builtin/zse-builtin.gguf"
);

/// A hub with one repository, `org/name`, of one file; a home for its cache.
struct Hub {
    server: Server,
    home: TempDir,
}

impl Hub {
    fn with(file: &str, contents: &[u8]) -> Self {
        Self {
            server: Server::start(&[(file, contents)]),
            home: tempfile::tempdir().expect("there is room"),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        for name in [
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "HUGGINGFACE_HUB_CACHE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.server.address)
            .env("HF_HOME", self.home.path());
        command
    }

    fn zse(&self, args: &[&str]) -> Done {
        Done::new(self.command(args).output().expect("the binary starts"))
    }
}

#[test]
fn a_model_is_pulled_found_and_removed() {
    let hub = Hub::with("m-Q4_K_M.gguf", b"hello");
    let missing = hub.zse(&["info", "org/name"]);
    assert_eq!(missing.code, 2, "{}", missing.err);
    assert!(
        missing.err.contains("`zse pull org/name`"),
        "{}",
        missing.err
    );
    let pulled = hub.zse(&["pull", "org/name"]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(pulled.err.contains("Q4_K_M"), "{}", pulled.err);
    assert_eq!(fs::read(pulled.out.trim()).unwrap(), b"hello");
    assert_eq!(
        hub.zse(&["models", "path", "org/name:q4_k_m"]).ok(),
        pulled.out
    );
    // Nobody is asked.
    let again = hub
        .command(&["pull", "org/name", "--offline"])
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .output();
    assert_eq!(Done::new(again.unwrap()).out, pulled.out);
    let listed = hub.zse(&["models", "list", "-o", "json"]).json();
    assert_eq!(listed["others"][0]["repo"], "org/name");
    assert_eq!(listed["others"][0]["bytes"], 5);
    let of = |args: &[&str]| {
        let list = hub.zse(&[&["models", "list", "-o", "json"], args].concat());
        list.json()["catalogue"].as_array().unwrap().len()
    };
    let here = of(&["--fits", "--device", "cpu"]);
    assert!(0 < here && here < of(&[]));
    // It is found, and it is no model.
    let wrong = hub.zse(&["info", "org/name"]);
    assert_eq!(wrong.code, 1, "{}", wrong.err);
    let asked = hub.zse(&["models", "rm", "org/name"]);
    assert_eq!(asked.code, 2, "{}", asked.err);
    assert!(asked.err.contains("--yes"), "{}", asked.err);
    assert!(
        hub.zse(&["models", "rm", "org/name", "--yes"])
            .ok()
            .contains("5 B free")
    );
    assert_eq!(hub.zse(&["models", "path", "org/name"]).code, 1);
}

#[test]
fn what_is_wrong_with_a_pull_is_told() {
    let hub = Hub::with("m-Q8_0.gguf", b"hello");
    hub.server
        .set(|hub| (hub.wrong_hash, hub.odd_tags) = (true, true));
    for (args, code, hint) in [
        (&["pull", "nothing"][..], 2, "zse models list"),
        (
            &["pull", "org/name:Q8_0", "--quant", "q4_k_m"],
            2,
            "give one of them",
        ),
        (&["pull", "org/name", "--quant", "banana"], 2, "Q4_K_M"),
        (&["pull", "org/name", "--revision", "../x"], 2, "a branch"),
        (&["pull", "org/name", "--quant", "q4_k_m"], 1, "it has Q8_0"),
        (&["pull", "org/absent"], 1, "no model org/absent"),
        (&["pull", "org/name", "--offline"], 1, "offline"),
        (&["pull", "org/name"], 1, "wrong contents"),
    ] {
        let done = hub.zse(args);
        assert_eq!(done.code, code, "{args:?}: {}", done.err);
        assert!(done.err.contains(hint), "{args:?}: {}", done.err);
    }
}

#[test]
fn a_model_is_checked_by_its_header_alone() {
    let contents = fs::read(BUILTIN).unwrap();
    let whole = contents.len();
    let hub = Hub::with("m-Q8_0.gguf", &contents);
    let verdict = hub
        .zse(&["models", "check", "org/name", "-o", "json"])
        .json();
    assert_eq!(
        (&verdict["runs"], &verdict["architecture"]),
        (&json!(true), &json!("llama"))
    );
    assert_eq!(verdict["file_bytes"], whole);
    let memory = verdict["memory"].as_u64().unwrap();
    assert!(memory > whole as u64 / 2, "{memory}");
    let sent = hub.server.asked();
    assert!(sent < whole / 2, "{sent} of {whole} bytes were fetched");
    assert!(
        hub.zse(&["models", "check", "org/name"])
            .ok()
            .contains("yes, on ")
    );
}

#[test]
fn a_model_in_the_shared_cache_is_used_by_its_name() {
    let hub = Hub::with("unused.gguf", b"hello");
    let repo = hub.home.path().join("hub/models--org--mine");
    let write = |path: &str, contents: &[u8]| {
        let path = repo.join(path);
        fs::create_dir_all(path.parent().expect("below the repository")).unwrap();
        fs::write(path, contents).unwrap();
    };
    write("refs/main", COMMIT.as_bytes());
    write(
        &format!("snapshots/{COMMIT}/m-Q8_0.gguf"),
        &fs::read(BUILTIN).unwrap(),
    );
    let info = hub.zse(&["info", "org/mine:q8_0", "--json"]).json();
    assert!(Path::new(info["file"].as_str().unwrap()).starts_with(&repo));
    assert_eq!(hub.zse(&["info", "org/mine:q4_0"]).code, 2);
}

#[test]
fn the_catalogue_is_filtered() {
    let hub = Hub::with("unused.gguf", b"hello");
    let list = |args: &[&str]| {
        let args = [&["models", "list", "-o", "json"][..], args].concat();
        hub.zse(&args).json()["catalogue"]
            .as_array()
            .unwrap()
            .clone()
    };
    assert!(list(&[]).len() >= 40);
    let code = list(&["-c", "code", "-r"]);
    assert!(!code.is_empty());
    for model in &code {
        assert!(
            model["categories"]
                .as_array()
                .unwrap()
                .contains(&json!("code"))
        );
        assert_eq!(model["recommended"], true);
    }
    let small = list(&["-v", "2"]);
    assert!(!small.is_empty() && small.len() < list(&["-v", "8"]).len());
    for model in &small {
        assert!(model["memory"]["bytes"].as_u64().unwrap() <= 2 << 30);
    }
    assert!(list(&["--local"]).is_empty());
    assert!(hub.zse(&["models", "list"]).ok().contains("qwen3-8b *"));
    for wrong in [["-c", "poetry"], ["-v", "-1"], ["-q", "Q1"]] {
        let done = hub.zse(&[&["models", "list"][..], &wrong].concat());
        assert_eq!(done.code, 2, "{}", done.err);
    }
    let info = hub.zse(&["models", "info", "llama-3.2-1b"]).ok();
    assert!(
        info.contains("bartowski/Llama-3.2-1B-Instruct-GGUF") && info.contains("Q4_K_M"),
        "{info}"
    );
    assert!(
        hub.zse(&["models", "search", "name"])
            .ok()
            .contains("org/good")
    );
}
