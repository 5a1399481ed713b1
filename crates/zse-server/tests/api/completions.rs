//! `/v1/completions`.

use serde_json::{Value, json};

use zse_server::Served;

use crate::common::{changed, serve, serve_models};

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
fn the_best_of_several_are_given() {
    let server = serve(|_| {});
    let ask = |n, best_of| {
        let body = json!({
            "prompt": ["The fox", "The owl"], "n": n, "best_of": best_of, "seed": 5,
            "max_tokens": 8, "logprobs": 0,
        });
        server.post(PATH, &body).json()
    };
    let all = ask(4, 4);
    let best = ask(2, 4);
    assert_eq!(best["usage"], all["usage"]);
    let mean = |choice: &Value| {
        let list = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        let sum: f64 = list.iter().filter_map(Value::as_f64).sum();
        sum / list.len() as f64
    };
    let choices = all["choices"].as_array().unwrap();
    for (prompt, made) in choices.chunks(4).enumerate() {
        let mut made = made.to_vec();
        made.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        for i in 0..2 {
            let given = &best["choices"][2 * prompt + i];
            assert_eq!(given["text"], made[i]["text"]);
            assert_eq!(given["index"], 2 * prompt + i);
        }
    }
    assert_eq!(best["choices"].as_array().unwrap().len(), 4);
}

#[test]
fn n_probs_gives_entries_as_llama_server_does() {
    let server = serve(|_| {});
    let mut body = json!({ "prompt": "Once upon a", "n_probs": 3, "max_tokens": 2 });
    body["temperature"] = 0.into();
    let answer = server.post(PATH, &body).json();
    let content = &answer["choices"][0]["logprobs"]["content"];
    assert_eq!(content.as_array().unwrap().len(), 2);
    let top = content[0]["top_logprobs"].as_array().unwrap();
    assert_eq!((top.len(), &top[0]["id"]), (3, &content[0]["id"]));
    assert_eq!(top[0]["logprob"], content[0]["logprob"]);

    body["stream"] = true.into();
    let events = server.post(PATH, &body).events();
    let pieces = events
        .iter()
        .filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(&Value::from_iter(pieces.flatten().cloned()), content);
}

#[test]
fn what_stands_between_two_texts_is_asked_for_with_the_models_tokens() {
    let engine = changed(|writer| {
        for (name, id) in [("fim_pre", 5_u32), ("suffix", 6), ("middle", 7)] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            writer.set(&key, id).unwrap();
        }
    });
    let server = serve_models(vec![Served::new("filler", engine)], |_| {});
    let tokens = |text: &str| {
        let body = json!({ "content": text, "parse_special": false });
        server.post("/tokenize", &body).json()["tokens"].clone()
    };
    let (before, after) = (tokens("def f(<|im_end|>"), tokens(")\n"));
    let around = [json!(5), before.clone(), json!(6), after, json!(7)];
    let flat = around.into_iter().flat_map(|part| match part {
        Value::Array(list) => list,
        one => vec![one],
    });
    let more = json!({ "temperature": 0, "max_tokens": 6, "ignore_eos": true });
    let ask = |path: &str, mut body: Value| {
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        server.post(path, &body).json()
    };
    let expected = ask(PATH, json!({ "prompt": Value::from_iter(flat) }));
    for prompt in [json!("def f(<|im_end|>"), before] {
        let answer = ask(PATH, json!({ "prompt": prompt, "suffix": ")\n" }));
        assert_eq!(answer["choices"], expected["choices"]);
        assert_eq!(
            answer["usage"]["prompt_tokens"],
            expected["usage"]["prompt_tokens"]
        );
    }
    let options = json!({ "temperature": 0, "num_predict": 6, "repeat_penalty": 1 });
    let body = json!({
        "prompt": "def f(<|im_end|>", "suffix": ")\n", "stream": false, "options": options,
    });
    let answer = server.post("/api/generate", &body).json();
    assert_eq!(
        answer["prompt_eval_count"],
        expected["usage"]["prompt_tokens"]
    );

    let echo = json!({ "prompt": "a", "suffix": "b", "echo": true });
    assert_eq!(server.post(PATH, &echo).error(400)["param"], "echo");
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let server = serve(|_| {});
    for (more, param) in [
        (json!({ "suffix": "end" }), "suffix"),
        (json!({ "best_of": 1, "n": 2 }), "best_of"),
        (json!({ "best_of": 2, "stream": true }), "best_of"),
        (json!({ "best_of": 1_000_000 }), "best_of"),
        (json!({ "n_probs": 100 }), "n_probs"),
        (json!({ "n_probs": 1, "logprobs": 1 }), "n_probs"),
        (json!({ "logprobs": 100 }), "logprobs"),
        (json!({ "prompt": [] }), "prompt"),
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
