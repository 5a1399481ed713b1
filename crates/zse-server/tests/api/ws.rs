//! WebSockets, through a client of another's making.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::Error;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Message, WebSocket};

use crate::common::{Running, serve};

pub(crate) type Client = WebSocket<TcpStream>;

/// A WebSocket with these headers beside its own, or the status that was answered instead.
pub(crate) fn open(
    server: &Running,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client, u16> {
    let mut request = format!("ws://{}{path}", server.address)
        .into_client_request()
        .expect("an address");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a header");
        request.headers_mut().insert(*name, value);
    }
    match tungstenite::client(request, server.connect()) {
        Ok((client, _)) => Ok(client),
        Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => {
            Err(answer.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn say(client: &mut Client, value: &Value) {
    client
        .send(Message::text(value.to_string()))
        .expect("it is taken");
}

/// The next text.
#[track_caller]
pub(crate) fn hear(client: &mut Client) -> String {
    loop {
        match client.read().expect("a message") {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The objects up to the end of an answer.
#[track_caller]
fn answer(client: &mut Client) -> Vec<Value> {
    let texts = std::iter::from_fn(|| Some(hear(client)).filter(|text| text != "[DONE]"));
    texts
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .collect()
}

/// The code that the server closes with.
#[track_caller]
fn closed(client: &mut Client) -> CloseCode {
    loop {
        match client.read().expect("a message") {
            Message::Close(frame) => return frame.expect("a reason").code,
            Message::Ping(_) | Message::Pong(_) | Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn question() -> Value {
    json!({
        "messages": [{ "role": "user", "content": "What is ZSE?" }],
        "temperature": 0, "max_tokens": 12,
    })
}

/// A request whose answer takes its time.
fn long() -> Value {
    json!({
        "messages": [{ "role": "user", "content": "Tell me a story." }],
        "ignore_eos": true, "max_tokens": 1500,
    })
}

/// Chunks without what is different each time.
fn timeless(chunks: Vec<Value>) -> Vec<Value> {
    let one = |mut chunk: Value| {
        chunk["id"] = Value::Null;
        chunk["created"] = Value::Null;
        chunk
    };
    chunks.into_iter().map(one).collect()
}

#[test]
fn a_chat_has_the_chunks_of_a_stream() {
    let server = serve(|_| {});
    let mut body = question();
    body["stream_options"] = json!({ "include_usage": true });
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    // One after the other, on one connection; the second is sent before the first is answered.
    say(&mut client, &body);
    say(&mut client, &body);
    let first = answer(&mut client);
    let second = answer(&mut client);
    body["stream"] = true.into();
    let events = server.post("/v1/chat/completions", &body).events();
    let text = |chunks: &[Value]| -> String {
        let deltas = chunks.iter().map(|c| &c["choices"][0]["delta"]["content"]);
        deltas.filter_map(Value::as_str).collect()
    };
    assert!(!text(&events).is_empty());
    assert_eq!(text(&first), text(&events));
    assert_eq!(text(&second), text(&events));
    let (first, events) = (timeless(first), timeless(events));
    assert_eq!(first.first(), events.first());
    let reason = |chunks: &[Value]| chunks[chunks.len() - 2]["choices"][0]["finish_reason"].clone();
    assert_eq!(reason(&first), reason(&events));
    let tokens = |chunks: &[Value]| chunks[chunks.len() - 1]["usage"]["completion_tokens"].clone();
    assert_eq!(tokens(&first), tokens(&events));
}

#[test]
fn errors_have_openais_shape_and_end_an_answer() {
    let server = serve(|_| {});
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    let mut lines = question();
    lines["stream"] = false.into();
    let mut cold = question();
    cold["temperature"] = json!(-1);
    for (message, param) in [
        ("{".to_owned(), Value::Null),
        ("[]".to_owned(), Value::Null),
        (json!({ "messages": [] }).to_string(), json!("messages")),
        (json!({ "type": "chat" }).to_string(), Value::Null),
        (lines.to_string(), json!("stream")),
        (cold.to_string(), json!("temperature")),
    ] {
        client.send(Message::text(message.clone())).unwrap();
        let errors = answer(&mut client);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(
            errors[0]["error"]["type"], "invalid_request_error",
            "{message}"
        );
        assert_eq!(errors[0]["error"]["param"], param, "{message}");
    }
    // The connection goes on.
    say(&mut client, &question());
    assert!(answer(&mut client).len() > 1);
}

#[test]
fn a_prompt_that_never_fits_is_always_told_so() {
    let server = serve(|_| {});
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    let words = "word ".repeat(3000);
    let body = json!({ "messages": [{ "role": "user", "content": words }] });
    // Which of two ends is seen first is for chance to say.
    for _ in 0..30 {
        say(&mut client, &body);
        let errors = answer(&mut client);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0]["error"]["code"], "context_length_exceeded");
    }
}

#[test]
fn a_cancellation_and_a_client_that_goes_away_end_an_answer() {
    let server = serve(|_| {});
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    say(&mut client, &json!({ "type": "cancel" }));
    say(&mut client, &long());
    hear(&mut client);
    say(&mut client, &json!({ "type": "cancel" }));
    let rest = answer(&mut client);
    let is_end = |chunk: &Value| chunk["choices"][0]["finish_reason"].is_string();
    assert!(!rest.iter().any(is_end), "it was cut off");
    server.wait_until_idle();
    say(&mut client, &question());
    assert!(answer(&mut client).iter().any(is_end));

    say(&mut client, &long());
    hear(&mut client);
    drop(client);
    server.wait_until_idle();
    assert!(server.metric("zse_requests_abandoned_total") >= 2.0);
}

#[test]
fn what_is_too_much_or_no_text_closes_the_connection() {
    let server = serve(|config| config.max_body = 2000);
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    client.send(Message::binary(&b"{}"[..])).unwrap();
    assert_eq!(closed(&mut client), CloseCode::Unsupported);

    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    client.send(Message::text("x".repeat(2001))).unwrap();
    assert_eq!(closed(&mut client), CloseCode::Size);

    // What clients send to the counts is not read.
    let mut client = open(&server, "/ws/stats?interval=3600", &[]).unwrap();
    hear(&mut client);
    client.send(Message::text("x".repeat(257))).unwrap();
    assert_eq!(closed(&mut client), CloseCode::Size);

    // A masked frame of an operation that there is not.
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    client
        .get_mut()
        .write_all(&[0x83, 0x80, 0, 0, 0, 0])
        .unwrap();
    assert_eq!(closed(&mut client), CloseCode::Protocol);

    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    for _ in 0..3 {
        say(&mut client, &long());
    }
    assert_eq!(closed(&mut client), CloseCode::Policy);
    server.wait_until_idle();
}

#[test]
fn a_reader_that_stalls_is_cut_off() {
    let server = serve(|config| config.write_timeout = Duration::from_millis(300));
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    let mut body = long();
    // Chunks that are large soon fill what the system holds for a client.
    body["logprobs"] = true.into();
    body["top_logprobs"] = 20.into();
    say(&mut client, &body);
    let start = Instant::now();
    while server.metric("zse_requests_abandoned_total") == 0.0 {
        assert!(start.elapsed() < Duration::from_secs(120), "it still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.wait_until_idle();
    // What was sent before can be read, and then no more.
    let mut read = 0;
    while client.read().is_ok() {
        read += 1;
    }
    assert!(read < 1500, "{read} messages");
}

#[test]
fn a_message_that_never_ends_is_cut_off() {
    let server = serve(|config| {
        config.keep_alive = Duration::from_millis(50);
        config.read_timeout = Duration::from_millis(200);
    });
    let fragment = |is_last| {
        let kind = if is_last { Data::Continue } else { Data::Text };
        Message::Frame(Frame::message("{ ", OpCode::Data(kind), is_last))
    };
    // One that comes in pieces is a message like any other, and one that is silent may be so.
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    for _ in 0..10 {
        assert!(matches!(client.read(), Ok(Message::Ping(_))));
    }
    // Both leave at once: the time of a message runs from its first piece.
    client.write(fragment(false)).unwrap();
    client.write(fragment(true)).unwrap();
    client.flush().unwrap();
    assert_eq!(
        answer(&mut client)[0]["error"]["type"],
        "invalid_request_error"
    );
    // Pings are answered as they are read.
    client.send(fragment(false)).unwrap();
    assert_eq!(closed(&mut client), CloseCode::Policy);
}

#[test]
fn counts_come_at_the_pace_that_was_asked_for() {
    let server = serve(|_| {});
    let mut client = open(&server, "/ws/stats?interval=0.1", &[]).unwrap();
    let first: Value = serde_json::from_str(&hear(&mut client)).unwrap();
    assert_eq!(first["models"]["served"], 1);
    let plain = server.get("/api/stats").json();
    let names =
        |stats: &Value| -> Vec<String> { stats.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&first), names(&plain));
    let second: Value = serde_json::from_str(&hear(&mut client)).unwrap();
    assert!(second["uptime_seconds"].as_f64() > first["uptime_seconds"].as_f64());

    for query in [
        "interval=0",
        "interval=-1",
        "interval=nan",
        "interval=1e9",
        "interval=x",
        "pace=1",
    ] {
        let path = format!("/ws/stats?{query}");
        assert_eq!(open(&server, &path, &[]).err(), Some(400), "{query}");
    }
    let error = server.get("/ws/stats").error(426);
    assert!(error["message"].as_str().unwrap().contains("WebSocket"));
}

#[test]
fn keys_and_origins_are_looked_at_before_a_socket_opens() {
    let server = serve(|config| config.api_keys = vec!["se/cret+".to_owned()]);
    let key = BASE64_URL_SAFE_NO_PAD.encode("se/cret+");
    let protocols = format!("zse, zse.key.{key}");
    for path in ["/ws/chat", "/ws/stats"] {
        for (headers, refused) in [
            (&[][..], Some(401)),
            (&[("authorization", "Bearer other")], Some(401)),
            (&[("authorization", "Bearer se/cret+")], None),
            (&[("sec-websocket-protocol", &*protocols)], None),
            (
                &[("sec-websocket-protocol", "zse, zse.key.b25l")],
                Some(401),
            ),
            (
                &[
                    ("sec-websocket-protocol", &*protocols),
                    ("origin", "https://evil.example"),
                ],
                Some(403),
            ),
            (
                &[("sec-websocket-protocol", &*protocols), ("origin", "null")],
                Some(403),
            ),
        ] {
            let opened = open(&server, path, headers);
            assert_eq!(opened.err(), refused, "{path} {headers:?}");
        }
        let in_address = open(&server, &format!("{path}?api_key=se/cret+"), &[]);
        assert_eq!(in_address.err(), Some(401));
    }
}

#[test]
fn a_stop_lets_an_answer_come_to_its_end() {
    let mut server = serve(|_| {});
    let mut idle = open(&server, "/ws/chat", &[]).unwrap();
    let mut counted = open(&server, "/ws/stats", &[]).unwrap();
    let mut client = open(&server, "/ws/chat", &[]).unwrap();
    let mut body = long();
    body["max_tokens"] = 300.into();
    say(&mut client, &body);
    hear(&mut client);
    let reader = std::thread::spawn(move || {
        let chunks = answer(&mut client);
        (chunks, closed(&mut client))
    });
    let idle = std::thread::spawn(move || closed(&mut idle));
    let counted = std::thread::spawn(move || closed(&mut counted));
    server.stop();
    let (chunks, code) = reader.join().unwrap();
    let last = chunks.last().expect("chunks");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(code, CloseCode::Away);
    assert_eq!(idle.join().unwrap(), CloseCode::Away);
    assert_eq!(counted.join().unwrap(), CloseCode::Away);
}
