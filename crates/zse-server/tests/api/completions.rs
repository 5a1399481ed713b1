//! `/v1/completions`.

use serde_json::{Value, json};

use crate::common::serve;

const PATH: &str = "/v1/completions";

#[test]
fn texts_are_continued() {
    let server = serve(|_| {});
    let body = json!({ "prompt": "Once upon a time", "temperature": 0, "max_tokens": 8 });
    let answer = server.post(PATH, &body).json();
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["index"], &choice["finish_reason"]),
        (&json!(0), &json!("length"))
    );
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    let text = choice["text"].as_str().unwrap();

    let ids = server
        .post("/tokenize", &json!({ "prompt": "Once upon a time" }))
        .json();
    let tokens = json!({ "prompt": ids["tokens"], "temperature": 0, "max_tokens": 8 });
    assert_eq!(
        server.post(PATH, &tokens).json()["choices"][0]["text"],
        text
    );

    let mut echo = body.clone();
    echo["echo"] = true.into();
    let echoed = server.post(PATH, &echo).json();
    assert_eq!(
        echoed["choices"][0]["text"],
        format!("Once upon a time{text}")
    );

    let mut streamed = body;
    streamed["stream"] = true.into();
    let events = server.post(PATH, &streamed).events();
    let pieces = events
        .iter()
        .filter_map(|e| e["choices"][0]["text"].as_str());
    assert_eq!(pieces.collect::<String>(), text);
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );
}

#[test]
fn several_prompts_give_choices_in_order() {
    let server = serve(|_| {});
    let alone = |prompt: &str, n| {
        let body = json!({ "prompt": prompt, "n": n, "seed": 3, "max_tokens": 6 });
        server.post(PATH, &body).json()["choices"].clone()
    };
    let body = json!({ "prompt": ["The fox", "The owl"], "n": 2, "seed": 3, "max_tokens": 6 });
    let answer = server.post(PATH, &body).json();
    let (fox, owl) = (alone("The fox", 2), alone("The owl", 2));
    for (i, expected) in [&fox[0], &fox[1], &owl[0], &owl[1]].into_iter().enumerate() {
        assert_eq!(answer["choices"][i]["text"], expected["text"]);
        assert_eq!(answer["choices"][i]["index"], i);
    }
    assert_eq!(answer["usage"]["completion_tokens"], 24);
}

#[test]
fn prompts_beyond_the_places_there_are_wait_their_turn() {
    let server = serve(|_| {});
    let prompts: Vec<String> = (0..40).map(|i| format!("Number {i}")).collect();
    let body = json!({ "prompt": prompts, "max_tokens": 3, "ignore_eos": true, "stream": true });
    let events = server.post(PATH, &body).events();
    for index in 0..40 {
        let own = |e: &&Value| e["choices"][0]["index"] == index;
        let last = events.iter().rfind(own).unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "length");
    }
    server.wait_until_idle();
    assert_eq!(server.metric("zse_generated_tokens_total"), 120.0);
}

#[test]
fn prompts_are_scored_by_echo() {
    let server = serve(|_| {});
    let body =
        json!({ "prompt": "Once upon a time", "echo": true, "logprobs": 0, "max_tokens": 0 });
    let answer = server.post(PATH, &body).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "Once upon a time");
    let list = |name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    assert!(list("token_logprobs")[0].is_null());
    let known = &list("token_logprobs")[1..];
    assert!(!known.is_empty() && known.iter().all(|l| l.as_f64().unwrap() < 0.0));
    let text: String = list("tokens").iter().filter_map(Value::as_str).collect();
    assert_eq!(text, "Once upon a time");
    let offsets: Vec<u64> = list("text_offset")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    assert_eq!(offsets[0], 0);
    assert!(offsets.is_sorted());
    let refused = json!({ "prompt": "a", "echo": true, "logprobs": 1 });
    assert_eq!(server.post(PATH, &refused).error(400)["param"], "logprobs");
}

#[test]
fn alternatives_are_given_by_text() {
    let server = serve(|_| {});
    let body = json!({ "prompt": "Once upon a", "logprobs": 3, "max_tokens": 2, "temperature": 0 });
    let answer = server.post(PATH, &body).json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 3);
    let first = logprobs["tokens"][0].as_str().unwrap();
    assert_eq!(
        logprobs["top_logprobs"][0][first],
        logprobs["token_logprobs"][0]
    );
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let server = serve(|_| {});
    for (more, param) in [
        (json!({ "suffix": "end" }), "suffix"),
        (json!({ "best_of": 4 }), "best_of"),
        (json!({ "logprobs": 100 }), "logprobs"),
        (json!({ "prompt": [] }), "n"),
        (json!({ "prompt": [1.5] }), "prompt"),
        (json!({ "prompt": [4_000_000_000_u32] }), "prompt"),
        (json!({ "prompt": "a", "n": 1_000_000 }), "n"),
        (json!({ "messages": [] }), "messages"),
    ] {
        let mut body = json!({ "prompt": "a" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let error = server.post(PATH, &body).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
}
