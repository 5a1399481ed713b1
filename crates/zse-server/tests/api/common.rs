//! A server on a free port, and a client of few lines: what is on the wire is what is tested.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;
use zse::format::{Checkpoint, GgufWriter};
use zse::{Engine, LoadOptions, ModelSource};
use zse_server::{Config, Ended, Served, Server};

/// Stops when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// What the server reported.
    pub(crate) reports: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Ended>>,
}

/// A model with room for four sequences.
pub(crate) fn load(source: &str) -> Engine {
    let options = LoadOptions {
        sequences: 4,
        ..LoadOptions::default()
    };
    let source: ModelSource = source.parse().expect("a model");
    Engine::load(&source, &options).expect("it loads")
}

/// The built-in model with other metadata.
pub(crate) fn changed(change: impl FnOnce(&mut GgufWriter)) -> Engine {
    changed_with(&LoadOptions::default(), change)
}

/// The same, loaded as `options` say.
pub(crate) fn changed_with(options: &LoadOptions, change: impl FnOnce(&mut GgufWriter)) -> Engine {
    let builtin = ModelSource::Builtin.open().expect("it is there");
    let mut writer = GgufWriter::new();
    writer.set_all(builtin.metadata()).expect("sound metadata");
    change(&mut writer);
    for tensor in builtin.tensors() {
        let declared = writer.declare(tensor.name, tensor.ty, tensor.shape);
        declared.expect("a sound tensor");
    }
    let mut file = writer.begin(Vec::new(), "changed").expect("a header");
    for tensor in builtin.tensors() {
        file.write(tensor.name, &tensor.data.bytes())
            .expect("as declared");
    }
    let bytes = file.finish().expect("all tensors");
    let checkpoint = Checkpoint::from_bytes(bytes, "changed").expect("a model");
    let source = ModelSource::Checkpoint(Arc::new(checkpoint));
    Engine::load(&source, options).expect("it loads")
}

/// A server of the built-in model, with an engine of its own: what that counts, nobody else did; `change` sets what is not as usual.
pub(crate) fn serve(change: impl FnOnce(&mut Config)) -> Running {
    serve_models(vec![Served::new("builtin", load("builtin"))], change)
}

pub(crate) fn serve_models(models: Vec<Served>, change: impl FnOnce(&mut Config)) -> Running {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&reports);
    let mut config = Config {
        address: "127.0.0.1:0".parse().expect("an address"),
        report: Arc::new(move |what| reported.lock().unwrap().push(what.to_owned())),
        ..Config::default()
    };
    change(&mut config);
    run(Server::bind(config).expect("a free port"), models, reports)
}

pub(crate) fn run(
    server: Server,
    models: Vec<Served>,
    reports: Arc<Mutex<Vec<String>>>,
) -> Running {
    let (stop, stopped) = oneshot::channel();
    Running {
        address: server.address(),
        reports,
        stop: Some(stop),
        thread: Some(std::thread::spawn(move || {
            let stopped = async { _ = stopped.await };
            server.run(models, stopped).expect("it serves")
        })),
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON, of an answer with status 200.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The error object of an answer with this status.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        let error = body["error"].clone();
        assert!(error["message"].is_string(), "{body}");
        assert!(error["type"].is_string(), "{body}");
        error
    }

    /// The events of a stream, which ends as it should.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        let body = self.body.strip_suffix("data: [DONE]\n\n");
        let body = body.unwrap_or_else(|| panic!("no end: {}", self.body));
        let frames = body.split_terminator("\n\n");
        let data = frames.map(|frame| frame.strip_prefix("data: ").expect("data"));
        data.map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }
}

impl Running {
    /// Tells it to stop.
    pub(crate) fn tell(&mut self) {
        drop(self.stop.take());
    }

    /// Stops it, and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        self.tell();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> Ended {
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic")
    }

    /// A connection whose reads end after a time that suffices on a busy machine.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        let patience = Some(Duration::from_secs(100));
        stream.set_read_timeout(patience).expect("a timeout");
        stream
    }

    /// Sends bytes and reads what comes until the server closes the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has seen enough may close before all is sent.
        let _ = stream.write_all(bytes);
        read(&mut stream)
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.raw(message(method, path, headers, body).as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    /// The head of an answer whose body may be no text, in lower case.
    pub(crate) fn head(&self, path: &str) -> String {
        self.request("HEAD", path, "", "").head
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, "", &body.to_string())
    }

    /// The value of a metric, named with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        value(&self.get("/metrics").body, name)
    }

    /// Waits until nothing is generated any more.
    pub(crate) fn wait_until_idle(&self) {
        let start = Instant::now();
        loop {
            // One look at all: a request may go from waiting to running between two.
            let text = self.get("/metrics").body;
            let gauges = [
                "num_requests_waiting",
                "num_requests_running",
                "kv_cache_usage_perc",
            ];
            if gauges
                .iter()
                .all(|name| value(&text, &format!("vllm:{name}")) == 0.0)
            {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "still running: {text}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The value of a metric in Prometheus' text.
fn value(text: &str, name: &str) -> f64 {
    // The server of a test has one model: whatever its label is.
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        match rest.strip_prefix('{') {
            Some(labels) => labels.split_once("} "),
            None => rest.split_once(' '),
        }
    });
    line.and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name}: {text}"))
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A request as bytes, after which the connection is closed.
pub(crate) fn message(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads an answer up to the end of the connection.
pub(crate) fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is how a connection ends whose request was not read to its end.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let head = head.to_ascii_lowercase();
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => body.to_owned(),
    };
    Answer {
        status: status.unwrap_or(0),
        head,
        body,
    }
}

/// The body in HTTP's chunks.
fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        let Some(chunk) = rest.get(..size) else { break };
        whole.push_str(chunk);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
