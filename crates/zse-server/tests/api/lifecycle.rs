//! Clients that go away, and a server that stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use zse::GpuState;
use zse_server::{Config, Ended, Served, Server};

use crate::common::{Running, load, message, read, run, serve};

fn long(stream: bool) -> String {
    let body = json!({
        "prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": true, "stream": stream,
    });
    message("POST", "/v1/completions", "", &body.to_string())
}

#[test]
fn clients_that_go_away_free_the_engine() {
    let server = serve(|_| {});
    for i in 0..40 {
        let mut stream = server.connect();
        stream.write_all(long(i % 2 == 0).as_bytes()).unwrap();
        // In the queue, in the prompt, and while tokens come.
        if i % 4 == 0 {
            let mut first = [0; 400];
            stream.read_exact(&mut first).unwrap();
        }
    }
    server.wait_until_idle();
    assert!(server.metric("zse_requests_abandoned_total") > 0.0);
    let body = json!({ "prompt": "a", "max_tokens": 1 });
    assert_eq!(server.post("/v1/completions", &body).status, 200);
}

#[test]
fn a_stop_lets_requests_come_to_their_end() {
    let mut server = serve(|_| {});
    let mut stream = server.connect();
    let mut idle = server.connect();
    let body = json!({
        "prompt": "Once upon a time", "max_tokens": 300, "ignore_eos": true, "stream": true,
    });
    let request = message("POST", "/v1/completions", "", &body.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).unwrap();
    let reader = std::thread::spawn(move || read(&mut stream).body);
    let address = server.address;
    server.stop();
    let body = reader.join().unwrap();
    assert!(body.contains("\"finish_reason\":\"length\""), "{body}");
    assert!(body.contains("data: [DONE]"), "{body}");
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens"
    );
    assert_eq!(
        idle.read(&mut [0; 1]).unwrap_or(0),
        0,
        "idle connections are closed"
    );
}

#[test]
fn a_stop_does_not_wait_for_ever_and_says_so() {
    let mut server = serve(|config| config.drain = Duration::from_millis(200));
    let mut streams = [true, false].map(|stream| {
        let mut connection = server.connect();
        connection.write_all(long(stream).as_bytes()).unwrap();
        connection
    });
    let mut first = [0; 100];
    streams[0].read_exact(&mut first).unwrap();
    while server.metric("vllm:num_requests_running") < 2.0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let readers = streams.map(|mut stream| std::thread::spawn(move || read(&mut stream)));
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(120));
    let [stream, whole] = readers.map(|reader| reader.join().unwrap());
    let [.., error, end] = &stream.body.split_terminator("\n\n").collect::<Vec<_>>()[..] else {
        panic!("{stream:?}")
    };
    assert!(
        error.starts_with(r#"data: {"error":{"message":"the server stops"#),
        "{error}"
    );
    assert_eq!(*end, "data: [DONE]");
    assert_eq!(whole.error(503)["code"], "server_stopping");
    assert!(whole.head.contains("retry-after: "), "{}", whole.head);
}

/// A server whose process cannot use its GPU any more once the flag is set.
fn breakable() -> (Running, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&broken);
    let state = move || match flag.load(Ordering::SeqCst) {
        true => GpuState::Broken,
        false => GpuState::Sound,
    };
    let server = serve(|config| config.gpu_state = Some(Arc::new(state)));
    (server, broken)
}

#[test]
fn behind_a_broken_gpu_clients_wait_for_the_next_server() {
    let (mut server, broken) = breakable();
    let mut running = server.connect();
    let body = json!({
        "prompt": "Once upon a time", "max_tokens": 300, "ignore_eos": true, "stream": true,
    });
    let request = message("POST", "/v1/completions", "", &body.to_string());
    running.write_all(request.as_bytes()).unwrap();
    running.read_exact(&mut [0; 100]).unwrap();
    broken.store(true, Ordering::SeqCst);
    let reader = std::thread::spawn(move || read(&mut running).body);
    let Ended::Broken(listener) = server.ended() else {
        panic!("nobody told it to stop");
    };
    // What another device computes comes to its end.
    assert!(reader.join().unwrap().contains("data: [DONE]"));
    let mut waiting = server.connect();
    let request = message("GET", "/health", "", "");
    waiting.write_all(request.as_bytes()).unwrap();
    let next = Server::on(listener, Config::default()).unwrap();
    assert_eq!(next.address(), server.address);
    let models = vec![Served::new("builtin", load("builtin"))];
    let mut next = run(next, models, Arc::default());
    assert_eq!(read(&mut waiting).status, 200);
    next.stop();
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_stop_counts_behind_a_broken_gpu_too() {
    let (mut server, broken) = breakable();
    let mut stream = server.connect();
    stream.write_all(long(true).as_bytes()).unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    broken.store(true, Ordering::SeqCst);
    // It takes no more connections once it has seen it.
    std::thread::sleep(Duration::from_millis(600));
    server.tell();
    drop(stream);
    assert!(matches!(server.ended(), Ended::Stopped));
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_warm_up_takes_no_parameters() {
    let server = serve(|_| {});
    for path in [
        "/api/models/warmup/builtin",
        "/api/models/warmup/builtin/benchmark",
    ] {
        let error = server.post(path, &json!({ "prompt": "a" })).error(400);
        assert_eq!(error["param"], "prompt");
        server.request("POST", path, "", "[").error(400);
    }
    for body in ["", "{}"] {
        let answer = server.request("POST", "/api/models/warmup/builtin", "", body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}
