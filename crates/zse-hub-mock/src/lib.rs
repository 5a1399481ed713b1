//! A hub on this machine that speaks the API of the real one, and misbehaves when told to: what tests
//! of downloads fetch from. It holds one repository, `org/name`.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The commit that every revision of the repository stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server does with a request for a file's contents, instead of answering it.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Sends so many bytes of the body, then closes the connection.
    Cut(usize),
    /// Sends so many bytes of the body, then nothing more, without closing.
    Stall(usize),
    /// Answers with this status, and with `Retry-After: 0`.
    Status(u16),
    /// Says that the body is longer than it is.
    TooShort,
    /// Sends the range behind the one that was asked for.
    OtherRange,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Such as `GET`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// First and last byte that were asked for.
    pub range: Option<(usize, usize)>,
    /// Whether the token `hf_secret` was sent.
    pub has_token: bool,
}

/// What the server holds and how it behaves.
#[derive(Debug, Default)]
pub struct State {
    /// Contents by path.
    pub files: HashMap<String, Vec<u8>>,
    /// What is done with the next requests for contents, in their order.
    pub faults: VecDeque<Fault>,
    /// Whether ranges are ignored.
    pub no_ranges: bool,
    /// Where contents are redirected to.
    pub cdn: Option<String>,
    /// The hashes in the list are those of other contents.
    pub wrong_hash: bool,
    /// Each answer has a tag of its own, which is no hash.
    pub odd_tags: bool,
    /// The tag of contents changes after so many answers.
    pub changes_after: Option<usize>,
    /// Access is refused without a token.
    pub gated: bool,
    /// Every token is refused.
    pub refuses_tokens: bool,
    /// The list leaves sizes and hashes out.
    pub bare_list: bool,
    /// The size that the list gives every file.
    pub listed_size: Option<u64>,
    /// Paths that are listed beside those of `files`.
    pub also_listed: Vec<String>,
    /// The requests that came.
    pub seen: Vec<Seen>,
    answers: usize,
}

/// A server on a port of its own; threads end with the process.
#[derive(Debug)]
pub struct Server {
    /// Its endpoint: `http://127.0.0.1:PORT`.
    pub address: String,
    /// What it holds and how it behaves.
    pub state: Arc<Mutex<State>>,
}

impl Server {
    /// A server whose repository has these files.
    ///
    /// # Panics
    /// If this machine gives it no port.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let files = files
            .iter()
            .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        let state = Arc::new(Mutex::new(State {
            files: files.collect(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // Clients break connections when they please.
                thread::spawn(move || while let Some(true) = serve(&stream, &state) {});
            }
        });
        Self { address, state }
    }

    /// Changes what it holds or how it behaves.
    ///
    /// # Panics
    /// If one of its threads has.
    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no test has panicked with it"));
    }

    /// The requests that came, and forgets them.
    ///
    /// # Panics
    /// If one of its threads has.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(
            &mut self
                .state
                .lock()
                .expect("no test has panicked with it")
                .seen,
        )
    }

    /// Bytes of contents that requests asked for by range.
    pub fn asked(&self) -> usize {
        let ranges = self.seen().into_iter().filter_map(|seen| seen.range);
        ranges.map(|(first, last)| last + 1 - first).sum()
    }
}

/// Answers one request; whether the connection may bring another.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<bool> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut range, mut has_token) = (None, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
                range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            "authorization" => has_token = value.trim() == "Bearer hf_secret",
            _ => {}
        }
    }
    let path = target.split('?').next()?.to_owned();
    let (answer, fault) = {
        let mut state = state.lock().ok()?;
        state.seen.push(Seen {
            method: method.clone(),
            path: path.clone(),
            range,
            has_token,
        });
        answer(&mut state, &method, &path, range, has_token)
    };
    send(stream, &answer, fault, method == "HEAD")
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn json(value: &Value) -> Self {
        Self {
            body: value.to_string().into_bytes(),
            ..Self::of(200)
        }
    }
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn answer(
    state: &mut State,
    method: &str,
    path: &str,
    range: Option<(usize, usize)>,
    has_token: bool,
) -> (Answer, Option<Fault>) {
    if state.refuses_tokens && has_token {
        let mut refused = Answer::of(401);
        let why = "Invalid credentials in Authorization header";
        refused.headers.push(("x-error-message", why.to_owned()));
        return (refused, None);
    }
    if state.gated && !has_token {
        let mut denied = Answer::of(401);
        denied
            .headers
            .push(("x-error-code", "GatedRepo".to_owned()));
        return (denied, None);
    }
    if path == "/api/models" {
        let found = json!([
            { "id": "org/good", "downloads": 5, "likes": 1, "tags": ["gguf"], "gated": "auto" },
            { "id": "../../evil", "downloads": 9 },
        ]);
        return (Answer::json(&found), None);
    }
    if path.starts_with("/api/models/org/name/revision/") {
        return (Answer::json(&list(state)), None);
    }
    let resolve = format!("/org/name/resolve/{COMMIT}/");
    let (file, is_cdn) = match (path.strip_prefix(&resolve), path.strip_prefix("/cdn/")) {
        (Some(file), _) => (file, false),
        (None, Some(file)) => (file, true),
        (None, None) => return (Answer::of(404), None),
    };
    let Some(contents) = state.files.get(file).cloned() else {
        return (Answer::of(404), None);
    };
    if method == "GET"
        && let Some(fault) = state.faults.pop_front()
    {
        if let Fault::Status(status) = fault {
            let mut busy = Answer::of(status);
            busy.headers.push(("Retry-After", "0".to_owned()));
            return (busy, None);
        }
        return (
            contents_of(state, &contents, range, Some(fault)),
            Some(fault),
        );
    }
    if let (Some(cdn), false) = (&state.cdn, is_cdn) {
        let mut redirect = Answer::of(302);
        redirect
            .headers
            .push(("Location", format!("{cdn}/cdn/{file}?Signature=secret")));
        redirect
            .headers
            .push(("X-Linked-Etag", format!("\"{}\"", sha256(&contents))));
        redirect
            .headers
            .push(("X-Linked-Size", contents.len().to_string()));
        return (redirect, None);
    }
    (contents_of(state, &contents, range, None), None)
}

/// What the API says of the repository.
fn list(state: &State) -> Value {
    let of_file = |(path, contents): (&String, &Vec<u8>)| {
        if state.bare_list {
            return json!({ "rfilename": path });
        }
        let hash = if state.wrong_hash {
            sha256(b"other")
        } else {
            sha256(contents)
        };
        let size = state.listed_size.unwrap_or(contents.len() as u64);
        json!({ "rfilename": path, "size": size, "lfs": { "sha256": hash, "size": size } })
    };
    let mut siblings: Vec<Value> = state.files.iter().map(of_file).collect();
    siblings.extend(
        state
            .also_listed
            .iter()
            .map(|path| json!({ "rfilename": path, "size": 1 })),
    );
    json!({ "id": "org/name", "sha": COMMIT, "siblings": siblings, "pipeline_tag": "text-generation", "tags": [] })
}

fn contents_of(
    state: &mut State,
    contents: &[u8],
    range: Option<(usize, usize)>,
    fault: Option<Fault>,
) -> Answer {
    state.answers += 1;
    let tag = match state.changes_after {
        Some(n) if state.answers > n => sha256(b"a new version"),
        _ if state.odd_tags => format!("node-{}", state.answers),
        _ => sha256(contents),
    };
    let mut answer = match range.filter(|_| !state.no_ranges) {
        Some((first, last)) => {
            let shift = if matches!(fault, Some(Fault::OtherRange)) {
                1
            } else {
                0
            };
            let (first, last) = (first + shift, (last + shift).min(contents.len() - 1));
            let mut answer = Answer::of(206);
            answer.headers.push((
                "Content-Range",
                format!("bytes {first}-{last}/{}", contents.len()),
            ));
            answer.body = contents[first..=last].to_vec();
            answer
        }
        None => Answer {
            body: contents.to_vec(),
            ..Answer::of(200)
        },
    };
    answer.headers.push(("ETag", format!("\"{tag}\"")));
    answer
}

fn send(
    mut stream: &TcpStream,
    answer: &Answer,
    fault: Option<Fault>,
    head_only: bool,
) -> Option<bool> {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let length = body.len() + usize::from(matches!(fault, Some(Fault::TooShort)));
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if head_only {
        return Some(true);
    }
    match fault {
        Some(Fault::Cut(n)) => {
            stream.write_all(&body[..n.min(body.len())]).ok()?;
            stream.shutdown(Shutdown::Both).ok()?;
            Some(false)
        }
        Some(Fault::Stall(n)) => {
            stream.write_all(&body[..n.min(body.len())]).ok()?;
            // Until the client has enough of it.
            let _ = stream.read(&mut [0]);
            Some(false)
        }
        Some(Fault::TooShort) => {
            stream.write_all(body).ok()?;
            stream.shutdown(Shutdown::Both).ok()?;
            Some(false)
        }
        Some(Fault::OtherRange | Fault::Status(_)) | None => {
            stream.write_all(body).ok()?;
            Some(true)
        }
    }
}
