//! `zse serve`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::common::{command, zse};

/// A server that is ended with the test.
struct Server {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    address: String,
    /// What it said before it listened.
    said: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = command(&["serve", "--port", "0"]);
        command.args(args);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.env_remove("ZSE_API_KEY");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut server = Self {
            child,
            out,
            address: String::new(),
            said: String::new(),
        };
        server.address = server.listens();
        server
    }

    /// Reads what it says until it listens; gives where.
    fn listens(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "{}", self.said);
            match line.strip_prefix("listening on http://") {
                None => self.said.push_str(&line),
                Some(rest) => return rest.split(' ').next().expect("an address").to_owned(),
            }
        }
    }

    fn get(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_builtin_model_is_served_without_a_word_more() {
    let server = Server::start(&[]);
    assert!(
        server
            .said
            .starts_with("builtin: context 2048 tokens, 4 at a time")
    );
    for part in ["mapped in", "packed in", "warmed up in"] {
        assert!(server.said.contains(part), "{}", server.said);
    }
    assert!(server.get("/health", "").contains(r#"{"status":"ok"}"#));
    assert!(server.get("/v1/models", "").contains(r#""id":"builtin""#));
}

#[test]
fn a_budget_bounds_what_models_take() {
    let server = Server::start(&["--budget", "2G"]);
    assert!(
        server.said.starts_with("builtin: context 2048"),
        "{}",
        server.said
    );
    let status = server.get("/api/models/cache/status", "");
    let limit = format!("\"memory_limit\":{}", 2_u64 << 30);
    assert!(status.contains(&limit), "{status}");
    let done = zse(&["serve", "--port", "0", "--budget", "1M"]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.err.contains("needs at least"), "{}", done.err);
}

#[test]
fn a_budget_may_be_what_the_machine_has() {
    let server = Server::start(&["--budget", "auto", "--device", "cpu"]);
    let status = server.get("/api/models/cache/status", "");
    let limit = status.split("\"memory_limit\":").nth(1);
    let digits = limit.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let limit: u64 = digits.and_then(|text| text.parse().ok()).expect(&status);
    // Less than all of it: some is left to others.
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let total = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    assert!(
        limit > 64 << 20 && total.is_none_or(|kib| limit < kib << 10),
        "{limit}"
    );
}

#[test]
fn a_folder_is_served_and_loaded_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../zse-model/tests/golden/bert-mean.gguf"
    );
    for name in [
        "one.gguf",
        "split-00001-of-00002.gguf",
        "split-00002-of-00002.gguf",
        "readme.txt",
    ] {
        std::fs::copy(model, dir.path().join(name)).unwrap();
    }
    let folder = dir.path().display().to_string();
    let args = [
        "--models-dir",
        &folder,
        "--alias",
        "other=one",
        "small=builtin",
        "--pin",
        "small",
    ];
    let server = Server::start(&args);
    assert!(
        server.said.starts_with("small: context 2048"),
        "{}",
        server.said
    );
    let models = server.get("/v1/models", "");
    for name in ["small", "one", "other", "split"] {
        assert!(models.contains(&format!(r#""id":"{name}""#)), "{models}");
    }
    assert_eq!(
        models.matches(r#""state":"unloaded""#).count(),
        3,
        "{models}"
    );

    let done = zse(&["serve", "--port", "0", "--pin", "nobody"]);
    assert_eq!(done.code, 2, "{}", done.err);
    let done = zse(&["serve", "--port", "0", "--alias", "a=b"]);
    assert!(
        done.err.contains("'b', which is not served"),
        "{}",
        done.err
    );
    assert_eq!(done.out, "", "nothing is loaded for it");
    for twice in [
        ["one=builtin", "--models-dir", &folder],
        ["builtin", "--alias", "builtin=builtin"],
    ] {
        let done = zse(&[&["serve", "--port", "0"][..], &twice].concat());
        assert!(done.err.contains("is given twice"), "{}", done.err);
        assert_eq!(done.out, "", "nothing is loaded for it");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_in_order() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for (signal, answers) in [
        (Signal::SIGTERM, true),
        (Signal::SIGINT, true),
        // Once it says that it listens, it also listens for signals.
        (Signal::SIGTERM, false),
        (Signal::SIGINT, false),
    ] {
        let mut server = Server::start(&[]);
        let pid = Pid::from_raw(server.child.id() as i32);
        if answers {
            server.get("/health", "");
        }
        kill(pid, signal).expect("it runs");
        assert!(server.child.wait().expect("it ends").success());
        let mut rest = String::new();
        server.out.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "");
    }
}

/// The builds that are tested take a file for a GPU that has failed (see `restart.rs`).
#[cfg(unix)]
#[test]
fn behind_a_broken_gpu_it_starts_again_in_its_place() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken");
    let mut command = command(&["serve", "--port", "0", "--device", "cpu"]);
    command
        .env("ZSE_TEST_BREAK_GPU", &file)
        .stderr(Stdio::piped());
    let mut server = Server::of(command);
    let done = AtomicBool::new(false);
    let (starts, address) = (5, server.address.clone());
    std::thread::scope(|scope| {
        // Whoever asks meanwhile waits, and nobody is refused.
        let asking = scope.spawn(|| {
            let mut answers = 0;
            while !done.load(Ordering::SeqCst) {
                let mut stream = TcpStream::connect(&address).expect("it listens");
                let request =
                    "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                let mut answer = String::new();
                // What was accepted just before the process became another may be cut off.
                let _ = stream.write_all(request.as_bytes());
                let _ = stream.read_to_string(&mut answer);
                answers += usize::from(answer.contains("\"status\":\"ok\""));
                std::thread::sleep(Duration::from_millis(5));
            }
            answers
        });
        for _ in 0..starts {
            std::fs::write(&file, "").unwrap();
            assert_eq!(server.listens(), address);
            assert_eq!(server.child.try_wait().unwrap(), None, "the same process");
            assert!(server.get("/health", "").contains("ok"));
        }
        done.store(true, Ordering::SeqCst);
        assert!(asking.join().expect("nobody is refused") > 0);
    });
    if cfg!(target_os = "linux") {
        let input = format!("/proc/{}/fd/0", server.child.id());
        assert_eq!(
            std::fs::read_link(input).unwrap(),
            std::path::Path::new("/dev/null")
        );
    }
    // Where that does not help, it does not go on for ever.
    std::fs::write(&file, "").unwrap();
    let began = Instant::now();
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(60));
    let mut said = String::new();
    let mut err = server.child.stderr.take().expect("piped");
    err.read_to_string(&mut said).expect("text");
    assert_eq!(said.matches("zse starts again").count(), starts, "{said}");
    assert!(said.contains("5 times within 10 minutes before"), "{said}");
}

#[test]
fn keys_come_from_option_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    std::fs::write(&file, "# of the team\n\nfrom-file\n").unwrap();
    let file = file.display().to_string();
    let server = Server::start(&["--api-key", "from-option", "--api-key-file", &file]);
    for key in ["from-file", "from-option"] {
        let answer = server.get("/v1/models", &format!("authorization: Bearer {key}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(server.get("/v1/models", "").starts_with("HTTP/1.1 401"));
    assert!(server.get("/health", "").starts_with("HTTP/1.1 200"));

    std::fs::write(dir.path().join("keys"), "# none\n").unwrap();
    let done = zse(&["serve", "--port", "0", "--api-key-file", &file]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("has no keys"), "{}", done.err);
}

#[test]
fn others_are_not_let_in_without_a_key() {
    for host in ["0.0.0.0", "::"] {
        let mut command = command(&["serve", "--port", "0", "--host", host]);
        let output = command
            .env_remove("ZSE_API_KEY")
            .output()
            .expect("it starts");
        let err = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains("--api-key"), "{err}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = Server::start(&[]);
    let port = server.address.rsplit(':').next().expect("a port");
    let done = zse(&["serve", "--port", port]);
    assert_eq!(done.code, 1);
    assert!(
        done.err
            .contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{}",
        done.err
    );
}
