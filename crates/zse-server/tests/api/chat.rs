//! `/v1/chat/completions`.

use serde_json::{Value, json};

use zse_server::Served;

use crate::common::{Answer, Running, changed, serve, serve_models};

const QUESTION: &str = "How do I quantize a model?";
const ANSWER: &str = "Use `zse quantize SRC -o OUT.gguf --quant TYPE`.";

fn ask(server: &Running, question: &str, more: Value) -> Answer {
    let mut body = json!({
        "model": "builtin", "temperature": 0,
        "messages": [{ "role": "user", "content": question }],
    });
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    server.post("/v1/chat/completions", &body)
}

fn calculator() -> Value {
    json!([{ "type": "function", "function": {
        "name": "calculator",
        "parameters": { "type": "object", "properties": { "expression": { "type": "string" } } },
    }}])
}

/// The texts of a choice's chunks, put together.
fn content(events: &[Value], index: u64) -> String {
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    let own = choices.filter(|choice| choice["index"] == index);
    own.filter_map(|choice| choice["delta"]["content"].as_str())
        .collect()
}

#[test]
fn an_answer_is_openais_object() {
    let server = serve(|_| {});
    let mut answer = ask(&server, QUESTION, json!({ "user": "u", "seed": 1 })).json();
    let id = answer["id"].take();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].take().as_u64().unwrap() > 1_700_000_000);
    let expected = json!({
        "id": null, "object": "chat.completion", "created": null, "model": "builtin",
        "system_fingerprint": answer["system_fingerprint"].clone(),
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": ANSWER, "refusal": null },
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": answer["usage"].clone(),
    });
    assert_eq!(answer, expected);
    let fingerprint = answer["system_fingerprint"].as_str().unwrap();
    assert!(fingerprint.starts_with("fp_") && fingerprint.len() == 13);
    let again = ask(
        &server,
        QUESTION,
        json!({ "max_tokens": 1, "stream": true }),
    )
    .events();
    assert_eq!(again[0]["system_fingerprint"], fingerprint);
    let text = server.post(
        "/v1/completions",
        &json!({ "prompt": "a", "max_tokens": 1 }),
    );
    assert_eq!(text.json()["system_fingerprint"], fingerprint);
    let usage = |name| answer["usage"][name].as_u64().unwrap();
    let (prompt, completion) = (usage("prompt_tokens"), usage("completion_tokens"));
    assert!(prompt > 5 && completion > 5);
    assert_eq!(usage("total_tokens"), prompt + completion);
}

#[test]
fn a_stream_is_this_transcript() {
    let server = serve(|_| {});
    let options = json!({
        "stream": true, "stream_options": { "include_usage": true }, "max_tokens": 3,
    });
    let answer = ask(&server, QUESTION, options);
    assert!(answer.head.contains("content-type: text/event-stream"));
    assert!(answer.head.contains("cache-control: no-cache"));
    let id = answer.events()[0]["id"].as_str().unwrap().to_owned();
    let created = answer.events()[0]["created"].to_string();
    let fingerprint = answer.events()[0]["system_fingerprint"].to_string();
    let prompt = answer.events().last().unwrap()["usage"]["prompt_tokens"].to_string();
    let transcript = answer
        .body
        .replace(&id, "ID")
        .replace(&fingerprint, "FP")
        .replace(&format!(r#""created":{created}"#), r#""created":0"#)
        .replace(
            &format!(r#""prompt_tokens":{prompt},"#),
            r#""prompt_tokens":P,"#,
        );
    let total = (prompt.parse::<u64>().unwrap() + 3).to_string();
    let transcript =
        transcript.replace(&format!(r#""total_tokens":{total}"#), r#""total_tokens":T"#);
    let chunk = |choices: &str, usage: &str| {
        format!(
            r#"data: {{"id":"ID","object":"chat.completion.chunk","created":0,"model":"builtin","system_fingerprint":FP,"choices":[{choices}],"usage":{usage}}}"#
        )
    };
    let choice = |delta: &str, reason: &str| {
        let choice =
            format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#);
        chunk(&choice, "null")
    };
    let expected = [
        choice(
            r#"{"role":"assistant","content":"","refusal":null}"#,
            "null",
        ),
        choice(r#"{"content":"Use"}"#, "null"),
        choice(r#"{"content":" `"}"#, "null"),
        choice(r#"{"content":"zse"}"#, "null"),
        choice("{}", r#""length""#),
        chunk(
            "",
            r#"{"prompt_tokens":P,"completion_tokens":3,"total_tokens":T,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#,
        ),
        "data: [DONE]".to_owned(),
        String::new(),
    ];
    assert_eq!(
        transcript,
        expected.join("\n\n").trim_end_matches('\n').to_owned() + "\n\n"
    );
}

#[test]
fn streams_say_what_whole_answers_say() {
    let server = serve(|_| {});
    let options = json!({ "n": 2, "temperature": 1.0, "seed": 7, "max_tokens": 40, "stop": ["."] });
    let whole = ask(&server, "Tell me a story about a fox.", options.clone()).json();
    let mut streamed = options;
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({ "continuous_usage_stats": true });
    let events = ask(&server, "Tell me a story about a fox.", streamed).events();
    let texts = [content(&events, 0), content(&events, 1)];
    assert_ne!(texts[0], texts[1]);
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(whole["choices"][i]["message"]["content"], *text);
        assert!(!text.contains('.') && !text.is_empty());
    }
    let last = &events.last().unwrap()["usage"];
    assert_eq!(*last, whole["usage"]);
}

#[test]
fn tools_are_called_and_their_results_are_read() {
    let server = serve(|_| {});
    let tools = json!({ "tools": calculator(), "tool_choice": "auto" });
    let answer = ask(&server, "What is 17 * 23?", tools).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(choice["message"]["content"].is_null());
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(
        (&call["type"], &call["function"]["name"]),
        (&json!("function"), &json!("calculator"))
    );
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({ "expression": "17 * 23" }));

    let mut messages = json!([{ "role": "user", "content": "What is 17 * 23?" }]);
    let list = messages.as_array_mut().unwrap();
    list.push(choice["message"].clone());
    list.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "391" }));
    let body = json!({ "messages": messages, "tools": calculator(), "temperature": 0 });
    let answer = server.post("/v1/chat/completions", &body).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("391"), "{text}");
}

#[test]
fn calls_stream_as_openais_deltas() {
    let server = serve(|_| {});
    let options = json!({ "tools": calculator(), "stream": true });
    let events = ask(&server, "What is 17 * 23?", options).events();
    assert_eq!(content(&events, 0), "");
    let calls: Vec<&Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"].get("tool_calls"))
        .collect();
    assert_eq!(calls[0][0]["function"]["name"], "calculator");
    assert!(calls[0][0]["id"].as_str().unwrap().starts_with("call_"));
    assert!(calls.iter().all(|call| call[0]["index"] == 0));
    let arguments: String = calls
        .iter()
        .filter_map(|call| call[0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(
        serde_json::from_str::<Value>(&arguments).unwrap(),
        json!({ "expression": "17 * 23" })
    );
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        "tool_calls"
    );

    let none = json!({ "tools": calculator(), "tool_choice": "none" });
    let answer = ask(&server, "What is 17 * 23?", none).json();
    assert!(answer["choices"][0]["message"]["tool_calls"].is_null());
}

#[test]
fn log_probabilities_come_with_their_alternatives() {
    let server = serve(|_| {});
    let options = json!({ "logprobs": true, "top_logprobs": 2 });
    let answer = ask(&server, QUESTION, options.clone()).json();
    let entries = answer["choices"][0]["logprobs"]["content"].clone();
    let entries = entries.as_array().unwrap();
    let text: String = entries.iter().filter_map(|e| e["token"].as_str()).collect();
    assert_eq!(text, ANSWER);
    for entry in entries {
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[0]["token"], entry["token"], "greedy takes the best");
    }
    let by_llamas_name = ask(&server, QUESTION, json!({ "n_probs": 2 })).json();
    assert_eq!(by_llamas_name["choices"], answer["choices"]);
    let mut streamed = options;
    streamed["stream"] = true.into();
    let events = ask(&server, QUESTION, streamed).events();
    let chunks = events
        .iter()
        .filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(
        chunks.flatten().collect::<Vec<_>>(),
        entries.iter().collect::<Vec<_>>()
    );
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let server = serve(|_| {});
    for (more, param) in [
        (json!({ "reasoning_effort": "low" }), "reasoning_effort"),
        (json!({ "temprature": 1 }), "temprature"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
        (
            json!({ "logprobs": true, "top_logprobs": 21 }),
            "top_logprobs",
        ),
        (json!({ "n": 0 }), "n"),
        (
            json!({ "max_tokens": 1, "max_completion_tokens": 2 }),
            "max_tokens",
        ),
        (json!({ "stream_options": {} }), "stream_options"),
        (
            json!({ "stream": true, "stream_options": { "x": 1 } }),
            "stream_options.x",
        ),
        (json!({ "tools": [{}] }), "tools[0]"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": "hi" }), "messages"),
        (json!({ "logit_bias": { "99999": 1 } }), "logit_bias"),
        (json!({ "stop": [""] }), "stop"),
    ] {
        let error = ask(&server, QUESTION, more).error(400);
        assert_eq!(error["param"], param, "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let error = ask(&server, QUESTION, json!({ "model": "gpt-4" })).error(404);
    assert_eq!(error["code"], "model_not_found");
    let neutral = json!({
        "response_format": { "type": "text" }, "store": false, "service_tier": "auto",
        "parallel_tool_calls": true, "stop": null, "tools": null,
    });
    assert_eq!(ask(&server, QUESTION, neutral).status, 200);
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_numbers() {
    let server = serve(|_| {});
    for stream in [false, true] {
        let long = "word ".repeat(3000);
        let error = ask(&server, &long, json!({ "stream": stream })).error(400);
        assert_eq!(error["code"], "context_length_exceeded");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("2048 tokens"), "{message}");
        assert!(message.contains("the prompt has 3"), "{message}");
    }
}

#[test]
fn tokens_of_thoughts_are_counted() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}\n<think>\n";
    let engine = changed(|writer| {
        let set = writer.set("tokenizer.chat_template", template);
        set.expect("a template");
    });
    let server = serve_models(vec![Served::new("builtin", engine)], |_| {});
    let usage = |answer: &Value| {
        let usage = &answer["usage"];
        let thought = &usage["completion_tokens_details"]["reasoning_tokens"];
        (usage["completion_tokens"].clone(), thought.clone())
    };
    let more = json!({ "max_tokens": 6, "n": 2, "ignore_eos": true });
    let whole = ask(&server, QUESTION, more).json();
    assert_eq!(usage(&whole), (json!(12), json!(12)), "{whole}");
    let more = json!({
        "max_tokens": 6, "ignore_eos": true, "stream": true, "stream_options": { "include_usage": true },
    });
    let events = ask(&server, QUESTION, more).events();
    assert_eq!(usage(events.last().unwrap()), (json!(6), json!(6)));
    let body = json!({ "input": QUESTION, "max_output_tokens": 6, "ignore_eos": true });
    let response = server.post("/v1/responses", &body).json();
    let details = &response["usage"]["output_tokens_details"];
    assert_eq!(details["reasoning_tokens"], 6, "{response}");

    // A text that goes on as it is has no thoughts to tell apart.
    let body = json!({ "prompt": "Once", "max_tokens": 2 });
    let text = server.post("/v1/completions", &body).json();
    assert!(text["usage"].get("completion_tokens_details").is_none());
}
