//! Ollama's API.

use serde_json::{Value, json};
use zse_server::Served;

use crate::common::{Answer, Running, changed, load, serve, serve_models};

const QUESTION: &str = "How do I quantize a model?";
const ANSWER: &str = "Use `zse quantize SRC -o OUT.gguf --quant TYPE`.";
const BERT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../zse-model/tests/golden/bert-mean.gguf"
);

fn ask(server: &Running, path: &str, body: Value, more: Value) -> Answer {
    let mut all = json!({ "model": "builtin:latest", "options": { "temperature": 0 } });
    for part in [body, more] {
        let part = part.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(part);
    }
    server.post(path, &all)
}

fn chat(server: &Running, question: &str, more: Value) -> Answer {
    let body = json!({ "messages": [{ "role": "user", "content": question }] });
    ask(server, "/api/chat", body, more)
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.contains("content-type: application/x-ndjson"));
    let lines = answer.body.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn chats_come_as_lines_or_whole() {
    let server = serve(|_| {});
    let lines = lines(&chat(&server, QUESTION, json!({})));
    let text: String = lines
        .iter()
        .filter_map(|l| l["message"]["content"].as_str())
        .collect();
    assert_eq!(text, ANSWER);
    assert!(lines.len() > 5);
    let (last, others) = lines.split_last().unwrap();
    assert!(
        others
            .iter()
            .all(|line| line["done"] == false && line["model"] == "builtin:latest")
    );
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("stop"))
    );
    for count in [
        "total_duration",
        "prompt_eval_count",
        "eval_count",
        "eval_duration",
    ] {
        assert!(last[count].as_u64().unwrap() > 0, "{count}");
    }
    let whole = chat(&server, QUESTION, json!({ "stream": false })).json();
    assert_eq!(
        whole["message"],
        json!({ "role": "assistant", "content": ANSWER })
    );
    assert_eq!(whole["eval_count"], last["eval_count"]);
}

#[test]
fn tools_are_called_with_objects() {
    let server = serve(|_| {});
    let tools = json!([{ "type": "function", "function": {
        "name": "calculator",
        "parameters": { "type": "object", "properties": { "expression": { "type": "string" } } },
    }}]);
    let expected = json!([{ "function": {
        "name": "calculator", "arguments": { "expression": "17 * 23" },
    }}]);
    let more = json!({ "tools": tools, "stream": false });
    let whole = chat(&server, "What is 17 * 23?", more).json();
    assert_eq!(whole["message"]["tool_calls"], expected);
    let lines = lines(&chat(
        &server,
        "What is 17 * 23?",
        json!({ "tools": tools }),
    ));
    let calls: Vec<_> = lines
        .iter()
        .filter(|l| !l["message"]["tool_calls"].is_null())
        .collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["message"]["tool_calls"], expected);

    let messages = json!([
        { "role": "user", "content": "What is 17 * 23?" },
        { "role": "assistant", "content": "", "tool_calls": expected },
        { "role": "tool", "content": "391", "tool_name": "calculator" },
    ]);
    let body = json!({ "messages": messages, "stream": false });
    let answer = ask(&server, "/api/chat", body, json!({ "tools": tools })).json();
    assert!(
        answer["message"]["content"]
            .as_str()
            .unwrap()
            .contains("391")
    );
}

#[test]
fn plain_generation_has_a_form_and_a_raw_prompt() {
    let server = serve(|_| {});
    let generate = |body: Value| ask(&server, "/api/generate", body, json!({ "stream": false }));
    let answer = generate(json!({ "prompt": QUESTION })).json();
    assert_eq!(answer["response"], ANSWER);
    let raw = json!({
        "prompt": "Once upon a time", "raw": true,
        "options": { "temperature": 0, "num_predict": 6, "repeat_penalty": 1.0 },
    });
    let text = generate(raw).json();
    assert_eq!(
        (&text["done_reason"], &text["eval_count"]),
        (&json!("length"), &json!(6))
    );
    let plain = json!({ "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0 });
    let plain = server.post("/v1/completions", &plain).json();
    assert_eq!(text["response"], plain["choices"][0]["text"]);

    let schema = json!({
        "type": "object", "properties": { "age": { "type": "integer" } }, "required": ["age"],
        "additionalProperties": false,
    });
    let form = json!({
        "prompt": "Ida is 12 years old.", "system": "Answer in JSON.", "format": schema,
        "options": { "num_predict": 40, "temperature": 0 },
    });
    let text = generate(form).json()["response"]
        .as_str()
        .unwrap()
        .to_owned();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(value["age"].is_i64(), "{text}");
}

#[test]
fn models_are_listed_and_shown() {
    let server = serve(|config| {
        config.aliases = vec![("llama3.2".to_owned(), "builtin".to_owned())];
    });
    let tags = server.get("/api/tags").json();
    let names: Vec<_> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["name"])
        .collect();
    assert_eq!(names, ["builtin:latest", "llama3.2:latest"]);
    assert_eq!(tags["models"][0]["details"]["family"], "llama");
    assert_eq!(tags["models"][0]["digest"].as_str().unwrap().len(), 64);
    let ps = server.get("/api/ps").json();
    assert_eq!(ps["models"][0]["context_length"], 2048);
    let shown = server
        .post("/api/show", &json!({ "model": "llama3.2" }))
        .json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert!(shown["model_info"]["general.parameter_count"].as_u64() > Some(13_000_000));
    assert!(server.get("/api/version").json()["version"].is_string());
}

#[test]
fn a_file_that_is_gone_hides_no_other_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bert.gguf");
    std::fs::copy(BERT, &path).unwrap();
    let options = zse::LoadOptions::default;
    let bert = zse::ModelSource::Path(path.clone());
    let mut bert = Served::on_request("bert", bert, options());
    bert.load().unwrap();
    let builtin = Served::new("builtin", load("builtin"));
    let server = serve_models(vec![bert, builtin], |_| {});
    std::fs::remove_file(path).unwrap();
    let ps = server.get("/api/ps").json();
    assert_eq!(ps["models"][0]["name"], "builtin:latest");
}

#[test]
fn ollamas_own_client_is_understood() {
    let server = serve(|_| {});
    for method in ["HEAD", "GET"] {
        let answer = server.request(method, "/", "", "");
        assert_eq!(answer.status, 200);
        let body = if method == "GET" {
            "Ollama is running"
        } else {
            ""
        };
        assert_eq!(answer.body, body);
    }
    let show = |model: &str, name: &str, system: &str| {
        server.post(
            "/api/show",
            &json!({
                "model": model, "system": system, "template": "", "verbose": false,
                "options": null, "name": name,
            }),
        )
    };
    let shown = show("builtin", "", "").json();
    assert_eq!(show("", "builtin:latest", "").json(), shown);
    assert_eq!(show("builtin", "", "Be brief.").status, 400);
    let chat = chat(&server, "Hi", json!({ "keep_alive": "5m0s", "format": "" }));
    assert_eq!(chat.status, 200, "{}", chat.body);
}

#[test]
fn a_request_without_a_question_loads_or_unloads() {
    let builtin = zse::ModelSource::Builtin;
    let models = vec![Served::on_request(
        "builtin",
        builtin,
        zse::LoadOptions::default(),
    )];
    let server = serve_models(models, |_| {});
    let loaded = || {
        server.get("/api/ps").json()["models"]
            .as_array()
            .unwrap()
            .len()
    };
    let body = json!({ "model": "builtin", "stream": false, "keep_alive": "10m" });
    assert_eq!(
        server.post("/api/chat", &body).json()["done_reason"],
        "load"
    );
    assert_eq!(loaded(), 1);
    let body = json!({ "model": "builtin", "stream": false, "keep_alive": 0 });
    assert_eq!(
        server.post("/api/generate", &body).json()["done_reason"],
        "unload"
    );
    assert_eq!(loaded(), 0);
    let body = json!({ "model": "builtin", "prompt": "Hi", "stream": false, "keep_alive": 0 });
    server.post("/api/generate", &body).json();
    assert_eq!(loaded(), 0);
}

#[test]
fn texts_are_embedded_and_cut_where_they_may_be() {
    let server = serve_models(vec![Served::new("bert", load(BERT))], |_| {});
    let embed = |body| server.post("/api/embed", &body);
    let body = json!({ "model": "bert", "input": ["a cat", "a dog"], "dimensions": 4 });
    let answer = embed(body).json();
    assert_eq!(answer["embeddings"].as_array().unwrap().len(), 2);
    let first: Vec<f64> = answer["embeddings"][0]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(first.len(), 4);
    assert!((first.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    let long = "word ".repeat(3000);
    embed(json!({ "model": "bert", "input": long })).json();
    let refused = embed(json!({ "model": "bert", "input": long, "truncate": false }));
    assert_eq!(refused.status, 400, "{}", refused.body);
}

#[test]
fn one_text_is_embedded_as_older_clients_ask_for_it() {
    let server = serve_models(vec![Served::new("bert", load(BERT))], |_| {});
    let new = json!({ "model": "bert", "input": "a cat" });
    let new = server.post("/api/embed", &new).json();
    let old = |prompt: Value| {
        server.post(
            "/api/embeddings",
            &json!({ "model": "bert:latest", "prompt": prompt }),
        )
    };
    assert_eq!(
        old(json!("a cat")).json(),
        json!({ "embedding": new["embeddings"][0] })
    );
    for nothing in [json!(""), json!(null)] {
        assert_eq!(old(nothing).json(), json!({ "embedding": [] }));
    }
    let refused = old(json!("word ".repeat(3000)));
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        refused
            .body
            .starts_with("{\"error\":\"this model's maximum"),
        "{}",
        refused.body
    );
    let body = json!({ "model": "bert", "prompt": "a", "truncate": true });
    assert_eq!(server.post("/api/embeddings", &body).status, 400);
}

#[test]
fn errors_have_ollamas_shape_and_name_what_is_wrong() {
    let server = serve(|config| config.api_keys = vec!["key".to_owned()]);
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        server.request("POST", path, "authorization: Bearer key\r\n", &body)
    };
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let image = json!([{ "role": "user", "content": "Hi", "images": ["AAAA"] }]);
    for (path, body, status, word) in [
        (
            "/api/chat",
            json!({ "messages": messages, "options": { "num_gpu": 1 } }),
            400,
            "num_gpu",
        ),
        (
            "/api/chat",
            json!({ "messages": messages, "options": { "num_ctx": 9999 } }),
            400,
            "num_ctx",
        ),
        (
            "/api/chat",
            json!({ "messages": messages, "options": { "temperature": -1 } }),
            400,
            "temperature",
        ),
        (
            "/api/chat",
            json!({ "messages": messages, "options": { "n": 2 } }),
            400,
            "'n'",
        ),
        (
            "/api/chat",
            json!({ "messages": messages, "format": "xml" }),
            400,
            "format",
        ),
        (
            "/api/chat",
            json!({ "messages": image }),
            400,
            "messages[0].images",
        ),
        (
            "/api/chat",
            json!({ "messages": messages, "models": 1 }),
            400,
            "'models'",
        ),
        (
            "/api/generate",
            json!({ "prompt": "a", "images": ["AAAA"] }),
            400,
            "images",
        ),
        (
            "/api/generate",
            json!({ "prompt": "a", "context": [1] }),
            400,
            "context",
        ),
        (
            "/api/generate",
            json!({ "prompt": "a", "keep_alive": "soon" }),
            400,
            "keep_alive",
        ),
        (
            "/api/generate",
            json!({ "system": "Be brief.", "suffix": "b" }),
            400,
            "system",
        ),
        ("/api/show", json!({ "model": "nobody" }), 404, "nobody"),
        ("/api/embed", json!({ "input": "a" }), 400, "embeddings"),
    ] {
        let answer = post(path, body);
        assert_eq!(answer.status, status, "{}", answer.body);
        let error: Value = serde_json::from_str(&answer.body).expect("JSON");
        let message = error["error"].as_str().expect("text");
        assert!(message.contains(word), "{message}");
    }
    let stranger = server.get("/api/tags");
    assert_eq!(stranger.status, 401);
    assert!(
        stranger.body.starts_with("{\"error\":\""),
        "{}",
        stranger.body
    );
}

#[test]
fn a_model_is_shown_with_all_that_it_can_be_asked_for() {
    let thinker = "{% for m in messages %}{{ m.content }}{% endfor %}\n<think>\n";
    let can_think = changed(|writer| writer.set("tokenizer.chat_template", thinker).unwrap());
    let fills_gaps = changed(|writer| {
        for (name, id) in [("fim_pre", 5_u32), ("suffix", 6), ("middle", 7)] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            writer.set(&key, id).unwrap();
        }
    });
    let models = vec![
        Served::new("thinker", can_think),
        Served::new("filler", fills_gaps),
        Served::new("bert", load(BERT)),
        Served::on_request(
            "unloaded",
            zse::ModelSource::Builtin,
            zse::LoadOptions::default(),
        ),
    ];
    let server = serve_models(models, |_| {});
    for (model, words) in [
        ("thinker", json!(["completion", "thinking"])),
        ("filler", json!(["completion", "tools", "insert"])),
        ("bert", json!(["embedding"])),
        ("unloaded", json!(["completion", "tools"])),
    ] {
        let shown = server.post("/api/show", &json!({ "model": model })).json();
        assert_eq!(shown["capabilities"], words, "{model}");
        // What is shown can be asked for, and nothing else.
        let has = |word: &str| words.as_array().unwrap().contains(&json!(word));
        if has("completion") {
            let options = json!({ "num_predict": 1 });
            let body = json!({
                "model": model, "messages": [{ "role": "user", "content": "Hi" }], "think": true,
                "options": options, "stream": false,
            });
            let status = server.post("/api/chat", &body).status;
            assert_eq!(status == 200, has("thinking"), "{model}: {status}");
            let body = json!({
                "model": model, "prompt": "a", "suffix": "b", "options": options, "stream": false,
            });
            let status = server.post("/api/generate", &body).status;
            assert_eq!(status == 200, has("insert"), "{model}: {status}");
        }
    }
    let loaded = server.get("/api/ps").json();
    assert_eq!(loaded["models"][0]["size_vram"], 0, "on the CPU");
}
