//! Pulling, listing and checking models, with a hub on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Done, command};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// SHA-256 of `hello`.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// The built-in model's file.
const BUILTIN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../models/builtin/zse-builtin.gguf"
);

/// A hub with one repository, `org/name`, of one file; a home for its cache.
struct Hub {
    address: String,
    sent: Arc<AtomicUsize>,
    home: TempDir,
}

impl Hub {
    fn with(file: &'static str, contents: Vec<u8>, sha256: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let list = json!({ "sha": COMMIT, "siblings": [
            { "rfilename": file, "size": contents.len(), "lfs": { "sha256": sha256 } }] });
        let held = Arc::new((contents, list));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (held, counter) = (Arc::clone(&held), Arc::clone(&counter));
                // One request a connection, and a thread each: clients may open some that they do not
                // use. Those that leave are no failure.
                thread::spawn(move || serve(&stream, file, &held.0, &held.1, &counter));
            }
        });
        Self {
            address,
            sent,
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
            .env("HF_ENDPOINT", &self.address)
            .env("HF_HOME", self.home.path());
        command
    }

    fn zse(&self, args: &[&str]) -> Done {
        Done::new(self.command(args).output().expect("the binary starts"))
    }
}

fn serve(
    mut stream: &TcpStream,
    file: &str,
    contents: &[u8],
    list: &Value,
    sent: &AtomicUsize,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let path = request
        .split_whitespace()
        .nth(1)?
        .split('?')
        .next()?
        .to_owned();
    let mut range = None;
    for line in lines {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            let (first, last) = bytes.split_once('-')?;
            range = Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?));
        }
    }
    let (head, body) = if path == "/api/models/org/name/revision/main" {
        ("200 OK\r\n".to_owned(), list.to_string().into_bytes())
    } else if path == "/api/models" {
        let found = json!([{ "id": "org/name", "downloads": 12, "tags": ["gguf"] }]);
        ("200 OK\r\n".to_owned(), found.to_string().into_bytes())
    } else if path == format!("/org/name/resolve/{COMMIT}/{file}") {
        let (first, last) = range.unwrap_or((0, usize::MAX));
        let last = last.min(contents.len() - 1);
        sent.fetch_add(last + 1 - first, Ordering::SeqCst);
        let range = format!(
            "206 X\r\nContent-Range: bytes {first}-{last}/{}\r\n",
            contents.len()
        );
        (range, contents[first..=last].to_vec())
    } else {
        ("404 X\r\n".to_owned(), Vec::new())
    };
    let head = format!(
        "HTTP/1.1 {head}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

#[test]
fn a_model_is_pulled_found_and_removed() {
    let hub = Hub::with("m-Q4_K_M.gguf", b"hello".to_vec(), HELLO);
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
    let hub = Hub::with("m-Q8_0.gguf", b"hello!".to_vec(), HELLO);
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
        (&["pull", "org/name"], 1, HELLO),
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
    let hub = Hub::with("m-Q8_0.gguf", contents, HELLO);
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
    let sent = hub.sent.load(Ordering::SeqCst);
    assert!(sent < whole / 2, "{sent} of {whole} bytes were fetched");
    assert!(
        hub.zse(&["models", "check", "org/name"])
            .ok()
            .contains("yes, on ")
    );
}

#[test]
fn a_model_in_the_shared_cache_is_used_by_its_name() {
    let hub = Hub::with("unused.gguf", b"hello".to_vec(), HELLO);
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
    let hub = Hub::with("unused.gguf", b"hello".to_vec(), HELLO);
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
            .contains("org/name")
    );
}
