//! Adapters: chosen by `model`, `adapter` and `lora`, loaded and unloaded while others are served.

use std::io::{Read, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use zse::{AdapterSource, LoadOptions, ModelSource};
use zse_server::{Config, Served};

use crate::common::{Running, message, serve_models};

/// A file of zse-model's tests.
fn fixture(name: &str) -> PathBuf {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../zse-model/tests");
    std::path::Path::new(tests).join(name)
}

/// A tiny model with the adapter `first`; more may be loaded.
fn serve(change: impl FnOnce(&mut Config)) -> Running {
    let options = LoadOptions {
        context: Some(128),
        sequences: 4,
        adapters: vec![AdapterSource {
            name: "first".to_owned(),
            path: fixture("lora/llama2"),
        }],
        ..LoadOptions::default()
    };
    let source = ModelSource::Path(fixture("golden/llama2.gguf"));
    let model = Served::on_request("tiny", source, options);
    serve_models(vec![model], |config| {
        config.adapter_folders = vec![fixture("lora")];
        config.aliases = vec![("other".to_owned(), "tiny".to_owned())];
        change(config);
    })
}

/// What a request of these fields gives: the model's name and the text.
fn ask(server: &Running, fields: Value) -> (String, String) {
    let mut body = json!({
        "prompt": [5, 6, 7], "max_tokens": 24, "temperature": 0, "ignore_eos": true,
    });
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    let answer = server.post("/v1/completions", &body).json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&answer["model"]), text(&answer["choices"][0]["text"]))
}

fn load(server: &Running, name: &str, path: &str) -> crate::common::Answer {
    let body = json!({ "lora_name": name, "lora_path": path });
    server.post("/v1/load_lora_adapter", &body)
}

#[test]
fn requests_choose_adapters_in_three_ways() {
    let server = serve(|_| {});
    let (name, base) = ask(&server, json!({}));
    assert_eq!(name, "tiny");
    let (name, first) = ask(&server, json!({ "model": "first" }));
    assert_eq!(name, "first");
    assert_ne!(first, base);
    assert_eq!(ask(&server, json!({ "model": "other" })).1, base);
    assert_eq!(ask(&server, json!({ "adapter": "first" })).1, first);
    for (scale, expected) in [(1.0, &first), (0.0, &base)] {
        let lora = json!([{ "id": 0, "scale": scale }]);
        assert_eq!(&ask(&server, json!({ "lora": lora })).1, expected);
    }
    assert_eq!(ask(&server, json!({ "lora": [] })).1, base);
    assert_eq!(load(&server, "second", "llama2-patterns").json()["id"], 1);
    let (_, second) = ask(&server, json!({ "model": "second" }));
    let both = json!([{ "id": 0, "scale": 1 }, { "id": 1, "scale": 0.5 }]);
    let (_, both) = ask(&server, json!({ "model": "tiny", "lora": both }));
    assert!(second != base && second != first && both != first && both != second);

    for (fields, status, param) in [
        (json!({ "adapter": "third" }), 404, "adapter"),
        (json!({ "lora": [{ "id": 7, "scale": 1 }] }), 404, "lora"),
        (json!({ "lora": [{ "id": 0, "scale": 1e99 }] }), 400, "lora"),
        (json!({ "lora": "first" }), 400, "lora"),
        (json!({ "adapter": "first", "lora": [] }), 400, "adapter"),
        (json!({ "model": "first", "lora": [] }), 400, "lora"),
        (
            json!({ "model": "first", "adapter": "first" }),
            400,
            "adapter",
        ),
    ] {
        let mut body = fields.clone();
        body["prompt"] = json!([5]);
        let error = server.post("/v1/completions", &body).error(status);
        assert_eq!(error["param"], param, "{fields}: {error}");
    }
    // Chats and scores of a prompt are the adapter's as well.
    let chat = |model: &str| {
        let body = json!({
            "model": model, "messages": [{ "role": "user", "content": "a" }],
            "max_tokens": 12, "temperature": 0,
        });
        server.post("/v1/chat/completions", &body).json()["choices"][0].clone()
    };
    assert_ne!(chat("first")["message"], chat("tiny")["message"]);
    let scores = |model: &str| {
        let body = json!({
            "model": model, "prompt": [5, 6, 7, 8], "max_tokens": 0, "echo": true, "logprobs": 0,
        });
        let answer = server.post("/v1/completions", &body).json();
        answer["choices"][0]["logprobs"]["token_logprobs"].clone()
    };
    assert_ne!(scores("first"), scores("tiny"));
}

#[test]
fn answers_with_different_adapters_at_once_are_those_alone() {
    let server = serve(|_| {});
    load(&server, "second", "llama2-patterns").json();
    let ask_all = |seed: u64| {
        ["tiny", "first", "second", "first"].map(|model| {
            let fields = json!({ "model": model, "seed": seed, "temperature": 1 });
            ask(&server, fields).1
        })
    };
    let alone = [1, 2, 3].map(ask_all);
    std::thread::scope(|scope| {
        let threads = [1, 2, 3].map(|seed| scope.spawn(move || ask_all(seed)));
        let together = threads.map(|thread| thread.join().expect("no panic"));
        assert_eq!(together, alone);
    });
}

#[test]
fn adapters_are_loaded_and_unloaded_while_others_are_served() {
    let server = serve(|_| {});
    let (_, base) = ask(&server, json!({}));
    let ids = || -> Vec<(String, Value)> {
        let models = server.get("/v1/models").json();
        let data = models["data"].as_array().expect("a list").iter();
        data.map(|m| {
            (
                m["id"].as_str().expect("a name").to_owned(),
                m["parent"].clone(),
            )
        })
        .collect()
    };
    let listed = |names: &[(&str, Option<&str>)]| -> Vec<(String, Value)> {
        let names = names.iter();
        names
            .map(|(id, parent)| ((*id).to_owned(), json!(parent)))
            .collect()
    };
    let before = [("tiny", None), ("other", None), ("first", Some("tiny"))];
    assert_eq!(ids(), listed(&before));
    let memory = || server.get("/api/models/cache/status").json()["memory_used"].as_u64();
    let used = memory();

    let added = load(&server, "second", "llama2.gguf").json();
    assert_eq!(
        (&added["name"], &added["model"]),
        (&json!("second"), &json!("tiny"))
    );
    assert_eq!(
        ids(),
        listed(&[&before[..], &[("second", Some("tiny"))]].concat())
    );
    assert_eq!(server.get("/v1/models/second").json()["parent"], "tiny");
    assert!(server.get("/v1/models/tiny").json()["parent"].is_null());
    assert!(memory() > used);
    let (_, second) = ask(&server, json!({ "model": "second" }));
    assert_eq!(second, ask(&server, json!({ "model": "first" })).1);

    // A stream that uses it goes on to its end.
    let body = json!({
        "model": "second", "prompt": [5, 6, 7], "max_tokens": 24, "temperature": 0,
        "ignore_eos": true, "stream": true,
    });
    let mut stream = server.connect();
    let request = message("POST", "/v1/completions", "", &body.to_string());
    stream.write_all(request.as_bytes()).expect("sent");
    let mut begun = [0; 64];
    stream.read_exact(&mut begun).expect("it has begun");
    let unload = json!({ "lora_name": "second" });
    assert_eq!(
        server.post("/v1/unload_lora_adapter", &unload).json()["success"],
        true
    );
    assert_eq!(memory(), used);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("[DONE]") && !rest.contains("error"), "{rest}");

    let gone = json!({ "model": "second", "prompt": [5] });
    server.post("/v1/completions", &gone).error(404);
    server.post("/v1/unload_lora_adapter", &unload).error(404);
    assert_eq!(ask(&server, json!({})).1, base);

    // A model that is unloaded comes back with its adapters.
    let (_, first) = ask(&server, json!({ "model": "first" }));
    server.post("/api/models/unload", &json!({})).json();
    assert_eq!(server.get("/v1/models/first").json()["state"], "unloaded");
    assert_eq!(ask(&server, json!({ "model": "first" })).1, first);
    let status = server.get("/api/models/cache/status").json();
    assert_eq!(status["models"][0]["adapters"], json!(["first"]));
}

#[test]
fn scales_apply_where_a_request_says_nothing() {
    let server = serve(|_| {});
    let (_, base) = ask(&server, json!({}));
    let (_, first) = ask(&server, json!({ "model": "first" }));
    let listed = server.get("/lora-adapters").json();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["scale"]),
        (&json!(0), &json!(0.0))
    );
    assert!(
        listed[0]["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("llama2"))
    );
    let set = |body: Value| server.post("/lora-adapters", &body);
    assert_eq!(
        set(json!([{ "id": 0, "scale": 1.0 }])).json()["success"],
        true
    );
    assert_eq!(server.get("/lora-adapters").json()[0]["scale"], 1.0);
    assert_eq!(ask(&server, json!({})).1, first);
    assert_eq!(ask(&server, json!({ "lora": [] })).1, base);
    set(json!([{ "id": 9, "scale": 1.0 }])).error(404);
    set(json!({ "id": 0 })).error(400);
    set(json!([{ "id": 0 }])).error(400);
    assert_eq!(ask(&server, json!({})).1, first);
    set(json!([])).json();
    assert_eq!(ask(&server, json!({})).1, base);
}

#[test]
fn what_cannot_be_loaded_is_refused() {
    let server = serve(|_| {});
    let (_, base) = ask(&server, json!({}));
    for (name, path, param) in [
        ("first", "llama2", "lora_name"),
        ("tiny", "llama2", "lora_name"),
        ("other", "llama2", "lora_name"),
        ("", "llama2", "lora_name"),
        ("new", "absent", "lora_path"),
        ("new", "../golden/llama2", "lora_path"),
        ("new", "/etc/passwd", "lora_path"),
        ("new", "phi3", "lora_path"),
        ("new", "make.py", "lora_path"),
        ("new", ".", "lora_path"),
    ] {
        let error = load(&server, name, path).error(400);
        assert_eq!(error["param"], param, "{name} {path}: {error}");
    }
    let body = json!({ "lora_name": "new", "lora_path": "llama2", "model": "absent" });
    server.post("/v1/load_lora_adapter", &body).error(404);
    let body = json!({ "lora_name": "new", "lora_path": "llama2", "load_inplace": true });
    let error = server.post("/v1/load_lora_adapter", &body).error(400);
    assert_eq!(error["code"], "unsupported_parameter");
    let body = json!({ "lora_name": "new" });
    server.post("/v1/load_lora_adapter", &body).error(400);
    assert_eq!(ask(&server, json!({})).1, base);
    assert!(server.reports.lock().unwrap().is_empty());

    let closed = serve(|config| config.adapter_folders = Vec::new());
    load(&closed, "new", "llama2").error(403);
    let locked = serve(|config| config.api_keys = vec!["key".to_owned()]);
    load(&locked, "new", "llama2").error(401);
}

#[test]
fn names_are_given_once() {
    let options = |name: &str| LoadOptions {
        adapters: vec![AdapterSource {
            name: name.to_owned(),
            path: fixture("lora/llama2"),
        }],
        ..LoadOptions::default()
    };
    let served = |model: &str, adapter: &str| {
        let source = ModelSource::Path(fixture("golden/llama2.gguf"));
        Served::on_request(model, source, options(adapter))
    };
    let config = Config {
        address: "127.0.0.1:0".parse().unwrap(),
        aliases: vec![("alias".to_owned(), "a".to_owned())],
        ..Config::default()
    };
    let server = zse_server::Server::bind(config).unwrap();
    for adapters in [["a", "x"], ["x", "x"], ["x", "alias"], ["b", "x"]] {
        let served = [served("a", adapters[0]), served("b", adapters[1])];
        let refused = server.check(&served);
        assert!(refused.is_err(), "{adapters:?}");
    }
    server.check(&[served("a", "x"), served("b", "y")]).unwrap();
}
