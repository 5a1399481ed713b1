//! Answers in a form that the request sets, and what the engine keeps of earlier ones.

use serde_json::{Value, json};
use zse::format::EncodedValue;
use zse_server::Served;

use crate::common::{Running, changed, serve, serve_models};

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
fn a_choice_may_be_among_some_of_the_tools() {
    let server = serve(|_| {});
    let tools = json!([function("first", "integer"), function("second", "string")]);
    let among = |mode: &str, names: &[&str]| {
        let tools = names
            .iter()
            .map(|name| json!({ "type": "function", "function": { "name": name } }));
        let tools: Vec<Value> = tools.collect();
        json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": tools } })
    };
    let options = |choice: Value| json!({ "tools": tools, "tool_choice": choice });
    for name in ["first", "second"] {
        let answer = ask(&server, "Hello!", options(among("required", &[name])));
        let calls = calls(&answer);
        assert!(calls.iter().all(|(called, _)| called == name), "{answer}");
        assert!(!calls.is_empty(), "{answer}");
    }
    // The model hears of no others: the prompt is that of these alone.
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().expect("tokens");
    let some = ask(&server, "Hello!", options(among("auto", &["second"])));
    let alone = ask(
        &server,
        "Hello!",
        json!({ "tools": [function("second", "string")] }),
    );
    assert_eq!(prompt(&some), prompt(&alone));

    let response = json!({
        "input": "Hello!",
        "tools": [{ "type": "function", "name": "f" }, { "type": "function", "name": "g" }],
        "tool_choice": {
            "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "g" }],
        },
        "temperature": 0, "max_output_tokens": 100,
    });
    let answer = server.post("/v1/responses", &response).json();
    assert_eq!(answer["output"][0]["name"], "g", "{answer}");

    for (choice, param) in [
        (among("auto", &["third"]), "tool_choice"),
        (among("auto", &[]), "tool_choice.allowed_tools.tools"),
        (among("any", &["first"]), "tool_choice.allowed_tools.mode"),
        (
            json!({ "type": "allowed_tools", "allowed_tools": { "mode": "auto", "tool": [] } }),
            "tool_choice.allowed_tools.tool",
        ),
        (
            json!({ "type": "allowed_tools", "allowed_tools": { "mode": "auto", "tools": [
                { "type": "function", "function": { "name": "first", "mode": 1 } },
            ]}}),
            "tool_choice.allowed_tools.tools[0].function.mode",
        ),
    ] {
        let mut body = options(choice);
        body["messages"] = json!([{ "role": "user", "content": "Hi" }]);
        let error = server.post("/v1/chat/completions", &body).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
}

/// The name and the arguments of each call of an answer.
fn calls(answer: &Value) -> Vec<(String, Value)> {
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array();
    let read = |call: &Value| {
        let function = &call["function"];
        let arguments = function["arguments"].as_str().expect("arguments");
        let name = function["name"].as_str().expect("a name").to_owned();
        (name, serde_json::from_str(arguments).expect(arguments))
    };
    calls.into_iter().flatten().map(read).collect()
}

#[test]
fn a_call_that_the_model_chooses_keeps_to_a_strict_schema() {
    let server = serve(|_| {});
    // The built-in model calls a calculator by itself, with an expression.
    let calculator = |of: Value| {
        json!([{ "type": "function", "function": {
            "name": "calculator", "description": "Evaluate an arithmetic expression.", "strict": true,
            "parameters": {
                "type": "object", "properties": { "expression": of }, "required": ["expression"],
                "additionalProperties": false,
            },
        }}])
    };
    let question = "What is 17 * 23?";
    for parallel in [true, false] {
        let more = |of| json!({ "tools": calculator(of), "parallel_tool_calls": parallel });
        let answer = ask(&server, question, more(json!({ "type": "string" })));
        let expected = json!({ "expression": "17 * 23" });
        assert_eq!(
            calls(&answer),
            [("calculator".to_owned(), expected)],
            "{answer}"
        );
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        let answer = ask(
            &server,
            question,
            more(json!({ "enum": ["1 + 1", "2 + 2"] })),
        );
        let calls = calls(&answer);
        assert_eq!(calls.len(), 1, "{answer}");
        let expression = calls[0].1["expression"].as_str().unwrap();
        assert!(["1 + 1", "2 + 2"].contains(&expression), "{answer}");
    }
    // What is no call stays free.
    let more = json!({ "tools": calculator(json!({ "type": "string" })) });
    let answer = ask(&server, "Hello!", more);
    assert_eq!(calls(&answer), []);
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains(' '), "{answer}");
}

#[test]
fn an_answer_is_a_call_or_of_the_form() {
    let server = serve(|_| {});
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": {
        "type": "object", "properties": { "old": { "type": "boolean" } }, "required": ["old"],
        "additionalProperties": false,
    }}});
    let tools = json!([function("first", "integer")]);
    for question in ["What is 17 * 23?", "Is it old?"] {
        let more = json!({ "tools": tools, "response_format": format });
        let answer = ask(&server, question, more);
        let message = &answer["choices"][0]["message"];
        match &calls(&answer)[..] {
            [] => {
                let text = message["content"].as_str().unwrap();
                let object: Value = serde_json::from_str(text).expect(text);
                assert!(object["old"].is_boolean(), "{answer}");
            }
            all => assert!(all.iter().all(|(name, _)| name == "first"), "{answer}"),
        }
    }
}

#[test]
fn answers_follow_expressions_choices_and_grammars() {
    let server = serve(|_| {});
    for (more, answers) in [
        (
            json!({ "guided_regex": "(blue|green) [0-9]" }),
            &["blue ", "green "][..],
        ),
        (json!({ "guided_choice": ["yes", "no"] }), &["yes", "no"]),
        (
            json!({ "structured_outputs": { "choice": ["up", "down"] } }),
            &["up", "down"],
        ),
        (
            json!({ "guided_grammar": "start: \"a\" (\"b\" | \"c\")" }),
            &["ab", "ac"],
        ),
        (
            json!({ "json_schema": { "enum": ["x", "y"] } }),
            &["\"x\"", "\"y\""],
        ),
    ] {
        let answer = ask(&server, "Hello!", more.clone());
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(
            answers.iter().any(|a| text.starts_with(a)),
            "{more}: {text}"
        );
        let mut body = json!({ "prompt": "I say", "max_tokens": 50, "temperature": 0 });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = server.post("/v1/completions", &body).json();
        let text = answer["choices"][0]["text"].as_str().unwrap();
        assert!(
            answers.iter().any(|a| text.starts_with(a)),
            "{more}: {text}"
        );
    }
}

/// A server of the built-in model with another family's chat template.
fn serve_family(template: &str) -> Running {
    let engine = changed(|writer| {
        writer
            .set("tokenizer.chat_template", template)
            .expect("a template");
    });
    serve_models(vec![Served::new("family", engine)], |_| {})
}

#[test]
fn calls_of_other_families_are_required_and_streamed() {
    let user = "{{ tools }}{% for m in messages %}{{ m.content }}\n{% endfor %}";
    let argument = json!({ "x": 1 });
    for (family, marks) in [
        ("Llama 3", "<|python_tag|>"),
        ("Llama 4", "<|python_start|>"),
        ("Mistral", "[TOOL_CALLS]"),
        ("Mistral 11", "[TOOL_CALLS][ARGS]"),
        ("Qwen3-Coder", "<tool_call><function="),
        ("gpt-oss", "<|channel|><|message|>"),
    ] {
        let server = serve_family(&format!("{user}{{# {marks} #}}"));
        let body = json!({
            "messages": [{ "role": "user", "content": "Go" }], "temperature": 0, "stream": true,
            "tools": [{ "type": "function", "function": { "name": "f", "parameters": {
                "type": "object", "properties": { "x": { "enum": [1] } }, "required": ["x"],
                "additionalProperties": false,
            }}}],
            "tool_choice": { "type": "function", "function": { "name": "f" } }, "max_tokens": 400,
        });
        let (mut name, mut arguments, mut text) = (String::new(), String::new(), String::new());
        let events = server.post("/v1/chat/completions", &body).events();
        for event in &events {
            let delta = &event["choices"][0]["delta"];
            text += delta["content"].as_str().unwrap_or_default();
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                assert_eq!(call["index"], 0, "{family}: {event}");
                name += call["function"]["name"].as_str().unwrap_or_default();
                arguments += call["function"]["arguments"].as_str().unwrap_or_default();
            }
        }
        let last = events.last().expect("events");
        let reason = last["choices"][0]["finish_reason"].clone();
        // A thought of gpt-oss ends when the model ends it.
        if (family, &reason) == ("gpt-oss", &json!("length")) {
            continue;
        }
        assert_eq!(reason, "tool_calls", "{family}: {events:?}");
        assert_eq!((&*name, &*text), ("f", ""), "{family}");
        let arguments: Value = serde_json::from_str(&arguments).expect(&arguments);
        assert_eq!(arguments, argument, "{family}");
    }
}

#[test]
fn tools_need_a_template_that_tells_of_them() {
    // Fields of messages and comments are no tools of a request.
    let plain = "{# tools #}{% for m in messages %}{{ m.content }}{{ m.tools }}{% endfor %}";
    let function = function("f", "integer");
    let messages = json!([{ "role": "user", "content": "Go" }]);
    let chat = json!({ "messages": messages, "tools": [function], "max_tokens": 1 });
    let with = |body: &Value, name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        body
    };
    let response = json!({
        "input": "Go", "max_output_tokens": 1, "tools": [{ "type": "function", "name": "f" }],
    });
    let named = json!([{ "name": "f", "input_schema": {} }]);
    let bodies = [
        ("/v1/chat/completions", chat.clone()),
        (
            "/v1/chat/completions",
            with(&chat, "tool_choice", json!("required")),
        ),
        ("/v1/responses", response),
        ("/v1/messages", with(&chat, "tools", named)),
        (
            "/api/chat",
            json!({ "messages": messages, "tools": [function], "options": { "num_predict": 1 } }),
        ),
    ];
    let server = serve_family(plain);
    for (path, body) in &bodies {
        let answer = server.post(path, body);
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        let why = "'tools' is not supported: this model's chat template has no tools";
        assert!(answer.body.contains(why), "{path}: {}", answer.body);
    }
    let never = with(&chat, "tool_choice", json!("none"));
    let answer = server.post("/v1/chat/completions", &never);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let shown = server.post("/api/show", &json!({ "model": "family" }));
    assert_eq!(shown.json()["capabilities"], json!(["completion"]));

    // A template for tools alone counts.
    let engine = changed(|writer| {
        let mut set = |name: &str, text: &str| writer.set(name, text).expect("a template");
        set("tokenizer.chat_template", plain);
        set(
            "tokenizer.chat_template.tool_use",
            &format!("{{{{ tools }}}}{plain}"),
        );
        let names = EncodedValue::strings(["tool_use"]);
        writer
            .set("tokenizer.chat_templates", names)
            .expect("names");
    });
    let server = serve_models(vec![Served::new("family", engine)], |_| {});
    for (path, body) in &bodies {
        let answer = server.post(path, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    let shown = server.post("/api/show", &json!({ "model": "family" }));
    let expected = json!(["completion", "tools"]);
    assert_eq!(shown.json()["capabilities"], expected);
}

#[test]
fn an_effort_is_a_word_that_the_template_knows() {
    let ask = |template: &str, effort: &str| {
        let server = serve_family(template);
        let body = json!({
            "messages": [{ "role": "user", "content": "Go" }], "max_tokens": 1,
            "reasoning_effort": effort,
        });
        let answer = server.post("/v1/chat/completions", &body);
        match answer.status {
            200 => String::new(),
            _ => answer.error(400)["message"].as_str().unwrap().to_owned(),
        }
    };
    let always = "{% for m in messages %}{{ m.content }}{% endfor %}\n<think>\n";
    let switch = format!("{always}{{% if enable_thinking is false %}}</think>{{% endif %}}");
    assert!(ask(&switch, "endless").contains("must be one of none, minimal, low"));
    assert_eq!(ask(&switch, "none"), "");
    assert_eq!(ask(&switch, "xhigh"), "");
    assert_eq!(ask(always, "medium"), "");
    assert!(ask(always, "none").contains("cannot turn thinking off"));
    assert!(ask(always, "low").contains("no word for how much"));
}

#[test]
fn a_thought_that_the_template_begins_is_no_part_of_the_form() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}\n<think>\n";
    let server = serve_family(template);
    let body = json!({
        "messages": [{ "role": "user", "content": "Go" }], "temperature": 0, "max_tokens": 12,
        "guided_choice": ["yes", "no"],
    });
    let answer = server.post("/v1/chat/completions", &body).json();
    let message = &answer["choices"][0]["message"];
    assert!(message["reasoning_content"].is_string(), "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    // One that it has ended is over.
    let server = serve_family(&format!("{template}</think>\n"));
    let answer = server.post("/v1/chat/completions", &body).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(["yes", "no"].contains(&text), "{answer}");
}

#[test]
fn forms_that_cannot_be_are_refused_by_name() {
    let server = serve(|_| {});
    let schema =
        |schema: Value| json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let tools = json!([function("f", "integer")]);
    let mut strict = function("f", "nonsense");
    strict["function"]["strict"] = true.into();
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
            json!({ "response_format": { "type": "json_object" }, "guided_regex": "a" }),
            "guided_regex",
        ),
        (json!({ "tools": [strict] }), "tools"),
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
