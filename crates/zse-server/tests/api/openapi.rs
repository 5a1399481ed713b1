//! The OpenAPI document: what it says of answers holds for answers, and its page can be read.

use serde_json::{Value, json};
use zse_server::Served;

use crate::common::{Answer, Running, load, serve, serve_models};

/// The schema that a reference leads to, or the schema itself.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        None => schema,
        Some(path) => {
            let found = document.pointer(path.trim_start_matches('#'));
            found.unwrap_or_else(|| panic!("nothing is at {path}"))
        }
    }
}

/// What is wrong with a value by its schema. An object may have no field that the schema does not
/// have, which JSON Schema itself would not mind.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut errors = shape(document, schema, value, at, &mut fields);
    if let (Some(object), false) = (value.as_object(), fields.is_empty()) {
        let unknown = object
            .keys()
            .filter(|name| !fields.contains(&name.as_str()));
        errors.extend(unknown.map(|name| format!("{at}.{name} is not in the schema")));
    }
    errors
}

/// As [`wrong`], but for fields that it does not know: those that it knows are added to `fields`.
fn shape<'a>(
    document: &'a Value,
    schema: &'a Value,
    value: &Value,
    at: &str,
    fields: &mut Vec<&'a str>,
) -> Vec<String> {
    let schema = resolve(document, schema);
    let list = |name: &str| schema[name].as_array().map_or(&[][..], Vec::as_slice);
    let mut errors = Vec::new();
    for part in list("allOf") {
        errors.extend(shape(document, part, value, at, fields));
    }
    let forms = [list("oneOf"), list("anyOf")].concat();
    let fits = |form: &Value| wrong(document, form, value, at).is_empty();
    if !forms.is_empty() && !forms.iter().any(fits) {
        errors.push(format!("{at} is {value}, none of {forms:?}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_kind = |name: &Value| name == kind || name == "number" && kind == "integer";
    let is_right = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is_kind),
        name => is_kind(name),
    };
    if !is_right {
        errors.push(format!("{at} is {value}, not {}", schema["type"]));
    }
    if !list("enum").is_empty() && !list("enum").contains(value) {
        errors.push(format!("{at} is {value}, not one of {}", schema["enum"]));
    }
    let properties = schema["properties"].as_object();
    if let Some(object) = value.as_object() {
        for (name, property) in properties.into_iter().flatten() {
            fields.push(name);
            if let Some(value) = object.get(name) {
                errors.extend(wrong(document, property, value, &format!("{at}.{name}")));
            }
        }
        let required = list("required").iter().filter_map(Value::as_str);
        let missing = required.filter(|name| !object.contains_key(*name));
        errors.extend(missing.map(|name| format!("{at}.{name} is missing")));
    }
    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            errors.extend(wrong(
                document,
                &schema["items"],
                value,
                &format!("{at}[{i}]"),
            ));
        }
    }
    errors
}

/// A server's document, to hold its answers against.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn of(server: &Running) -> Self {
        Self(server.get("/openapi.json").json())
    }

    /// The schema of an answer.
    #[track_caller]
    fn schema(&self, verb: &str, path: &str, status: &str, kind: &str) -> &Value {
        let responses = &self.0["paths"][path][verb]["responses"];
        let schema = &responses[status]["content"][kind]["schema"];
        assert!(!schema.is_null(), "{verb} {path} gives no {kind}");
        schema
    }

    #[track_caller]
    fn holds(&self, schema: &Value, value: &Value) {
        let errors = wrong(&self.0, schema, value, "answer");
        assert!(errors.is_empty(), "{errors:#?} in {value:#}");
    }

    #[track_caller]
    pub(crate) fn json(&self, verb: &str, path: &str, answer: &Answer) {
        let schema = self.schema(verb, path, "200", "application/json");
        self.holds(schema, &answer.json());
    }
}

#[test]
fn answers_are_what_the_document_says() {
    let server = serve(|_| {});
    let document = Document::of(&server);
    for path in [
        "/health",
        "/v1/models",
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/api/stats",
        "/api/stats/gpu",
        "/api/stats/models",
        "/api/batching",
        "/api/models/cache/status",
        "/api/models/cache/settings",
        "/lora-adapters",
    ] {
        document.json("get", path, &server.get(path));
    }
    for (documented, path) in [
        ("/v1/models/{id}", "/v1/models/builtin"),
        (
            "/api/models/warmup/{id}/status",
            "/api/models/warmup/builtin/status",
        ),
    ] {
        document.json("get", documented, &server.get(path));
    }
    let messages = json!([{ "role": "user", "content": "What is ZSE?" }]);
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "max_tokens": 4, "logprobs": true, "top_logprobs": 2 }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": ["a", "b"], "max_tokens": 4, "logprobs": 2 }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": "a", "max_tokens": 2, "n_probs": 2 }),
        ),
        (
            "/v1/rerank",
            json!({ "query": "a", "documents": ["b", { "text": "c" }], "return_documents": true }),
        ),
        (
            "/v1/responses",
            json!({ "input": "What is ZSE?", "max_output_tokens": 4 }),
        ),
        (
            "/v1/messages",
            json!({ "model": "builtin", "messages": messages, "max_tokens": 4 }),
        ),
        ("/v1/messages/count_tokens", json!({ "messages": messages })),
        ("/tokenize", json!({ "content": "Once" })),
        (
            "/tokenize",
            json!({ "content": "Once", "with_pieces": true }),
        ),
        ("/detokenize", json!({ "tokens": [79, 80] })),
        ("/api/show", json!({ "model": "builtin" })),
        (
            "/api/chat",
            json!({ "messages": messages, "stream": false, "options": { "num_predict": 4 } }),
        ),
        (
            "/api/generate",
            json!({ "prompt": "a", "stream": false, "options": { "num_predict": 4 } }),
        ),
        ("/api/generate", json!({ "stream": false })),
        ("/api/models/load", json!({ "model": "builtin" })),
        ("/api/models/cache/settings", json!({})),
        ("/api/models/cache/clear", json!({ "prefix_cache": true })),
        ("/api/models/cache/clear", json!({})),
    ] {
        document.json("post", path, &server.post(path, &body));
    }
    let warmed = server.post("/api/models/warmup/builtin", &json!({}));
    document.json("post", "/api/models/warmup/{id}", &warmed);
}

#[test]
fn calls_of_tools_are_what_the_document_says() {
    let server = serve(|_| {});
    let document = Document::of(&server);
    let parameters =
        json!({ "type": "object", "properties": { "expression": { "type": "string" } } });
    let calculator = json!({ "name": "calculator", "parameters": parameters });
    let mut body = json!({
        "messages": [{ "role": "user", "content": "What is 12 * 34?" }],
        "tools": [{ "type": "function", "function": calculator }],
        "tool_choice": "required", "temperature": 0,
    });
    let path = "/v1/chat/completions";
    let answer = server.post(path, &body);
    assert!(answer.json()["choices"][0]["message"]["tool_calls"].is_array());
    document.json("post", path, &answer);

    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let schema = document.schema("post", path, "200", "text/event-stream");
    let events = server.post(path, &body).events();
    assert!(
        events
            .iter()
            .any(|e| e["choices"][0]["delta"]["tool_calls"].is_array())
    );
    for event in events {
        document.holds(schema, &event);
    }
}

#[test]
fn embeddings_are_what_the_document_says() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../zse-model/tests/golden/bert-mean.gguf"
    );
    let server = serve_models(vec![Served::new("bert", load(model))], |_| {});
    let document = Document::of(&server);
    for format in ["float", "base64"] {
        let body = json!({ "input": "a", "encoding_format": format });
        let answer = server.post("/v1/embeddings", &body);
        document.json("post", "/v1/embeddings", &answer);
    }
    let answer = server.post("/api/embed", &json!({ "input": ["a", "b"] }));
    document.json("post", "/api/embed", &answer);
    let answer = server.post("/api/embeddings", &json!({ "prompt": "a" }));
    document.json("post", "/api/embeddings", &answer);
}

#[test]
fn errors_are_what_the_document_says() {
    let server = serve(|_| {});
    let document = Document::of(&server);
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        let answer = server.post(path, &json!({ "no": "such" }));
        assert_eq!(answer.status, 400, "{}", answer.body);
        let schema = document.schema("post", path, "default", "application/json");
        document.holds(schema, &serde_json::from_str(&answer.body).unwrap());
    }
}

#[test]
fn every_route_of_the_document_is_there() {
    let server = serve(|config| config.api_keys = vec!["key".to_owned()]);
    let headers = "authorization: Bearer key\r\n";
    let document: Value = server.request("GET", "/openapi.json", headers, "").json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 30);
    for (path, item) in paths {
        for (verb, operation) in item.as_object().expect("operations") {
            // Of the names that routes have in them only models' are there.
            let path = path
                .replace("{file}", "index.html")
                .replace("{id}", "builtin");
            let verb = verb.to_ascii_uppercase();
            let open = operation["security"] == json!([{}]);
            // Files of the page are no text.
            let verb = match path.starts_with("/docs") {
                true => "HEAD".to_owned(),
                false => verb,
            };
            let status = server.request(&verb, &path, "", "").status;
            assert_eq!(status == 401, !open, "{verb} {path}: {status}");
            // A warm-up would take its time.
            if !path.contains("warmup") {
                let answer = server.request(&verb, &path, headers, "");
                assert_ne!(answer.status, 405, "{verb} {path}");
                if path.starts_with("/docs") {
                    let expected = if path == "/docs" { 308 } else { 200 };
                    assert_eq!(answer.status, expected, "{verb} {path}");
                }
                assert!(!answer.body.contains("there is no '/"), "{verb} {path}");
            }
        }
    }
}

/// The routes that a client of the manual's Python examples asks, and how it is told to.
const BY_CLIENTS: [(&str, &str); 21] = [
    ("/v1/chat/completions", "client.chat.completions.create("),
    ("/v1/completions", "client.completions.create("),
    ("/v1/responses", "client.responses.create("),
    ("/v1/responses/{id}", "client.responses.retrieve("),
    (
        "/v1/responses/{id}/input_items",
        "client.responses.input_items.list(",
    ),
    ("/v1/embeddings", "client.embeddings.create("),
    ("/v1/models", "client.models.list("),
    ("/v1/models/{id}", "client.models.retrieve("),
    (
        "/v1/load_lora_adapter",
        "client.post(\"/load_lora_adapter\"",
    ),
    (
        "/v1/unload_lora_adapter",
        "client.post(\"/unload_lora_adapter\"",
    ),
    ("/v1/messages", "claude.messages.create("),
    ("/v1/messages/count_tokens", "claude.messages.count_tokens("),
    ("/api/chat", "local.chat("),
    ("/api/generate", "local.generate("),
    ("/api/tags", "local.list("),
    ("/api/show", "local.show("),
    ("/api/ps", "local.ps("),
    ("/api/pull", "local.pull("),
    ("/api/delete", "local.delete("),
    ("/api/embed", "embedder.embed("),
    ("/api/embeddings", "embedder.embeddings("),
];

/// Whether an example asks a route, written as an address or, with Python, as a path.
fn asks(example: &str, route: &str) -> bool {
    let (start, end) = match (route.find('{'), route.rfind('}')) {
        (Some(open), Some(close)) => (&route[..open], &route[close + 1..]),
        _ => (route, ""),
    };
    let starts = [format!("127.0.0.1:8000{start}"), format!("\"{start}")];
    starts.iter().any(|start| {
        example.match_indices(start.as_str()).any(|(at, start)| {
            let rest = &example[at + start.len()..];
            match route.contains('{') {
                true => rest.lines().next().is_some_and(|line| line.contains(end)),
                // Else it is the beginning of another route.
                false => !rest.starts_with(|c: char| c.is_alphanumeric() || "/_-".contains(c)),
            }
        })
    })
}

#[test]
fn every_route_is_in_the_manual_with_its_examples() {
    let manual = include_str!("../../../../docs/api.md");
    let sections: Vec<&str> = manual.split("\n## ").skip(1).collect();
    let document = Document::of(&serve(|_| {}));
    let paths = document.0["paths"].as_object().expect("paths").keys();
    let pages = |path: &&String| path.starts_with("/docs/");
    let mut missing = Vec::new();
    for path in paths.filter(|path| !pages(path)) {
        let named = format!("{path}`");
        let call = BY_CLIENTS.iter().find(|(route, _)| route == path);
        let by_python = |example: &&str| {
            asks(example, path) || call.is_some_and(|(_, call)| example.contains(call))
        };
        let by_curl = |example: &&str| example.contains("curl ") && asks(example, path);
        let has_both = |section: &&str| {
            // Text and examples come by turns; a shell's have no name.
            let examples = section.split("\n```").skip(1).step_by(2);
            let (python, shell): (Vec<&str>, Vec<&str>) =
                examples.partition(|example| example.starts_with("python\n"));
            // curl does not speak over WebSockets.
            let has_curl = path.starts_with("/ws/") || shell.iter().any(by_curl);
            section.contains(&named) && has_curl && python.iter().any(by_python)
        };
        if !sections.iter().any(has_both) {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let server = serve(|_| {});
    let moved = server.get("/docs");
    assert_eq!(moved.status, 308);
    assert!(moved.head.contains("location: docs/"), "{}", moved.head);
    let script = server.get("/docs/swagger-initializer.js");
    assert!(script.body.contains("../openapi.json"), "{}", script.body);
    assert!(
        script.head.contains("default-src 'self'"),
        "{}",
        script.head
    );
    for (file, kind) in [
        ("", "text/html"),
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
    ] {
        let head = server.head(&format!("/docs/{file}"));
        assert!(head.starts_with("http/1.1 200"), "{file}: {head}");
        assert!(head.contains(kind), "{file}: {head}");
        assert!(head.contains("content-encoding: gzip"), "{file}: {head}");
        assert!(head.contains("vary: accept-encoding"), "{file}: {head}");
        assert!(head.contains("frame-ancestors 'none'"), "{file}: {head}");
    }
    server.get("/docs/../v1/models").error(404);
    server.get("/docs/nothing.js").error(404);
    let plain = "accept-encoding: identity\r\n";
    server.request("GET", "/docs/", plain, "").error(406);
    let foreign = "origin: https://evil.example\r\n";
    server.request("GET", "/docs/", foreign, "").error(403);
}

#[test]
fn the_key_opens_the_page_as_a_browser_gives_it() {
    let server = serve(|config| config.api_keys = vec!["key".to_owned()]);
    let answer = server.get("/docs/");
    answer.error(401);
    let asks = "www-authenticate: basic realm=\"zse\"";
    assert!(answer.head.to_lowercase().contains(asks), "{}", answer.head);
    // Of what is no page a browser need not ask.
    let answer = server.get("/openapi.json");
    answer.error(401);
    assert!(!answer.head.to_lowercase().contains("www-authenticate"));
    // `me:key` and `me:other`.
    for (password, status) in [("bWU6a2V5", 200), ("bWU6b3RoZXI=", 401)] {
        let header = format!("authorization: Basic {password}\r\n");
        let script = server.request("GET", "/docs/swagger-initializer.js", &header, "");
        assert_eq!(script.status, status);
        server
            .request("GET", "/openapi.json", &header, "")
            .error(401);
    }
}
