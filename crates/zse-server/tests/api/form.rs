//! Answers in a form that the request sets, and what the engine keeps of earlier ones.

use serde_json::{Value, json};

use crate::common::{Running, serve};

fn ask(server: &Running, question: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": question }], "temperature": 0,
        "max_tokens": 200,
    });
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    server.post("/v1/chat/completions", &body).json()
}

/// A function of one number, or of one text.
fn function(name: &str, of: &str) -> Value {
    let parameters = json!({
        "type": "object", "properties": { "x": { "type": of } },
        "required": ["x"], "additionalProperties": false,
    });
    json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
}

#[test]
fn an_answer_is_json_of_the_schema() {
    let server = serve(|_| {});
    let schema = json!({
        "type": "object",
        "properties": { "name": { "enum": ["Ada", "Bob"] }, "old": { "type": "boolean" } },
        "required": ["name", "old"], "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let answer = ask(&server, "Hello!", json!({ "response_format": format }));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let object: Value = serde_json::from_str(text).unwrap();
    assert!(
        object["name"] == "Ada" || object["name"] == "Bob",
        "{object}"
    );
    assert!(object["old"].is_boolean(), "{object}");

    let body = json!({
        "prompt": "A colour:", "max_tokens": 100, "temperature": 0,
        "response_format": { "type": "json_schema", "json_schema": { "schema": {
            "type": "object", "properties": { "c": { "enum": ["red", "green"] } },
            "required": ["c"], "additionalProperties": false,
        }}},
    });
    let answer = server.post("/v1/completions", &body).json();
    let text = answer["choices"][0]["text"].as_str().unwrap();
    let object: Value = serde_json::from_str(text).unwrap();
    assert!(object["c"] == "red" || object["c"] == "green", "{object}");
}

#[test]
fn any_json_object_is_an_object_as_far_as_it_goes() {
    let server = serve(|_| {});
    let format = json!({ "response_format": { "type": "json_object" } });
    let answer = ask(&server, "Hello!", format);
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.trim_start().starts_with('{'), "{text}");
    if answer["choices"][0]["finish_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
    }
}

#[test]
fn a_call_can_be_required_and_named() {
    let server = serve(|_| {});
    let tools = json!([function("first", "integer"), function("second", "string")]);
    let call = |answer: &Value| {
        let calls = answer["choices"][0]["message"]["tool_calls"].clone();
        let function = calls[0]["function"].clone();
        let arguments: Value =
            serde_json::from_str(function["arguments"].as_str().expect("arguments")).unwrap();
        (calls, function["name"].clone(), arguments)
    };
    let named = json!({ "type": "function", "function": { "name": "first" } });
    let options = json!({ "tools": tools, "tool_choice": named });
    let (calls, name, arguments) = call(&ask(&server, "Hello!", options));
    assert_eq!((calls.as_array().unwrap().len(), name), (1, json!("first")));
    assert!(arguments["x"].is_number(), "{arguments}");

    let options = json!({
        "tools": [function("second", "string")], "tool_choice": "required",
        "parallel_tool_calls": false,
    });
    let (calls, name, arguments) = call(&ask(&server, "Hello!", options));
    assert_eq!(
        (calls.as_array().unwrap().len(), name),
        (1, json!("second"))
    );
    assert!(arguments["x"].is_string(), "{arguments}");
}

#[test]
fn forms_that_cannot_be_are_refused_by_name() {
    let server = serve(|_| {});
    let schema =
        |schema: Value| json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let tools = json!([function("f", "integer")]);
    for (more, param) in [
        (
            json!({ "response_format": { "type": "xml" } }),
            "response_format",
        ),
        (
            json!({ "response_format": schema(json!(3)) }),
            "response_format",
        ),
        (
            json!({ "response_format": schema(json!({ "type": "nonsense" })) }),
            "response_format",
        ),
        (
            json!({ "response_format": { "type": "json_object" }, "tools": tools }),
            "response_format",
        ),
        (
            json!({ "tool_choice": "sometimes", "tools": tools }),
            "tool_choice",
        ),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (
            json!({
                "tools": tools,
                "tool_choice": { "type": "function", "function": { "name": "g" } },
            }),
            "tool_choice",
        ),
        (
            json!({ "tools": tools, "parallel_tool_calls": false }),
            "parallel_tool_calls",
        ),
    ] {
        let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let error = server.post("/v1/chat/completions", &body).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
}

#[test]
fn a_prompt_that_was_computed_is_found_again() {
    let server = serve(|_| {});
    let question = "What is ZSE? ".repeat(20);
    let cached = |answer: &Value| {
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .expect("a number")
    };
    let first = ask(&server, &question, json!({ "max_tokens": 8 }));
    assert_eq!(cached(&first), 0);
    let again = ask(
        &server,
        &question,
        json!({ "max_tokens": 8, "priority": -1 }),
    );
    assert!(cached(&again) >= 32, "{again}");
    assert_eq!(again["choices"], first["choices"]);
    let anew = ask(
        &server,
        &question,
        json!({ "max_tokens": 8, "cache_prompt": false }),
    );
    assert_eq!(cached(&anew), 0);
    assert_eq!(anew["choices"], first["choices"]);
    server.wait_until_idle();
    let found = server.metric("zse_prefix_cache_found_tokens_total");
    assert_eq!(found, cached(&again) as f64);
}
