//! `/tokenize`, `/detokenize` and `/metrics`.

use serde_json::json;

use crate::common::serve;

#[test]
fn texts_become_tokens_and_back() {
    let server = serve(|_| {});
    let text = "<|im_start|>Grüße, 123!";
    let answer = server.post("/tokenize", &json!({ "content": text })).json();
    assert_eq!(answer["count"], answer["tokens"].as_array().unwrap().len());
    let back = server
        .post("/detokenize", &json!({ "tokens": answer["tokens"] }))
        .json();
    assert_eq!(back["content"], text);

    let plain = json!({ "content": text, "parse_special": false, "with_pieces": true });
    let plain = server.post("/tokenize", &plain).json();
    assert!(plain["count"].as_u64() > answer["count"].as_u64());
    assert!(plain["tokens"][0]["piece"].is_string());

    let error = server
        .post("/detokenize", &json!({ "tokens": [1_000_000] }))
        .error(400);
    assert_eq!(error["param"], "tokens");
    assert_eq!(server.post("/tokenize", &json!({})).status, 400);
}

#[test]
fn metrics_count_what_happened() {
    let server = serve(|_| {});
    let body = json!({ "prompt": "Once upon a time", "max_tokens": 5, "ignore_eos": true });
    server.post("/v1/completions", &body).json();
    server
        .post("/v1/completions", &json!({ "prompt": "a", "x": 1 }))
        .error(400);
    server.wait_until_idle();
    assert_eq!(server.metric("zse_generated_tokens_total"), 5.0);
    assert!(server.metric("zse_prompt_tokens_total") >= 4.0);
    assert_eq!(server.metric("zse_time_to_first_token_seconds_count"), 1.0);
    let answered = |status| {
        let name = "zse_http_requests_total{route=\"/v1/completions\",status=\"";
        server.metric(&format!("{name}{status}\"}}"))
    };
    assert_eq!((answered(200), answered(400)), (1.0, 1.0));
}
