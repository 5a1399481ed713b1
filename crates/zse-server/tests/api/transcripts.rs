//! What streams are on the wire, byte for byte but for ids and times: `tests/api/transcripts/`. A change of one
//! is a change that clients may see; `ZSE_WRITE_TRANSCRIPTS=1` writes them anew.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use zse::{LoadOptions, ModelSource};
use zse_server::{Config, Served};

use crate::common::{Running, changed, serve, serve_models};
use crate::ws;

/// What ids begin with.
const IDS: [&str; 7] = ["chatcmpl-", "cmpl-", "msg_", "call_", "resp_", "fc_", "fp_"];
/// Fields that hold the time.
const TIMES: [&str; 2] = ["\"created\":", "\"created_at\":"];

/// Those that hold it as text.
const DATES: [&str; 1] = ["\"created_at\":\""];

/// A transcript without what is different each time.
fn plain(body: &str) -> String {
    let mut text = body.to_owned();
    for (marks, is_part) in [
        (
            &IDS[..],
            (|c: char| c.is_ascii_hexdigit()) as fn(char) -> bool,
        ),
        (&TIMES, |c: char| c.is_ascii_digit()),
        (&DATES, |c: char| c.is_ascii_digit() || "-:.TZ".contains(c)),
    ] {
        for mark in marks {
            let mut parts = text.split(mark);
            let mut plain = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let rest = part.trim_start_matches(is_part);
                // Shorter ones are words.
                let is_one = part.len() - rest.len() > 8;
                plain += mark;
                plain += if is_one {
                    "0"
                } else {
                    &part[..part.len() - rest.len()]
                };
                plain += rest;
            }
            text = plain;
        }
    }
    text
}

/// What keeps a connection open while nothing comes is not of the transcript.
fn without_pauses(config: &mut Config) {
    config.keep_alive = Duration::from_secs(3600);
}

#[track_caller]
fn check(name: &str, server: &Running, path: &str, body: &Value) {
    let answer = server.post(path, body);
    assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    compare(name, &answer.body);
}

#[track_caller]
fn compare(name: &str, body: &str) {
    let found = plain(body);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/api/transcripts")
        .join(name);
    if std::env::var_os("ZSE_WRITE_TRANSCRIPTS").is_some() {
        std::fs::write(&file, &found).expect("a folder");
    }
    let kept = std::fs::read_to_string(&file).expect("a transcript");
    assert!(found == kept, "{name} is now\n{found}\nand was\n{kept}");
}

fn said(content: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": content }], "temperature": 0, "stream": true,
    });
    let fields = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

#[test]
fn of_texts() {
    let body = json!({
        "prompt": "I say", "guided_choice": ["Good \"day\"."], "temperature": 0, "stream": true,
        "stream_options": { "include_usage": true },
    });
    check(
        "completion.sse",
        &serve(without_pauses),
        "/v1/completions",
        &body,
    );
    let more = json!({ "guided_choice": ["Grüße!"], "stream_options": { "include_usage": true } });
    check(
        "chat.sse",
        &serve(without_pauses),
        "/v1/chat/completions",
        &said("Hi", more),
    );
}

#[test]
fn of_thoughts() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}\n<think>\n";
    let engine = changed(|writer| {
        let set = writer.set("tokenizer.chat_template", template);
        set.expect("a template");
    });
    let server = serve_models(vec![Served::new("thinker", engine)], without_pauses);
    let body = said("What is a token?", json!({ "max_tokens": 6 }));
    check("thought.sse", &server, "/v1/chat/completions", &body);
}

#[test]
fn of_an_error() {
    let source = ModelSource::Path("/nowhere/gone.gguf".into());
    let models = vec![Served::on_request("gone", source, LoadOptions::default())];
    let server = serve_models(models, |config| {
        without_pauses(config);
        config.load_notice = Duration::ZERO;
    });
    check(
        "error.sse",
        &server,
        "/v1/chat/completions",
        &said("Hi", json!({})),
    );
}

/// A model that can say nothing behind the first words that it has to say: every answer fails in its midst.
#[test]
fn of_failures() {
    let server = serve(without_pauses);
    let words = json!({ "const": "Yes~" });
    let tokens = server.post("/tokenize", &json!({ "content": "~" })).json();
    let biases = json!({ tokens["tokens"][0].to_string(): -1e39 });
    let chat = json!({ "guided_json": words, "logit_bias": biases });
    check(
        "failed-chat.sse",
        &server,
        "/v1/chat/completions",
        &said("Is it?", chat.clone()),
    );
    let mut completion = said("", chat.clone());
    completion
        .as_object_mut()
        .expect("an object")
        .remove("messages");
    completion["prompt"] = "I say".into();
    check(
        "failed-completion.sse",
        &server,
        "/v1/completions",
        &completion,
    );
    let mut client = ws::open(&server, "/ws/chat", &[]).expect("a WebSocket");
    ws::say(&mut client, &said("Is it?", chat));
    let texts = std::iter::from_fn(|| Some(ws::hear(&mut client)).filter(|text| text != "[DONE]"));
    let texts: Vec<String> = texts.collect();
    compare("failed-chat.ws", &(texts.join("\n") + "\n"));

    let format = json!({ "type": "json_schema", "name": "yes", "schema": words });
    let response = json!({
        "input": "Is it?", "temperature": 0, "stream": true, "logit_bias": biases,
        "text": { "format": format },
    });
    check("failed-response.sse", &server, "/v1/responses", &response);
    let format = json!({ "type": "json_schema", "schema": words });
    let more = json!({
        "max_tokens": 50, "logit_bias": biases, "output_config": { "format": format },
    });
    check(
        "failed-message.sse",
        &server,
        "/v1/messages",
        &said("Is it?", more),
    );
    let options = json!({ "temperature": 0, "repeat_penalty": 1, "logit_bias": biases });
    for (name, path) in [
        ("failed-ollama-chat.jsonl", "/api/chat"),
        ("failed-ollama-generate.jsonl", "/api/generate"),
    ] {
        let body = json!({
            "model": "builtin", "prompt": "Is it?", "format": words, "options": options,
            "messages": [{ "role": "user", "content": "Is it?" }],
        });
        let mut body = body;
        let other = if path == "/api/chat" {
            "prompt"
        } else {
            "messages"
        };
        body.as_object_mut().expect("an object").remove(other);
        check(name, &server, path, &body);
    }
}

/// A function in the form of chats.
fn calculator() -> Value {
    let parameters = json!({
        "type": "object", "properties": { "expression": { "type": "string" } },
        "required": ["expression"],
    });
    json!({ "name": "calculator", "parameters": parameters })
}

#[test]
fn of_calls() {
    let server = serve(without_pauses);
    let tools = json!([{ "type": "function", "function": calculator() }]);
    let named = json!({ "type": "function", "function": { "name": "calculator" } });
    let question = "What is 17 * 23?";
    for (name, more) in [
        ("call.sse", json!({ "tools": tools })),
        (
            "call-forced.sse",
            json!({
                "tools": tools, "tool_choice": named, "stream_options": { "include_usage": true },
            }),
        ),
    ] {
        let body = said(question, more);
        check(name, &server, "/v1/chat/completions", &body);
    }
}

/// A call that models of each family have to make, in its own form: their templates are known by what they say of it.
/// Those of gpt-oss think first, at their own length; zse-text has transcripts of what is read with thoughts.
#[test]
fn of_calls_of_each_family() {
    let parameters = json!({
        "type": "object", "properties": { "n": { "const": 7 } }, "required": ["n"],
        "additionalProperties": false,
    });
    let function = json!({ "name": "f", "parameters": parameters });
    for (name, marks) in [
        ("hermes", "<tool_call>"),
        ("qwen-coder", "<tool_call><function="),
        ("llama", "<|python_tag|>"),
        ("llama-python", "[func_name1("),
        ("mistral", "[TOOL_CALLS]"),
        ("mistral-args", "[TOOL_CALLS][ARGS]"),
        ("deepseek", "<｜tool▁call▁begin｜>```json"),
        ("deepseek-3.1", "<｜tool▁call▁begin｜>"),
        ("gemma", "<|tool_call>"),
        ("function-gemma", "<start_function_call>"),
    ] {
        let template = format!(
            "{{% if tools %}}{{{{ '{marks}' }}}}{{% endif %}}{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}\n"
        );
        let engine = changed(|writer| {
            let set = writer.set("tokenizer.chat_template", &*template);
            set.expect("a template");
        });
        let server = serve_models(vec![Served::new(name, engine)], without_pauses);
        let more = json!({
            "tools": [{ "type": "function", "function": function }], "tool_choice": "required",
            "parallel_tool_calls": false, "max_tokens": 300,
        });
        let body = said("Call f.", more);
        check(
            &format!("call-{name}.sse"),
            &server,
            "/v1/chat/completions",
            &body,
        );
    }
}

#[test]
fn of_responses() {
    let server = serve(without_pauses);
    let mut tool = calculator();
    tool["type"] = "function".into();
    let format = json!({ "type": "json_schema", "name": "yes", "schema": { "const": "yes" } });
    let named = json!({ "type": "function", "name": "calculator" });
    for (name, input, more) in [
        (
            "response.sse",
            "Is it?",
            json!({ "text": { "format": format } }),
        ),
        (
            "response-call.sse",
            "What is 17 * 23?",
            json!({ "tools": [tool], "tool_choice": named }),
        ),
    ] {
        let mut body = json!({ "input": input, "temperature": 0, "stream": true });
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        check(name, &server, "/v1/responses", &body);
    }
}

#[test]
fn of_messages() {
    let format = json!({ "type": "json_schema", "schema": { "const": "yes" } });
    let more = json!({ "max_tokens": 50, "output_config": { "format": format } });
    check(
        "message.sse",
        &serve(without_pauses),
        "/v1/messages",
        &said("Is it?", more),
    );
}
