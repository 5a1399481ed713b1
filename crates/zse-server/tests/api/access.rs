//! Who may ask.

use serde_json::json;

use crate::common::serve;

#[test]
fn a_key_covers_every_route_but_health() {
    let server = serve(|config| config.api_keys = vec!["one".to_owned(), "two".to_owned()]);
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    for path in [
        "/",
        "/docs",
        "/docs/",
        "/openapi.json",
        "/metrics",
        "/v1/models",
        "/v1/models/x",
        "/nowhere",
    ] {
        let error = server.get(path).error(401);
        assert_eq!(error["code"], "invalid_api_key");
    }
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/tokenize",
    ] {
        assert_eq!(server.post(path, &json!({})).status, 401, "{path}");
    }
    for (headers, status) in [
        ("authorization: Bearer two\r\n", 200),
        ("x-api-key: one\r\n", 200),
        ("authorization: Bearer three\r\n", 401),
        ("authorization: Bearer one two\r\n", 401),
    ] {
        let answer = server.request("GET", "/v1/models", headers, "");
        assert_eq!(answer.status, status, "{headers}");
    }
}

#[test]
fn only_admin_keys_manage_models() {
    let managing = [
        ("GET", "/api/models/cache/status"),
        ("POST", "/api/models/load"),
        ("POST", "/api/models/unload"),
        ("POST", "/api/models/cache/settings"),
        ("GET", "/api/models/registry"),
        ("GET", "/api/models/check"),
        ("POST", "/api/models/download"),
        ("DELETE", "/api/models/download/1"),
        ("POST", "/api/pull"),
        ("DELETE", "/api/delete"),
        ("GET", "/ws/downloads"),
    ];
    let user = "x-api-key: user\r\n";
    for admins in [&["boss"][..], &[]] {
        let server = serve(|config| {
            config.api_keys = vec!["user".to_owned()];
            config.admin_keys = admins.iter().map(|&key| key.to_owned()).collect();
        });
        for (method, path) in managing {
            let answer = server.request(method, path, user, "{}");
            assert_eq!(answer.status, 403, "{path}: {}", answer.body);
            assert!(
                answer.body.contains("--admin-key"),
                "{path}: {}",
                answer.body
            );
            let boss = server.request(method, path, "x-api-key: boss\r\n", "{}");
            let is_refused = matches!(boss.status, 401 | 403);
            assert_eq!(is_refused, admins.is_empty(), "{path}: {}", boss.body);
        }
        let models = |headers| server.request("GET", "/v1/models", headers, "").status;
        assert_eq!(models(user), 200);
        assert_eq!(models("x-api-key: boss\r\n") == 200, !admins.is_empty());
    }
    // Where there are no users' keys, an admin's is needed for all.
    let server = serve(|config| config.admin_keys = vec!["boss".to_owned()]);
    server.get("/v1/models").error(401);
}

#[test]
fn foreign_names_and_pages_are_refused() {
    let server = serve(|config| config.allowed_origins = vec!["https://chat.example".to_owned()]);
    let rebound =
        server.raw(b"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!(
        rebound.error(403)["message"]
            .as_str()
            .unwrap()
            .contains("evil.example")
    );

    let foreign = server.request("GET", "/v1/models", "origin: https://evil.example\r\n", "");
    foreign.error(403);
    assert!(!foreign.head.contains("access-control"), "{}", foreign.head);

    let own = "origin: https://chat.example\r\n";
    let page = server.request("GET", "/v1/models", own, "");
    assert!(
        page.head
            .contains("access-control-allow-origin: https://chat.example")
    );
    let preflight = server.request("OPTIONS", "/v1/chat/completions", own, "");
    assert_eq!(preflight.status, 204);
    assert!(
        preflight
            .head
            .contains("access-control-allow-headers: authorization")
    );
    // Clients in JavaScript have headers of their own.
    let asks = "access-control-request-method: POST\r\n\
                access-control-request-headers: authorization,content-type,x-stainless-lang\r\n";
    let path = "/v1/chat/completions";
    let preflight = server.request("OPTIONS", path, &format!("{own}{asks}"), "");
    assert_eq!(preflight.status, 204);
    let allowed = "access-control-allow-headers: authorization,content-type,x-stainless-lang\r\n";
    assert!(preflight.head.contains(allowed), "{}", preflight.head);
    assert!(
        preflight
            .head
            .contains("access-control-allow-methods: get, post")
    );
    let evil = format!("origin: https://evil.example\r\n{asks}");
    let foreign = server.request("OPTIONS", path, &evil, "");
    foreign.error(403);
    assert!(!foreign.head.contains("access-control"), "{}", foreign.head);
}

#[test]
fn unknown_paths_and_methods_have_openais_errors() {
    let server = serve(|_| {});
    server.get("/v2/nothing").error(404);
    server.get("/v1/chat/completions").error(405);
    let error = server.get("/v1/models/gpt-4").error(404);
    assert_eq!(error["code"], "model_not_found");
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "builtin");
    assert_eq!(models["data"][0]["max_model_len"], 2048);
    assert_eq!(server.get("/v1/models/builtin").json()["object"], "model");
}

#[test]
fn every_answer_names_its_request() {
    let server = serve(|config| config.api_keys = vec!["key".to_owned()]);
    let key = "authorization: Bearer key\r\nx-request-id: mine\r\nrequest-id: mine\r\n";
    let mut ids = Vec::new();
    for (method, path, headers, body) in [
        ("GET", "/health", "", ""),
        ("GET", "/v1/models", "", ""),
        ("GET", "/v1/models", key, ""),
        ("GET", "/nothing", key, ""),
        ("POST", "/v1/chat/completions", key, "{"),
        (
            "POST",
            "/v1/completions",
            key,
            r#"{"prompt": "a", "max_tokens": 1, "stream": true}"#,
        ),
        ("POST", "/v1/messages", key, "{}"),
        ("POST", "/v1/messages", "", "{}"),
    ] {
        let answer = server.request(method, path, headers, body);
        let header = |name: &str| {
            let lines = answer.head.lines();
            let found: Vec<&str> = lines.filter_map(|line| line.strip_prefix(name)).collect();
            assert!(found.len() < 2, "{}", answer.head);
            found.first().map(|id| (*id).to_owned())
        };
        let id = header("x-request-id: ").expect("a name");
        assert!(id.starts_with("req_") && id.len() == 36, "{id}");
        let of_anthropic = (path == "/v1/messages").then(|| id.clone());
        assert_eq!(header("request-id: "), of_anthropic, "{path}");
        ids.push(id);
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
