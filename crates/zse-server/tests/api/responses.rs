//! `/v1/responses`.

use serde_json::{Value, json};

use crate::common::{Answer, Running, serve};

const ANSWER: &str = "Use `zse quantize SRC -o OUT.gguf --quant TYPE`.";

fn ask(server: &Running, input: impl Into<Value>, more: Value) -> Answer {
    let mut body = json!({ "model": "builtin", "temperature": 0, "input": input.into() });
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    server.post("/v1/responses", &body)
}

fn calculator() -> Value {
    json!([{
        "type": "function", "name": "calculator",
        "parameters": { "type": "object", "properties": { "expression": { "type": "string" } } },
    }])
}

/// The events of a stream, which are numbered and say their type twice.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let frames = answer.body.split_terminator("\n\n").enumerate();
    frames
        .map(|(i, frame)| {
            let (name, data) = frame.split_once("\ndata: ").expect("two lines");
            let data: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            assert_eq!(data["sequence_number"], i);
            data
        })
        .collect()
}

#[test]
fn an_answer_has_items_and_can_be_gone_on_from() {
    let server = serve(|_| {});
    let answer = ask(
        &server,
        "How do I quantize a model?",
        json!({ "metadata": { "a": "b" } }),
    );
    let answer = answer.json();
    assert_eq!(
        (&answer["object"], &answer["status"]),
        (&json!("response"), &json!("completed"))
    );
    let item = &answer["output"][0];
    assert_eq!(
        (&item["type"], &item["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(item["content"][0]["text"], ANSWER);
    assert_eq!(answer["metadata"], json!({ "a": "b" }));
    assert!(answer["usage"]["output_tokens"].as_u64() > Some(5));

    let path = format!("/v1/responses/{}", answer["id"].as_str().unwrap());
    assert_eq!(server.get(&path).json(), answer);
    assert_eq!(server.get(&format!("{path}?stream=false")).json(), answer);
    for (query, param) in [
        ("stream=true", "stream"),
        ("include%5B%5D=message.output_text.logprobs", "include"),
        ("starting_after=1", "starting_after"),
        ("mood=bad", "mood"),
    ] {
        let path = format!("{path}?{query}");
        assert_eq!(server.get(&path).error(400)["param"], param);
        let deleted = server.request("DELETE", &path, "", "");
        assert_eq!(deleted.error(400)["param"], param);
    }
    let more = json!({ "previous_response_id": answer["id"] });
    let next = ask(&server, "Thanks!", more.clone()).json();
    assert!(next["usage"]["input_tokens"].as_u64() > answer["usage"]["input_tokens"].as_u64());
    let items = json!([
        { "role": "user", "content": "How do I quantize a model?" }, item,
        { "role": "user", "content": [{ "type": "input_text", "text": "Thanks!" }] },
    ]);
    let whole = ask(&server, items, json!({ "store": false })).json();
    assert_eq!(whole["output"][0]["content"], next["output"][0]["content"]);
    assert_eq!(
        whole["usage"]["input_tokens"],
        next["usage"]["input_tokens"]
    );
    let listed = server.get(&format!(
        "/v1/responses/{}/input_items",
        next["id"].as_str().unwrap()
    ));
    let listed = listed.json();
    let said = |item: &Value| (item["role"].clone(), item["content"][0]["text"].clone());
    let data: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(said)
        .collect();
    let user = json!("user");
    let expected = [
        (user.clone(), json!("Thanks!")),
        (json!("assistant"), json!(ANSWER)),
        (user, json!("How do I quantize a model?")),
    ];
    assert_eq!(data, expected);
    assert_eq!(listed["data"][1]["id"], item["id"]);
    assert_eq!(listed["data"][0]["content"][0]["type"], "input_text");
    assert_eq!(
        (&listed["object"], &listed["has_more"]),
        (&json!("list"), &json!(false))
    );
    let newest = listed["data"][0]["id"].as_str().unwrap();
    let query = format!("order=desc&limit=1&after={newest}");
    let page = server.get(&format!(
        "/v1/responses/{}/input_items?{query}",
        next["id"].as_str().unwrap()
    ));
    let page = page.json();
    assert_eq!(page["data"], json!([listed["data"][1]]));
    assert_eq!(
        (&page["first_id"], &page["last_id"]),
        (&item["id"], &item["id"])
    );
    assert_eq!(page["has_more"], true);
    server.get("/v1/responses/resp_0/input_items").error(404);

    let unstored = format!("/v1/responses/{}", whole["id"].as_str().unwrap());
    server.get(&unstored).error(404);

    assert_eq!(
        server.request("DELETE", &path, "", "").json()["deleted"],
        true
    );
    server.request("DELETE", &path, "", "").error(404);
    let error = ask(&server, "Thanks!", more).error(404);
    assert_eq!(error["param"], "previous_response_id");
}

#[test]
fn a_stream_tells_of_every_step() {
    let server = serve(|_| {});
    let events = events(&ask(
        &server,
        "How do I quantize a model?",
        json!({ "stream": true }),
    ));
    let mut kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    kinds.dedup();
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(kinds, expected.map(|kind| format!("response.{kind}")));
    let texts = events
        .iter()
        .filter(|e| e["type"] == "response.output_text.delta");
    let text: String = texts.filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(text, ANSWER);
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], ANSWER);
    let path = format!("/v1/responses/{}", last["id"].as_str().unwrap());
    assert_eq!(&server.get(&path).json(), last);

    let short = ask(
        &server,
        "Tell me a story.",
        json!({ "max_output_tokens": 3 }),
    )
    .json();
    assert_eq!(short["status"], "incomplete");
    assert_eq!(short["incomplete_details"]["reason"], "max_output_tokens");
}

#[test]
fn functions_are_called_and_answered() {
    let server = serve(|_| {});
    let question = "What is 17 * 23?";
    let answer = ask(&server, question, json!({ "tools": calculator() })).json();
    let call = &answer["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("calculator"))
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({ "expression": "17 * 23" }));
    let output =
        json!([{ "type": "function_call_output", "call_id": call["call_id"], "output": "391" }]);
    let more = json!({ "previous_response_id": answer["id"], "tools": calculator() });
    let told = ask(&server, output, more).json();
    assert!(
        told["output"][0]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("391"),
        "{told}"
    );

    let named = json!({ "type": "function", "name": "calculator" });
    let more = json!({ "tools": calculator(), "tool_choice": named, "stream": true });
    let events = events(&ask(&server, question, more));
    let done = events
        .iter()
        .find(|e| e["type"] == "response.function_call_arguments.done")
        .unwrap();
    assert_eq!(done["arguments"], call["arguments"]);
    let pieces = events
        .iter()
        .filter(|e| e["type"] == "response.function_call_arguments.delta");
    assert_eq!(
        pieces
            .filter_map(|e| e["delta"].as_str())
            .collect::<String>(),
        done["arguments"].as_str().unwrap()
    );
}

#[test]
fn answers_have_forms_and_log_probabilities() {
    let server = serve(|_| {});
    let schema = json!({
        "type": "object", "properties": { "age": { "type": "integer" } }, "required": ["age"],
        "additionalProperties": false,
    });
    let text = json!({ "format": { "type": "json_schema", "name": "person", "schema": schema } });
    let answer = ask(&server, "Ida is 12 years old.", json!({ "text": text })).json();
    let said = answer["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(
        serde_json::from_str::<Value>(said).unwrap()["age"].is_i64(),
        "{said}"
    );
    assert_eq!(answer["text"], text);

    let more = json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 2 });
    let answer = ask(&server, "How do I quantize a model?", more).json();
    let tokens = answer["output"][0]["content"][0]["logprobs"]
        .as_array()
        .unwrap()
        .clone();
    let text: String = tokens.iter().filter_map(|t| t["token"].as_str()).collect();
    assert_eq!(text, ANSWER);
    assert_eq!(tokens[0]["top_logprobs"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let server = serve(|_| {});
    for (more, param) in [
        (json!({ "background": true }), "background"),
        (json!({ "truncation": "auto" }), "truncation"),
        (json!({ "conversation": "c" }), "conversation"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0]"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }),
            "input[0].content[0]",
        ),
        (json!({ "input": ["hi"] }), "input[0]"),
        (json!({ "input": [1] }), "input[0]"),
        (json!({ "input": [[]] }), "input[0]"),
        (
            json!({ "include": ["file_search_call.results"] }),
            "include",
        ),
        (
            json!({ "reasoning": { "effort": "high" } }),
            "reasoning.effort",
        ),
        (json!({ "text": { "verbosity": "low" } }), "text.verbosity"),
        (json!({ "metadata": { "a": 1 } }), "metadata"),
        (json!({ "top_logprobs": 1 }), "top_logprobs"),
        (json!({ "n": 2 }), "n"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "temperature": -1 }), "temperature"),
    ] {
        assert_eq!(ask(&server, "Hi", more).error(400)["param"], param);
    }
}

#[test]
fn keys_do_not_see_each_others_responses() {
    let server = serve(|config| config.api_keys = vec!["one".to_owned(), "two".to_owned()]);
    let body = json!({ "input": "Hi", "max_output_tokens": 2 }).to_string();
    let ask = |key: &str, method: &str, path: &str, body: &str| {
        server.request(
            method,
            path,
            &format!("authorization: Bearer {key}\r\n"),
            body,
        )
    };
    let answer = ask("one", "POST", "/v1/responses", &body).json();
    let path = format!("/v1/responses/{}", answer["id"].as_str().unwrap());
    ask("two", "GET", &path, "").error(404);
    ask("one", "GET", &path, "").json();

    // Nor do they find what the others' prompts left in the prefix cache.
    let long = json!({ "prompt": "Once upon a time ".repeat(40), "max_tokens": 1 }).to_string();
    let cached = |key: &str| {
        let answer = ask(key, "POST", "/v1/completions", &long).json();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached("one"), 0);
    assert!(cached("one") > 0);
    assert_eq!(cached("two"), 0);
}
