//! Anthropic's API.

use serde_json::{Value, json};

use crate::common::{Answer, Running, serve};

const ANSWER: &str = "Use `zse quantize SRC -o OUT.gguf --quant TYPE`.";

fn ask(server: &Running, question: &str, more: Value) -> Answer {
    let mut body = json!({
        "model": "builtin", "max_tokens": 100, "temperature": 0,
        "messages": [{ "role": "user", "content": question }],
    });
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    server.post("/v1/messages", &body)
}

/// The events of a stream, each of which says its type twice.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let frames = answer.body.split_terminator("\n\n");
    frames
        .map(|frame| {
            let (name, data) = frame.split_once("\ndata: ").expect("two lines");
            let data: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            data
        })
        .collect()
}

fn calculator() -> Value {
    json!([{
        "name": "calculator", "description": "Computes.",
        "input_schema": { "type": "object", "properties": { "expression": { "type": "string" } } },
    }])
}

#[test]
fn an_answer_is_anthropics_message() {
    let server = serve(|_| {});
    let mut answer = ask(&server, "How do I quantize a model?", json!({})).json();
    assert!(answer["id"].take().as_str().unwrap().starts_with("msg_"));
    let expected = json!({
        "id": null, "type": "message", "role": "assistant", "model": "builtin",
        "content": [{ "type": "text", "text": ANSWER, "citations": null }],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": answer["usage"].clone(),
    });
    assert_eq!(answer, expected);
    assert!(answer["usage"]["output_tokens"].as_u64() > Some(5));

    let stopped = ask(
        &server,
        "How do I quantize a model?",
        json!({ "stop_sequences": [" OUT"] }),
    );
    let stopped = stopped.json();
    assert_eq!(stopped["stop_reason"], "stop_sequence");
    assert_eq!(stopped["stop_sequence"], " OUT");
    let short = ask(
        &server,
        "How do I quantize a model?",
        json!({ "max_tokens": 3 }),
    )
    .json();
    assert_eq!(
        (&short["stop_reason"], &short["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(3))
    );
}

#[test]
fn a_stream_is_this_transcript() {
    let server = serve(|_| {});
    let events = events(&ask(
        &server,
        "How do I quantize a model?",
        json!({ "stream": true }),
    ));
    let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"]);
    let tail = &kinds[kinds.len() - 3..];
    assert_eq!(
        tail,
        ["content_block_stop", "message_delta", "message_stop"]
    );
    assert_eq!(events[0]["message"]["content"], json!([]));
    let texts = events.iter().filter_map(|e| e["delta"]["text"].as_str());
    assert_eq!(texts.collect::<String>(), ANSWER);
    let delta = &events[events.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
    assert!(delta["usage"]["output_tokens"].as_u64() > Some(5));
}

#[test]
fn tools_are_used() {
    let server = serve(|_| {});
    let question = "What is 17 * 23?";
    let answer = ask(&server, question, json!({ "tools": calculator() })).json();
    assert_eq!(answer["stop_reason"], "tool_use");
    let block = &answer["content"][0];
    assert_eq!(block["input"], json!({ "expression": "17 * 23" }));

    let streamed = ask(
        &server,
        question,
        json!({ "tools": calculator(), "stream": true }),
    );
    let events = events(&streamed);
    let start = events
        .iter()
        .find(|e| e["type"] == "content_block_start")
        .unwrap();
    assert_eq!(start["content_block"]["name"], "calculator");
    let pieces = events
        .iter()
        .filter_map(|e| e["delta"]["partial_json"].as_str());
    let input: Value = serde_json::from_str(&pieces.collect::<String>()).expect("JSON");
    assert_eq!(input, block["input"]);

    let messages = json!([
        { "role": "user", "content": question },
        { "role": "assistant", "content": answer["content"] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": block["id"], "content": "391" },
        ]},
    ]);
    let more = json!({ "tools": calculator(), "messages": messages });
    let told = ask(&server, question, more).json();
    assert!(
        told["content"][0]["text"].as_str().unwrap().contains("391"),
        "{told}"
    );

    for choice in [
        json!({ "type": "any" }),
        json!({ "type": "tool", "name": "calculator" }),
    ] {
        let more = json!({ "tools": calculator(), "tool_choice": choice });
        assert_eq!(
            ask(&server, "Hi!", more).json()["content"][0]["name"],
            "calculator"
        );
    }
    // A call that is cut off is given as far as it came.
    let cut = (5..40).find_map(|most| {
        let more = json!({ "tools": calculator(), "max_tokens": most });
        let answer = ask(&server, question, more).json();
        answer["content"][0]["input"]["arguments"]
            .as_str()
            .map(str::to_owned)
    });
    assert!(cut.unwrap().starts_with('{'));
    let none = json!({ "tools": calculator(), "tool_choice": { "type": "none" } });
    assert_eq!(
        ask(&server, question, none).json()["stop_reason"],
        "end_turn"
    );
}

#[test]
fn an_answer_may_be_begun_and_have_a_form() {
    let server = serve(|_| {});
    let messages = json!([
        { "role": "user", "content": "How do I quantize a model?" },
        { "role": "assistant", "content": "Use `zse quantize" },
    ]);
    let answer = ask(&server, "", json!({ "messages": messages })).json();
    assert_eq!(
        answer["content"][0]["text"],
        ANSWER["Use `zse quantize".len()..]
    );
    let schema = json!({
        "type": "object", "properties": { "age": { "type": "integer" } }, "required": ["age"],
        "additionalProperties": false,
    });
    let format = json!({ "format": { "type": "json_schema", "schema": schema } });
    let answer = ask(
        &server,
        "Ida is 12 years old.",
        json!({ "output_config": format }),
    )
    .json();
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(
        serde_json::from_str::<Value>(text).unwrap()["age"].is_i64(),
        "{text}"
    );
}

#[test]
fn tokens_are_counted() {
    let server = serve(|_| {});
    let answer = ask(&server, "Hello", json!({ "system": "Be brief." })).json();
    let usage = &answer["usage"];
    let read = |name: &str| usage[name].as_u64().unwrap();
    let body = json!({
        "model": "builtin", "system": "Be brief.",
        "messages": [{ "role": "user", "content": "Hello" }],
    });
    let counted = server.post("/v1/messages/count_tokens", &body).json();
    let all = read("input_tokens") + read("cache_read_input_tokens");
    assert_eq!(counted, json!({ "input_tokens": all }));
}

#[test]
fn errors_have_anthropics_shape_and_name_what_is_wrong() {
    let server = serve(|config| config.api_keys = vec!["key".to_owned()]);
    let post = |body: &Value| {
        server.request(
            "POST",
            "/v1/messages",
            "x-api-key: key\r\n",
            &body.to_string(),
        )
    };
    let image = json!([{ "role": "user", "content": [{ "type": "image", "source": {} }] }]);
    let begun = json!([
        { "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Oh" },
    ]);
    let format = json!({ "type": "json_schema", "schema": {} });
    for (more, word) in [
        (json!({ "max_tokens": null }), "max_tokens"),
        (json!({ "temperature": -1 }), "temperature"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": image }), "messages[0].content[0]"),
        (
            json!({ "messages": begun, "output_config": { "format": format } }),
            "begun",
        ),
        (
            json!({ "messages": begun, "tools": calculator(), "tool_choice": { "type": "any" } }),
            "begun",
        ),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 9 } }),
            "thinking.budget_tokens",
        ),
        (
            json!({ "tools": [{ "type": "bash_20250124", "name": "bash" }] }),
            "tools[0]",
        ),
        (json!({ "tool_choice": { "type": "some" } }), "tool_choice"),
        (
            json!({ "output_config": { "format": 1 } }),
            "output_config.format",
        ),
        (json!({ "metadata": { "mood": 1 } }), "metadata.mood"),
        (json!({ "stop": "a" }), "'stop'"),
        (json!({ "container": "a" }), "container"),
    ] {
        let mut body = json!({
            "max_tokens": 9, "messages": [{ "role": "user", "content": "Hi" }],
        });
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let answer = post(&body);
        assert_eq!(answer.status, 400, "{}", answer.body);
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(
            error["error"]["message"].as_str().unwrap().contains(word),
            "{error}"
        );
    }
    let stranger = server.post("/v1/messages", &json!({}));
    assert_eq!(stranger.error(401)["type"], "authentication_error");
}
