//! Every parameter of the references of the APIs: it works, or is refused by its name there.

use serde_json::{Value, json};

use crate::common::{Running, serve};

/// What a parameter does.
enum Does {
    Work,
    /// It is refused, by this name.
    Fail(&'static str),
}
use Does::{Fail, Work};

type Parameter = (&'static str, Value, Does);

/// Asks with each parameter by itself, at `path`.
fn check(server: &Running, path: &str, body: &Value, parameters: Vec<Parameter>) {
    for (name, value, does) in parameters {
        let mut body = body.clone();
        body[name] = value;
        let answer = server.post(path, &body);
        match does {
            Work => assert_eq!(answer.status, 200, "{path}: {name}: {}", answer.body),
            Fail(param) => {
                assert_eq!(answer.status, 400, "{path}: {name}: {}", answer.body);
                let error: Value = serde_json::from_str(&answer.body).unwrap();
                let error = &error["error"];
                let message = error["message"].as_str().or(error.as_str()).unwrap();
                assert!(message.contains(param), "{path}: {name}: {message}");
                if error["code"].is_string() {
                    assert_eq!(error["param"], param, "{path}: {name}: {error}");
                }
            }
        }
    }
}

/// Of drawing, in all of OpenAI's references that generate.
fn drawing() -> Vec<Parameter> {
    vec![
        ("temperature", json!(0.5), Work),
        ("top_p", json!(0.5), Work),
        ("user", json!("me"), Work),
        ("model", json!("builtin"), Work),
        ("frequency_penalty", json!(0.5), Work),
        ("presence_penalty", json!(0.5), Work),
        ("logit_bias", json!({ "5": -100 }), Work),
        ("n", json!(2), Work),
        ("seed", json!(1), Work),
        ("stop", json!("."), Work),
        ("stream", json!(true), Work),
        (
            "stream_options",
            json!({ "include_usage": true }),
            Fail("stream_options"),
        ),
        ("no_such", json!(1), Fail("no_such")),
        // vLLM's and llama.cpp's.
        ("guided_json", json!({ "type": "integer" }), Work),
        ("guided_json", json!("{"), Fail("guided_json")),
        ("guided_regex", json!("[a-c]+"), Work),
        ("guided_regex", json!("("), Fail("guided_regex")),
        ("guided_choice", json!(["yes", "no"]), Work),
        ("guided_choice", json!([]), Fail("guided_choice")),
        ("guided_grammar", json!("start: \"a\"+"), Work),
        (
            "guided_grammar",
            json!("root ::= \"a\""),
            Fail("guided_grammar"),
        ),
        ("structured_outputs", json!({ "regex": "[a-c]+" }), Work),
        (
            "structured_outputs",
            json!({ "regex": "(" }),
            Fail("structured_outputs.regex"),
        ),
        (
            "structured_outputs",
            json!({ "whitespace_pattern": " " }),
            Fail("structured_outputs.whitespace_pattern"),
        ),
        ("json_schema", json!({ "type": "integer" }), Work),
        ("grammar", json!("root ::= \"a\""), Fail("grammar")),
    ]
}

#[test]
fn of_chat_completions() {
    let server = serve(|_| {});
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 });
    let tool = json!({ "type": "function", "function": { "name": "f" } });
    let mut parameters = drawing();
    parameters.extend([
        ("audio", json!({ "voice": "ash" }), Fail("audio")),
        ("function_call", json!("auto"), Fail("function_call")),
        ("functions", json!([{ "name": "f" }]), Fail("functions")),
        ("logprobs", json!(true), Work),
        ("max_completion_tokens", json!(2), Work),
        ("metadata", json!({ "a": "b" }), Fail("metadata")),
        ("modalities", json!(["text"]), Work),
        ("modalities", json!(["text", "audio"]), Fail("modalities")),
        ("moderation", json!({}), Fail("moderation")),
        ("n_probs", json!(2), Work),
        ("parallel_tool_calls", json!(true), Work),
        (
            "prediction",
            json!({ "type": "content", "content": "a" }),
            Fail("prediction"),
        ),
        ("prompt_cache_key", json!("a"), Fail("prompt_cache_key")),
        (
            "prompt_cache_retention",
            json!("24h"),
            Fail("prompt_cache_retention"),
        ),
        ("reasoning_effort", json!("none"), Work),
        ("reasoning_effort", json!("low"), Fail("reasoning_effort")),
        ("response_format", json!({ "type": "json_object" }), Work),
        ("safety_identifier", json!("me"), Work),
        ("service_tier", json!("flex"), Fail("service_tier")),
        ("store", json!(true), Fail("store")),
        ("tool_choice", json!("none"), Work),
        ("tools", json!([tool]), Work),
        (
            "tools",
            json!([{ "type": "custom", "custom": { "name": "f" } }]),
            Fail("tools[0]"),
        ),
        (
            "tools",
            json!([{ "type": "function", "function": { "name": "f", "returns": 1 } }]),
            Fail("tools[0].function.returns"),
        ),
        (
            "response_format",
            json!({ "type": "text", "mood": "good" }),
            Fail("response_format.mood"),
        ),
        (
            "tool_choice",
            json!({ "type": "function", "function": { "name": "f" }, "mode": "auto" }),
            Fail("tool_choice.mode"),
        ),
        ("top_logprobs", json!(2), Fail("top_logprobs")),
        ("verbosity", json!("low"), Fail("verbosity")),
        ("web_search_options", json!({}), Fail("web_search_options")),
    ]);
    check(&server, "/v1/chat/completions", &body, parameters);
    let hidden = json!({ "stream": true, "stream_options": { "include_obfuscation": true } });
    let mut body = body;
    body.as_object_mut()
        .unwrap()
        .extend(hidden.as_object().unwrap().clone());
    let error = server.post("/v1/chat/completions", &body).error(400);
    assert_eq!(error["param"], "stream_options.include_obfuscation");
}

#[test]
fn of_completions() {
    let server = serve(|_| {});
    let body = json!({ "prompt": "Hi", "max_tokens": 2 });
    let mut parameters = drawing();
    parameters.extend([
        ("best_of", json!(2), Work),
        ("echo", json!(true), Work),
        ("logprobs", json!(2), Work),
        ("suffix", json!("."), Fail("suffix")),
        ("suffix", json!(""), Work),
    ]);
    check(&server, "/v1/completions", &body, parameters);
}

#[test]
fn of_responses() {
    let server = serve(|_| {});
    let body = json!({ "input": "Hi", "max_output_tokens": 2 });
    let schema = json!({ "type": "json_schema", "name": "a", "schema": 1 });
    check(
        &server,
        "/v1/responses",
        &body,
        vec![
            ("background", json!(true), Fail("background")),
            ("conversation", json!("a"), Fail("conversation")),
            ("include", json!(["message.output_text.logprobs"]), Work),
            (
                "include",
                json!(["file_search_call.results"]),
                Fail("include"),
            ),
            ("input", json!([]), Fail("input")),
            ("instructions", json!("Be brief."), Work),
            ("max_tool_calls", json!(1), Fail("max_tool_calls")),
            ("metadata", json!({ "a": "b" }), Work),
            ("parallel_tool_calls", json!(true), Work),
            ("prompt", json!({ "id": "a" }), Fail("prompt")),
            ("prompt_cache_key", json!("a"), Fail("prompt_cache_key")),
            (
                "prompt_cache_retention",
                json!("24h"),
                Fail("prompt_cache_retention"),
            ),
            ("reasoning", json!({ "effort": "none" }), Work),
            (
                "reasoning",
                json!({ "effort": "low" }),
                Fail("reasoning.effort"),
            ),
            (
                "reasoning",
                json!({ "summary": "auto" }),
                Fail("reasoning.summary"),
            ),
            ("safety_identifier", json!("me"), Work),
            ("service_tier", json!("flex"), Fail("service_tier")),
            ("store", json!(false), Work),
            ("stream", json!(true), Work),
            (
                "stream_options",
                json!({ "include_obfuscation": true }),
                Fail("stream_options"),
            ),
            ("temperature", json!(0.5), Work),
            ("text", json!({ "format": { "type": "json_object" } }), Work),
            ("text", json!({ "format": schema }), Fail("text.format")),
            (
                "text",
                json!({ "verbosity": "low" }),
                Fail("text.verbosity"),
            ),
            ("tool_choice", json!("none"), Work),
            ("tools", json!([{ "type": "web_search" }]), Fail("tools[0]")),
            (
                "tools",
                json!([{ "type": "function", "name": "f", "defer_loading": true }]),
                Fail("tools[0].defer_loading"),
            ),
            (
                "tool_choice",
                json!({ "type": "function", "name": "f", "mode": "auto" }),
                Fail("tool_choice.mode"),
            ),
            (
                "text",
                json!({ "format": { "type": "json_object", "mood": 1 } }),
                Fail("text.format.mood"),
            ),
            ("top_logprobs", json!(2), Fail("top_logprobs")),
            ("top_p", json!(0.5), Work),
            ("truncation", json!("auto"), Fail("truncation")),
            ("user", json!("me"), Work),
            ("no_such", json!(1), Fail("no_such")),
        ],
    );
}

#[test]
fn of_messages() {
    let server = serve(|_| {});
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 });
    let tool = json!({ "name": "f", "input_schema": { "type": "object" }, "strict": true });
    let late = json!({ "name": "f", "input_schema": {}, "defer_loading": true });
    let thinking = json!({ "type": "enabled", "budget_tokens": 2048 });
    let choice = json!({ "type": "auto", "disable_parallel_tool_use": true });
    let format = json!({ "type": "json_schema", "schema": { "type": "nonsense" } });
    check(
        &server,
        "/v1/messages",
        &body,
        vec![
            ("cache_control", json!({ "type": "ephemeral" }), Work),
            ("container", json!("a"), Fail("container")),
            ("context_management", json!({}), Fail("context_management")),
            ("inference_geo", json!("us"), Fail("inference_geo")),
            ("mcp_servers", json!([{}]), Fail("mcp_servers")),
            ("metadata", json!({ "user_id": "me" }), Work),
            ("metadata", json!({ "a": 1 }), Fail("metadata.a")),
            (
                "output_config",
                json!({ "effort": "low" }),
                Fail("output_config.effort"),
            ),
            ("output_config", json!({ "effort": "high" }), Work),
            (
                "output_config",
                json!({ "effort": "endless" }),
                Fail("output_config.effort"),
            ),
            (
                "output_config",
                json!({ "mood": 1 }),
                Fail("output_config.mood"),
            ),
            (
                "output_config",
                json!({ "format": format }),
                Fail("cannot be used"),
            ),
            ("service_tier", json!("auto"), Work),
            ("stop_sequences", json!(["."]), Work),
            (
                "stop_sequences",
                json!(vec!["."; 33]),
                Fail("stop_sequences"),
            ),
            ("stream", json!(true), Work),
            ("system", json!("Be brief."), Work),
            ("temperature", json!(0.5), Work),
            ("thinking", json!({ "type": "disabled" }), Work),
            ("thinking", thinking, Fail("thinking")),
            (
                "thinking",
                json!({ "type": "disabled", "display": "omitted" }),
                Fail("display"),
            ),
            ("tool_choice", choice, Work),
            ("tools", json!([tool]), Work),
            ("tools", json!([late]), Fail("tools[0].defer_loading")),
            ("top_k", json!(5), Work),
            ("top_p", json!(0.5), Work),
            ("n", json!(1), Fail("n")),
            ("no_such", json!(1), Fail("no_such")),
        ],
    );
    let mut both = body;
    both["tools"] = json!([tool]);
    both["tool_choice"] = json!({ "type": "auto", "disable_parallel_tool_use": true });
    let answer = server.post("/v1/messages", &both);
    assert_eq!(answer.status, 200, "{}", answer.body);
    both["tool_choice"]["mode"] = json!(1);
    let answer = server.post("/v1/messages", &both);
    assert!(answer.body.contains("tool_choice.mode"), "{}", answer.body);
}
