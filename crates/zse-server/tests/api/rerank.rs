//! `/v1/rerank`.

use serde_json::{Value, json};
use zse::format::EncodedValue;
use zse_server::Served;

use crate::common::{Running, changed, load, serve, serve_models};

const BERT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../zse-model/tests/golden/bert-rank.gguf"
);

#[test]
fn documents_are_ranked_by_a_cross_encoder() {
    let engine = load(BERT);
    let documents = ["x y z", "a b", "q", "k l m n o"];
    let score = |document: &str| {
        let tokens = engine.pair_tokens("a b c", document, None).unwrap();
        assert_eq!(
            tokens.iter().filter(|&&token| token == 3).count(),
            2,
            "two [SEP]"
        );
        f64::from(engine.relevance(tokens, "").unwrap())
    };
    let scores = documents.map(score);
    let server = serve_models(vec![Served::new("rank", engine.clone())], |_| {});
    let body = json!({ "query": "a b c", "documents": documents });
    let mut first = Value::Null;
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let answer = server.post(path, &body).json();
        assert_eq!(answer["model"], "rank");
        // [CLS] a b c [SEP] ... [SEP], four times.
        let usage = json!({ "prompt_tokens": 35, "total_tokens": 35 });
        assert_eq!(answer["usage"], usage);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), 4);
        let given: Vec<f64> = results
            .iter()
            .filter_map(|r| r["relevance_score"].as_f64())
            .collect();
        assert!(
            given.iter().all(|score| (0.0..=1.0).contains(score)),
            "{given:?}"
        );
        assert!(given.is_sorted_by(|a, b| a >= b), "{given:?}");
        for (result, score) in results.iter().zip(given) {
            let index = result["index"].as_u64().unwrap() as usize;
            assert!((scores[index] - score).abs() < 1e-6, "{result}");
            assert!(result["document"].is_null());
        }
        first = results[0].clone();
    }
    let body = json!({
        "query": "a b c", "top_n": 1, "return_documents": true,
        "documents": documents.map(|text| json!({ "text": text })),
    });
    let best = server.post("/v1/rerank", &body).json()["results"].clone();
    let index = first["index"].as_u64().unwrap() as usize;
    first["document"] = json!({ "text": documents[index] });
    assert_eq!(best, json!([first]));

    let body = json!({ "input": "a" });
    assert_eq!(
        server.post("/v1/embeddings", &body).error(400)["param"],
        "model"
    );
    let shown = server.post("/api/show", &json!({ "model": "rank" })).json();
    assert_eq!(shown["capabilities"], json!([]));
    let long = json!({ "query": "a", "documents": ["b", "c ".repeat(100)] });
    let error = server.post("/v1/rerank", &long).error(400);
    assert_eq!(error["param"], "documents[1]");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("64 tokens") && message.contains("104 tokens"),
        "{message}"
    );
    let told = json!({ "query": "a", "documents": ["b"], "instruction": "c" });
    assert_eq!(
        server.post("/v1/rerank", &told).error(400)["param"],
        "instruction"
    );
}

#[test]
fn documents_are_ranked_by_yes_and_no() {
    let server = serve(|_| {});
    let body = json!({
        "query": "What is ZSE?", "documents": ["A program.", "A river."], "top_n": 5,
        "instruction": "Find definitions.",
    });
    let answer = server.post("/v1/rerank", &body).json();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        let score = result["relevance_score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score), "{result}");
    }
    assert_eq!(
        server.post("/v1/rerank", &body).json()["results"],
        answer["results"]
    );
    server.wait_until_idle();
}

/// The built-in model with a template of this name.
fn with_template(name: &str, template: &str) -> Running {
    let engine = changed(|writer| {
        writer.set(name, template).expect("a text");
        let others = EncodedValue::strings(["rerank"]);
        writer
            .set("tokenizer.chat_templates", others)
            .expect("names");
    });
    serve_models(vec![Served::new("changed", engine)], |_| {})
}

#[test]
fn a_template_of_its_own_takes_no_instruction() {
    let template = "{query} {document}<|im_end|>";
    let server = with_template("tokenizer.chat_template.rerank", template);
    let mut body = json!({ "query": "What is ZSE?", "documents": ["A program."] });
    let answer = server.post("/v1/rerank", &body).json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    body["instruction"] = "Find definitions.".into();
    let error = server.post("/v1/rerank", &body).error(400);
    assert_eq!(error["param"], "instruction");
}

#[test]
fn templates_may_refuse_the_system_message_but_not_the_question() {
    let body = json!({ "query": "What is ZSE?", "documents": ["A program."] });
    let refuse = "{{ raise_exception('no system') }}";
    let template = format!(
        "{{% if messages[0].role == 'system' %}}{refuse}{{% endif %}}{{{{ messages[0].content }}}}"
    );
    let server = with_template("tokenizer.chat_template", &template);
    let answer = server.post("/v1/rerank", &body).json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);

    let server = with_template("tokenizer.chat_template", refuse);
    let error = server.post("/v1/rerank", &body).error(400);
    assert_eq!(error["param"], "model");
}

#[test]
fn what_cannot_be_ranked_is_refused_by_name() {
    let server = serve(|_| {});
    for (more, param) in [
        (json!({ "documents": [] }), "documents"),
        (json!({ "documents": vec!["a"; 2049] }), "documents"),
        (json!({ "documents": ["a", 1] }), "documents[1]"),
        (
            json!({ "documents": [{ "text": "a", "title": "b" }] }),
            "documents[0]",
        ),
        (
            json!({ "documents": ["a".repeat(100_000)] }),
            "documents[0]",
        ),
        (json!({ "query": ["a"] }), "query"),
        (json!({ "top_n": 0 }), "top_n"),
        (json!({ "top_n": -1 }), "top_n"),
        (json!({ "max_tokens_per_doc": 10 }), "max_tokens_per_doc"),
        (json!({ "rank_fields": ["title"] }), "rank_fields"),
        (json!({ "temperature": 1 }), "temperature"),
    ] {
        let mut body = json!({ "query": "a", "documents": ["a"] });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let error = server.post("/v1/rerank", &body).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
}
