//! `/v1/embeddings`, and several models.

use serde_json::{Value, json};
use zse_server::Served;

use crate::common::{load, serve, serve_models};

const BERT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../zse-model/tests/golden/bert-mean.gguf"
);

#[test]
fn embeddings_have_length_one_in_both_forms() {
    let mut models = vec![
        Served::new("bert", load(BERT)),
        Served::new("builtin", load("builtin")),
    ];
    models
        .iter_mut()
        .for_each(|model| _ = model.load().unwrap());
    let server = serve_models(models, |_| {});
    let body = json!({ "model": "bert", "input": [[5, 6, 7], [8, 9]] });
    let answer = server.post("/v1/embeddings", &body).json();
    assert_eq!(answer["object"], "list");
    assert_eq!(
        answer["usage"],
        json!({ "prompt_tokens": 5, "total_tokens": 5 })
    );
    assert_eq!(answer["data"][1]["index"], 1);
    let numbers = |v: &Value| -> Vec<f64> {
        v.as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_f64)
            .collect()
    };
    let first = numbers(&answer["data"][0]["embedding"]);
    let length: f64 = first.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");

    let mut encoded = body;
    encoded["encoding_format"] = "base64".into();
    let answer = server.post("/v1/embeddings", &encoded).json();
    let text = answer["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(text.len(), (first.len() * 4).div_ceil(3) * 4);

    for (body, param) in [
        (json!({ "input": "a" }), "model"),
        (json!({ "model": "builtin", "input": "a" }), "model"),
        (json!({ "model": "bert", "input": [] }), "input"),
        (
            json!({ "model": "bert", "input": "a", "dimensions": 4000 }),
            "dimensions",
        ),
    ] {
        let error = server.post("/v1/embeddings", &body).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
    let chat = json!({ "model": "bert", "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(server.post("/v1/chat/completions", &chat).status, 400);
    assert_eq!(
        server.get("/v1/models").json()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_model_that_generates_gives_no_embeddings() {
    let server = serve(|_| {});
    let error = server
        .post("/v1/embeddings", &json!({ "input": "a" }))
        .error(400);
    assert!(error["message"].as_str().unwrap().contains("no embeddings"));
}
