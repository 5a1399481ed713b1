//! Requests that mean harm, and clients that are slow on purpose.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{message, read, serve};

#[test]
fn hostile_bodies_are_refused() {
    let server = serve(|config| config.max_body = 1 << 20);
    let chat =
        |field: &str| format!(r#"{{"messages": [{{"role": "user", "content": "hi"}}], {field}}}"#);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for body in [
        chat(r#""temperature": -1"#),
        chat(r#""temperature": 1e999"#),
        chat(r#""temperature": NaN"#),
        chat(r#""temperature": 1e39"#),
        chat(r#""top_p": -0.1"#),
        chat(r#""n": 1000000"#),
        chat(r#""n": -1"#),
        chat(r#""max_tokens": -5"#),
        chat(r#""max_tokens": 1e30"#),
        chat(r#""top_k": 99999999999999999999"#),
        chat(r#""seed": 1.5"#),
        chat(r#""logit_bias": {"1": null}"#),
        chat(&format!(r#""tools": {deep}"#)),
        chat(r#""tools": [[]]"#),
        deep,
        "null".to_owned(),
        "\u{0}".to_owned(),
        String::new(),
    ] {
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let answer = server.request("POST", path, "", &body);
            answer.error(400);
        }
    }
    let not_text = [
        message("POST", "/tokenize", "", "")
            .replace("length: 0", "length: 2")
            .as_bytes(),
        b"\xff\xfe",
    ]
    .concat();
    server.raw(&not_text).error(400);
    assert!(server.reports.lock().unwrap().is_empty());
}

#[test]
fn what_is_long_is_refused_for_what_it_is() {
    let server = serve(|_| {});
    let most = 3 << 20;
    let text = "all work and no play ".repeat(most / 21);
    let schema = json!({ "enum": vec!["a"; most / 8] });
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let biases = |count: usize| -> Value {
        let biases = (0..count).map(|token| (token.to_string(), json!(1)));
        Value::Object(biases.collect())
    };
    for (path, body, why) in [
        ("/v1/completions", json!({ "prompt": text }), "at least"),
        (
            "/v1/completions",
            json!({ "prompt": "a".repeat(most) }),
            "at least",
        ),
        (
            "/v1/completions",
            json!({ "prompt": " ".repeat(most) }),
            "at least",
        ),
        (
            "/v1/completions",
            json!({ "prompt": vec![1; 300_000] }),
            "300000 tokens",
        ),
        (
            "/v1/completions",
            json!({ "prompt": vec![0; most / 2] }),
            "524288 values",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": [{ "role": "user", "content": text }] }),
            "at least",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "stop": vec!["a"; most / 8] }),
            "stop may have 32 strings",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "response_format": {
                "type": "json_schema", "json_schema": { "name": "a", "schema": schema },
            }}),
            "the size in bytes",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "logit_bias": biases(10_000) }),
            "logit_bias may have 1024 entries",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "logit_bias": biases(200_000) }),
            "524288 values",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "nothing": biases(200_000) }),
            "524288 values",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "guided_json": { "anyOf": vec![json!({ "const": 1 }); 60_000] } }),
            "524288 values",
        ),
    ] {
        let error = server.post(path, &body).error(400);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    assert!(server.reports.lock().unwrap().is_empty());
}

#[test]
fn large_bodies_are_refused_before_they_are_read() {
    let server = serve(|config| config.max_body = 1000);
    let mut stream = server.connect();
    let head = message("POST", "/v1/completions", "", "").replace("length: 0", "length: 10000000");
    stream.write_all(head.as_bytes()).unwrap();
    read(&mut stream).error(413);

    let chunked = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2000, "a".repeat(2000));
    server.raw(format!("{chunked}{body}").as_bytes()).error(413);
}

#[test]
fn clients_that_send_all_before_they_read_learn_why_they_are_refused() {
    let server = serve(|config| config.max_body = 1 << 20);
    let body = vec![b'a'; 10 << 20];
    let head = message("POST", "/v1/completions", "", "");
    let head = head.replace("length: 0", &format!("length: {}", body.len()));
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    read(&mut stream).error(413);
}

#[test]
fn large_and_many_headers_are_refused() {
    let server = serve(|_| {});
    let long = format!("x: {}\r\n", "a".repeat(200_000));
    let many = "x: a\r\n".repeat(200);
    for headers in [long, many] {
        assert_eq!(server.request("GET", "/health", &headers, "").status, 431);
    }
    assert_eq!(server.raw(b"\x16\x03\x01 not HTTP\r\n\r\n").status, 400);
}

#[test]
fn clients_that_hold_their_headers_or_body_are_closed() {
    let server = serve(|config| config.read_timeout = Duration::from_millis(300));
    let head = message("POST", "/v1/completions", "", "");
    for held in [
        String::new(),
        "POST /v1/completions HTTP/1.1\r\nhost: lo".to_owned(),
        head.replace("length: 0", "length: 100"),
    ] {
        let start = Instant::now();
        let mut stream = server.connect();
        stream.write_all(held.as_bytes()).unwrap();
        let answer = read(&mut stream);
        assert!(matches!(answer.status, 0 | 408), "{answer:?}");
        assert!(start.elapsed() < Duration::from_secs(120));
    }
}

#[test]
fn headers_and_body_have_one_deadline() {
    let server = serve(|config| config.read_timeout = Duration::from_secs(4));
    let head = message("POST", "/v1/completions", "", "").replace("length: 0", "length: 100");
    let (first, rest) = head.split_at(20);
    let start = Instant::now();
    let mut stream = server.connect();
    stream.write_all(first.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    stream.write_all(rest.as_bytes()).unwrap();
    assert_eq!(read(&mut stream).status, 408);
    // Twice the time would be seven seconds.
    assert!(
        start.elapsed() < Duration::from_millis(6500),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    let server = serve(|_| {});
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"POST /v1/completions HT").unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(server.get("/health").status, 200);
    }
    drop(slow);
}

#[test]
fn a_reader_that_stalls_is_cut_off() {
    let server = serve(|config| config.write_timeout = Duration::from_millis(300));
    // Enough to fill every buffer on the way: each token comes with twenty others.
    let body = json!({
        "prompt": "Once", "n": 4, "max_tokens": 1000, "ignore_eos": true, "logprobs": 20,
        "stream": true,
    });
    let mut stream = server.connect();
    let request = message("POST", "/v1/completions", "", &body.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).unwrap();
    server.wait_until_idle();
    assert_eq!(server.metric("zse_requests_abandoned_total"), 1.0);
}

#[test]
fn too_many_requests_are_refused_at_once() {
    let server = serve(|config| config.max_requests = 2);
    let endless =
        json!({ "prompt": "Once", "max_tokens": 2000, "ignore_eos": true, "stream": true });
    let mut stream = server.connect();
    let request = message("POST", "/v1/completions", "", &endless.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).unwrap();
    let answer = server.post("/v1/completions", &json!({ "prompt": "a", "n": 2 }));
    assert_eq!(answer.error(429)["type"], "rate_limit_error");
    assert!(answer.head.contains("retry-after: 1"));
    drop(stream);
    server.wait_until_idle();
    let body = json!({ "prompt": "a", "n": 2, "max_tokens": 1 });
    assert_eq!(server.post("/v1/completions", &body).status, 200);
    server.wait_until_idle();
    assert_eq!(
        server.post("/v1/completions", &body).status,
        200,
        "places are given back"
    );
}

#[test]
fn what_can_never_be_let_in_is_not_told_to_come_again() {
    let server = serve(|config| config.max_requests = 2);
    let chat = json!([{ "role": "user", "content": "a" }]);
    for (path, body, param, asked) in [
        (
            "/v1/completions",
            json!({ "prompt": "a", "n": 3 }),
            "n",
            "3",
        ),
        (
            "/v1/completions",
            json!({ "prompt": ["a", "b"], "n": 2 }),
            "n",
            "4",
        ),
        (
            "/v1/completions",
            json!({ "prompt": "a", "best_of": 5 }),
            "best_of",
            "5",
        ),
        (
            "/v1/completions",
            json!({ "prompt": ["a", "b", "c"] }),
            "prompt",
            "3",
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": chat, "n": 3 }),
            "n",
            "3",
        ),
    ] {
        let answer = server.post(path, &body);
        let error = answer.error(400);
        assert_eq!(error["param"], param, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("{asked} continuations")) && message.contains("lets in 2"),
            "{message}"
        );
        assert!(!answer.head.contains("retry-after"), "{}", answer.head);
    }
}
