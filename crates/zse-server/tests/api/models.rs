//! Several models: loaded on request, unloaded for others or when idle; and who looks after them.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zse::{LoadOptions, ModelSource};
use zse_server::{Config, Served};

use crate::common::{Running, message, serve, serve_models};

fn options() -> LoadOptions {
    LoadOptions {
        context: Some(256),
        ..LoadOptions::default()
    }
}

/// Bytes that the built-in model takes.
fn memory() -> u64 {
    let options = options();
    let model = options.model(ModelSource::Builtin.open().unwrap()).unwrap();
    options.memory(&model).unwrap().total()
}

/// The built-in model under several names, none of them loaded, in memory for `room` of them.
fn several(names: &[&str], room: u64, change: impl FnOnce(&mut Config)) -> Running {
    let served = names.iter().map(|&name| match name.strip_suffix('!') {
        Some(name) => Served::on_request(name, ModelSource::Builtin, options()).pinned(),
        None => Served::on_request(name, ModelSource::Builtin, options()),
    });
    serve_models(served.collect(), |config| {
        config.model_memory = Some(memory() * room + memory() / 2);
        config.aliases = vec![(
            "other".to_owned(),
            names[0].trim_end_matches('!').to_owned(),
        )];
        change(config);
    })
}

fn complete(server: &Running, model: &str) -> Value {
    let body = json!({ "model": model, "prompt": "Once", "max_tokens": 2, "temperature": 0 });
    server.post("/v1/completions", &body).json()
}

/// The names of the models that are loaded.
fn loaded(server: &Running) -> Vec<String> {
    let status = server.get("/api/models/cache/status").json();
    let models = status["models"].as_array().unwrap().iter();
    models
        .map(|m| m["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_model_is_loaded_when_it_is_first_asked_for() {
    let server = several(&["a", "b"], 2, |_| {});
    let models = server.get("/v1/models").json();
    let ids: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, ["a", "other", "b"]);
    assert_eq!(models["data"][1]["root"], "a");
    assert_eq!(models["data"][0]["state"], "unloaded");
    assert!(loaded(&server).is_empty());

    // Many who ask at once wait for one load.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| complete(&server, "a"));
        }
    });
    assert_eq!(loaded(&server), ["a"]);
    let status = server.get("/api/stats/models").json();
    assert_eq!(status["models"][0]["loads"], 1);
    assert_eq!(status["models"][0]["requests"], 8);
    assert_eq!(complete(&server, "other")["model"], "a");
    assert_eq!(server.get("/v1/models/other").json()["state"], "loaded");

    let unnamed = json!({ "prompt": "Once" });
    assert_eq!(
        server.post("/v1/completions", &unnamed).error(400)["param"],
        "model"
    );
    let unknown = json!({ "model": "c", "prompt": "Once" });
    assert_eq!(
        server.post("/v1/completions", &unknown).error(404)["code"],
        "model_not_found"
    );
}

#[test]
fn the_model_not_asked_for_longest_gives_way() {
    let server = several(&["a", "b", "c"], 2, |_| {});
    for (model, expected) in [
        ("a", vec!["a"]),
        ("b", vec!["a", "b"]),
        ("a", vec!["a", "b"]),
        ("c", vec!["a", "c"]),
    ] {
        complete(&server, model);
        assert_eq!(loaded(&server), expected);
    }
    let used = server.get("/api/models/cache/status").json();
    assert_eq!(used["memory_used"], 2 * memory());
}

#[test]
fn a_pinned_model_stays_and_one_in_use_is_waited_for() {
    let server = several(&["a!", "b", "c"], 2, |_| {});
    complete(&server, "a");
    let body = json!({
        "model": "b", "prompt": "Once upon a time", "max_tokens": 150, "ignore_eos": true,
        "stream": true,
    });
    let mut stream = server.connect();
    let request = message("POST", "/v1/completions", "", &body.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 200]).unwrap();
    complete(&server, "c");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    assert_eq!(loaded(&server), ["a", "c"]);
}

/// Keeps a model in use until the stream is read or dropped: its answer is more than what lies
/// between the two ends can hold.
fn hold(server: &Running, model: &str) -> std::net::TcpStream {
    let body = json!({
        "model": model, "prompt": "Once", "n": 8, "max_tokens": 240, "ignore_eos": true,
        "logprobs": 20, "stream": true,
    });
    let mut stream = server.connect();
    let request = message("POST", "/v1/completions", "", &body.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 200]).unwrap();
    stream
}

/// Waits until so many continuations were let in.
fn wait_until_admitted(server: &Running, n: u64) {
    let start = Instant::now();
    while server.get("/api/batching").json()["requests"]["admitted"] != n {
        assert!(start.elapsed() < Duration::from_secs(120), "not let in");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_waits_for_room_counts_and_holds_up_nobody() {
    let server = several(&["a", "b", "c"], 1, |config| config.max_requests = 10);
    let stream = hold(&server, "a");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| complete(&server, "b"));
        wait_until_admitted(&server, 9);
        let also = scope.spawn(|| complete(&server, "c"));
        wait_until_admitted(&server, 10);
        let body = json!({ "model": "b", "prompt": "Once" });
        server.post("/v1/completions", &body).error(429);
        assert_eq!(loaded(&server), ["a"]);
        // More room is heard of at once.
        let set = json!({ "memory_limit": memory() * 4 });
        server.post("/api/models/cache/settings", &set).json();
        assert_eq!(waiting.join().unwrap()["model"], "b");
        assert_eq!(also.join().unwrap()["model"], "c");
        assert_eq!(loaded(&server), ["a", "b", "c"]);
    });
    drop(stream);
}

#[test]
fn a_model_that_can_never_fit_is_refused_with_both_numbers() {
    let server = several(&["a", "b"], 0, |_| {});
    let body = json!({ "model": "a", "prompt": "Once" });
    let error = server.post("/v1/completions", &body).error(400);
    assert_eq!(error["code"], "model_too_large");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains(&memory().to_string())
    );
}

#[test]
fn a_model_that_cannot_be_loaded_is_named_and_no_more() {
    let source = ModelSource::Path("/nowhere/secret.gguf".into());
    let models = vec![Served::on_request("gone", source, options())];
    let server = serve_models(models, |_| {});
    for i in 0..2 {
        let answer = server.post("/v1/completions", &json!({ "prompt": "a" }));
        let error = answer.error(500);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("'gone'") && !message.contains("secret"),
            "{message}"
        );
        let reported = server.reports.lock().unwrap()[i].clone();
        assert!(reported.contains("secret.gguf"), "{reported}");
        let mut lines = answer.head.lines();
        let id = lines.find_map(|line| line.strip_prefix("x-request-id: "));
        let named = format!("(request {})", id.expect("a name"));
        assert!(reported.contains(&named), "{reported}");
    }
    assert_eq!(server.get("/v1/models/gone").json()["state"], "unloaded");
}

#[test]
fn idle_models_are_unloaded() {
    let server = several(&["a", "b!"], 2, |config| {
        config.model_idle = Some(Duration::from_millis(300));
    });
    complete(&server, "a");
    complete(&server, "b");
    let start = Instant::now();
    while loaded(&server) != ["b"] {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "{:?}",
            loaded(&server)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    complete(&server, "a");
}

#[test]
fn models_are_loaded_and_unloaded_by_hand() {
    let server = several(&["a", "b"], 2, |_| {});
    let load = |body| server.post("/api/models/load", &body);
    let status = load(json!({ "model": "a", "pin": true, "keep_alive": "5m" })).json();
    assert_eq!(
        (&status["state"], &status["pinned"]),
        (&json!("loaded"), &json!(true))
    );
    assert!(status["expires_in_seconds"].is_null());
    let status = load(json!({ "model": "a", "pin": false, "keep_alive": 60 })).json();
    assert!(status["expires_in_seconds"].as_f64().unwrap() > 50.0);
    let error = load(json!({ "model": "a", "keep_alive": "soon" })).error(400);
    assert_eq!(error["param"], "keep_alive");
    load(json!({ "model": "b" })).json();
    assert_eq!(loaded(&server), ["a", "b"]);
    let status = server
        .post("/api/models/unload", &json!({ "model": "a" }))
        .json();
    assert_eq!(status["state"], "unloaded");
    let cleared = server.post("/api/models/cache/clear", &json!({})).json();
    assert_eq!(cleared["unloaded"], json!(["b"]));
    assert!(loaded(&server).is_empty());

    let set = json!({ "memory_limit": 1000, "idle_seconds": 60 });
    server.post("/api/models/cache/settings", &set).json();
    let settings = server.get("/api/models/cache/settings").json();
    assert_eq!(
        settings,
        json!({ "memory_limit": 1000, "idle_seconds": 60.0 })
    );
    assert_eq!(
        load(json!({ "model": "a" })).error(400)["code"],
        "model_too_large"
    );
    for wrong in [
        json!({ "idle_seconds": 1e300 }),
        json!({ "memory_limit": -1 }),
    ] {
        server.post("/api/models/cache/settings", &wrong).error(400);
    }

    let given = serve(|_| {});
    given.post("/api/models/unload", &json!({})).error(400);
}

#[test]
fn a_pinned_model_is_not_let_go_by_a_client() {
    let server = several(&["a!", "b"], 2, |_| {});
    for model in ["a", "b"] {
        complete(&server, model);
        let body = json!({ "model": model, "stream": false, "keep_alive": 0 });
        server.post("/api/generate", &body).json();
    }
    assert_eq!(loaded(&server), ["a"]);
    let status = server.get("/api/stats/models").json();
    assert_eq!(status["models"][0]["pinned"], true);

    // A load by hand takes back that it was to go.
    let body = json!({ "model": "a", "pin": false });
    server.post("/api/models/load", &body).json();
    complete(&server, "a");
    assert_eq!(loaded(&server), ["a"]);
}

#[test]
fn warming_up_is_measured() {
    let server = several(&["a", "b"], 2, |_| {});
    let status = server.get("/api/models/warmup/a/status").json();
    assert_eq!(status["warm"], false);
    let warmed = server.post("/api/models/warmup/a", &json!({})).json();
    assert_eq!(warmed["warm"], true);
    assert!(warmed["first_tokens_seconds"].as_f64().unwrap() > 0.0);
    let measured = server
        .post("/api/models/warmup/a/benchmark", &json!({}))
        .json();
    let cold = measured["cold"]["total_seconds"].as_f64().unwrap();
    assert!(cold > 0.0 && measured["warm"]["first_tokens_seconds"].as_f64().unwrap() > 0.0);
    server.post("/api/models/warmup/x", &json!({})).error(404);
    assert_eq!(loaded(&server), ["a"]);
}

#[test]
fn counts_are_there_as_json() {
    let server = several(&["a", "b"], 2, |_| {});
    complete(&server, "a");
    for path in [
        "stats",
        "stats/models",
        "stats/gpu",
        "batching",
        "models/cache/status",
    ] {
        let error = server.get(&format!("/api/{path}?mood=bad")).error(400);
        assert_eq!(error["param"], "mood");
    }
    let stats = server.get("/api/stats").json();
    assert_eq!(stats["models"], json!({ "served": 2, "loaded": 1 }));
    assert!(stats["tokens"]["generated"].as_u64().unwrap() >= 1);
    assert!(stats["uptime_seconds"].as_f64().unwrap() > 0.0);
    let models = server.get("/api/stats/models").json();
    assert!(models["models"][0]["engine"]["requests"].as_u64().unwrap() >= 1);
    assert!(models["models"][1]["engine"].is_null());
    let batching = server.get("/api/batching").json();
    assert_eq!(batching["requests"]["limit"], 256);
    assert_eq!(batching["models"][0]["id"], "a");
    assert_eq!(batching["models"][0]["limits"]["context"], 256);
}

#[test]
fn an_unload_that_comes_while_a_model_is_loaded_is_not_lost() {
    let server = several(&["a", "b"], 1, |_| {});
    std::thread::scope(|scope| {
        let load = || {
            server
                .post("/api/models/load", &json!({ "model": "a" }))
                .json()
        };
        let loading = scope.spawn(load);
        let state = || server.get("/v1/models/a").json()["state"].clone();
        // It may be over before it is seen; then it is unloaded as any other.
        while state() == "unloaded" && !loading.is_finished() {
            std::thread::yield_now();
        }
        server
            .post("/api/models/unload", &json!({ "model": "a" }))
            .json();
        loading.join().unwrap();
    });
    let start = Instant::now();
    while loaded(&server) != Vec::<String>::new() {
        assert!(start.elapsed() < Duration::from_secs(120), "still loaded");
        std::thread::sleep(Duration::from_millis(10));
    }
    complete(&server, "a");
    assert_eq!(loaded(&server), ["a"], "the next load stays");
}

#[test]
fn a_prefix_cache_is_forgotten_without_its_model() {
    let server = several(&["a", "b"], 2, |_| {});
    let prompt = "Once upon a time ".repeat(20);
    let found = || {
        let body = json!({ "model": "a", "prompt": prompt, "max_tokens": 1 });
        let usage = server.post("/v1/completions", &body).json()["usage"].clone();
        usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(found(), 0);
    assert!(found() > 30);
    let status = server.get("/api/models/cache/status").json();
    assert!(
        status["models"][0]["prefix_cache"]["blocks"]
            .as_u64()
            .unwrap()
            > 0
    );
    for body in [
        json!({ "prefix_cache": true }),
        json!({ "prefix_cache": true, "model": "a" }),
    ] {
        let cleared = server.post("/api/models/cache/clear", &body).json();
        assert_eq!(cleared, json!({ "prefix_cache_cleared": ["a"] }));
        assert_eq!(found(), 0);
        assert!(found() > 30);
    }
    let unknown = json!({ "prefix_cache": true, "model": "x" });
    server.post("/api/models/cache/clear", &unknown).error(404);
    let alone = json!({ "model": "a" });
    let error = server.post("/api/models/cache/clear", &alone).error(400);
    assert_eq!(error["param"], "model");
}

/// A stream without the comments that it begins with.
fn behind_comments(body: &str) -> &str {
    let is_comment = |event: &&str| event.starts_with(':');
    let comments = body.split_inclusive("\n\n").take_while(is_comment);
    &body[comments.map(str::len).sum()..]
}

#[test]
fn a_stream_whose_model_is_loaded_begins_with_comments() {
    let notice = |config: &mut Config| config.load_notice = Duration::ZERO;
    let gone = || ModelSource::Path("/nowhere/secret.gguf".into());
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    for (path, mut body, error) in [
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "max_tokens": 2, "stream": true }),
            "data: {\"error\":{",
        ),
        (
            "/v1/completions",
            json!({ "prompt": "Hi", "max_tokens": 2, "stream": true }),
            "data: {\"error\":{",
        ),
        (
            "/v1/responses",
            json!({ "input": "Hi", "max_output_tokens": 2, "stream": true }),
            "event: error\ndata: {\"",
        ),
        (
            "/v1/messages",
            json!({ "messages": messages, "max_tokens": 2, "stream": true }),
            "event: error\ndata: {\"",
        ),
    ] {
        let models = vec![
            Served::on_request("later", ModelSource::Builtin, options()),
            Served::on_request("gone", gone(), options()),
        ];
        let server = serve_models(models, notice);
        body["model"] = "later".into();
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(
            answer.head.contains("text/event-stream"),
            "{path}: {}",
            answer.head
        );
        let begun = answer
            .body
            .starts_with(": loading later, for 0 s so far\n\n");
        assert!(begun, "{path}: {}", answer.body);
        let events = behind_comments(&answer.body);
        assert!(
            events.contains("data: {") && !events.contains(": loading"),
            "{path}: {events}"
        );
        // What is loaded needs no waiting, and what is wrong has its status.
        let again = server.post(path, &body);
        assert!(!again.body.starts_with(':'), "{path}: {}", again.body);
        body["temperature"] = (-1).into();
        assert_eq!(server.post(path, &body).status, 400);
        body["temperature"] = 1.into();
        body["model"] = "gone".into();
        let answer = server.post(path, &body);
        let begun = answer.body.starts_with(": loading gone");
        assert!(begun, "{path}: {}", answer.body);
        let events = behind_comments(&answer.body);
        assert!(events.starts_with(error), "{path}: {events}");
        assert!(!answer.body.contains("secret"), "{path}: {}", answer.body);
        assert!(
            server
                .reports
                .lock()
                .unwrap()
                .iter()
                .any(|why| why.contains("secret"))
        );
    }
}
