//! `/v1/completions` with `echo` and `logprobs`: how likely the tokens of a prompt are.

use serde_json::{Value, json};
use zse::Engine;
use zse_server::Served;

use crate::common::{Running, load, serve, serve_models};

const PATH: &str = "/v1/completions";
const TEXT: &str = "Once upon a time there was a fox. Grüße, ❤️!";

/// A server of the built-in model, and its engine.
fn served() -> (Engine, Running) {
    let engine = load("builtin");
    let server = serve_models(vec![Served::new("builtin", engine.clone())], |_| {});
    (engine, server)
}

fn list<'a>(choice: &'a Value, name: &str) -> &'a [Value] {
    choice["logprobs"][name].as_array().expect("a list")
}

/// The log-probabilities of all tokens but the first.
fn known(choice: &Value) -> Vec<f32> {
    let values = list(choice, "token_logprobs");
    assert!(values[0].is_null(), "nothing comes before the first");
    let known = values[1..].iter();
    known
        .map(|v| v.as_f64().expect("a number") as f32)
        .collect()
}

/// What lm-evaluation-harness makes of a choice (`local-completions`): the sum of the continuation's
/// log-probabilities, and whether it is what greedy decoding gives. The last token is the drawn one.
fn judged(choice: &Value, context: usize) -> (f64, bool) {
    let logprobs = list(choice, "token_logprobs");
    let top = list(choice, "top_logprobs");
    let judged = context..logprobs.len() - 1;
    let numbers = logprobs[judged.clone()].iter().filter_map(Value::as_f64);
    let best = top[judged].iter().map(|top| {
        let values = top.as_object().expect("tokens").values();
        values.filter_map(Value::as_f64).fold(f64::MIN, f64::max)
    });
    let is_greedy = numbers.clone().zip(best).all(|(own, best)| own == best);
    (numbers.sum(), is_greedy)
}

#[test]
fn prompts_are_scored_as_the_engine_scores_them() {
    let (engine, server) = served();
    let tokens = engine.prompt_tokens(TEXT, true).unwrap();
    let expected = engine.score(tokens.clone(), 1, "").unwrap();
    for top in [0, 1, 5] {
        let body = json!({ "prompt": TEXT, "echo": true, "logprobs": top, "max_tokens": 0 });
        let answer = server.post(PATH, &body).json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["text"], TEXT);
        assert_eq!(choice["finish_reason"], "length");
        assert_eq!(known(choice), expected, "bit by bit, from the cache or not");
        let usage = &answer["usage"];
        assert_eq!(usage["prompt_tokens"], tokens.len());
        assert_eq!(usage["completion_tokens"], 0);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);

        let places = list(choice, "top_logprobs");
        assert!(places[0].is_null());
        let texts = list(choice, "tokens")[1..].iter();
        for ((place, own), text) in places[1..].iter().zip(&expected).zip(texts) {
            let (place, text) = (place.as_object().expect("tokens"), text.as_str().unwrap());
            assert!((1..=top + 1).contains(&place.len()), "{place:?}");
            // Parts of characters look alike: then the most likely of them is there.
            let is_part = text.contains('\u{fffd}');
            let given = place[text].as_f64().map(|given| given as f32);
            assert!(is_part || given == Some(*own), "{text:?}: {place:?}");
        }
        // Every whole token stands where it says.
        let offsets = list(choice, "text_offset");
        assert!(offsets.iter().map(Value::as_u64).is_sorted());
        for (token, offset) in list(choice, "tokens").iter().zip(offsets).skip(1) {
            let token = token.as_str().unwrap();
            let rest = TEXT.chars().skip(offset.as_u64().unwrap() as usize);
            let rest: String = rest.collect();
            let is_part = token.contains('\u{fffd}');
            assert!(is_part || rest.starts_with(token), "{token:?} at {offset}");
        }
    }
}

#[test]
fn an_evaluation_reads_what_it_expects() {
    let (engine, server) = served();
    let context = engine.tokenizer().encode("Once upon a", false, true);
    let mut settings = zse::Generate {
        params: zse::SampleParams::greedy(),
        max_tokens: Some(4),
        ..zse::Generate::default()
    };
    settings.ignore_eos = true;
    let greedy = engine.generate_tokens(context.clone(), &settings).unwrap();
    let greedy: Vec<u32> = greedy
        .complete()
        .unwrap()
        .tokens
        .iter()
        .map(|t| t.id)
        .collect();
    let other = engine.tokenizer().encode(" violin of", false, true);
    let texts = [&greedy, &other].map(|more| [&context[..], more].concat());
    // As its client asks; then with an answer that ends at once.
    let mut body = json!({
        "model": "builtin", "prompt": texts, "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": true,
    });
    let eos = engine
        .tokenizer()
        .eos()
        .expect("a token that ends")
        .to_string();
    for bias in [json!({}), json!({ eos: 100.0 })] {
        body["logit_bias"] = bias;
        let answer = server.post(PATH, &body).json();
        let choices = answer["choices"].as_array().unwrap();
        for (i, (choice, tokens)) in choices.iter().zip(&texts).enumerate() {
            assert_eq!(choice["index"], i);
            for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                assert_eq!(list(choice, name).len(), tokens.len() + 1, "{name}");
            }
            let scores = engine.score(tokens.clone(), context.len(), "").unwrap();
            let sum: f64 = scores.iter().map(|&score| f64::from(score)).sum();
            let (judged, is_greedy) = judged(choice, context.len());
            assert!((judged - sum).abs() < 1e-6, "{judged} is not {sum}");
            assert_eq!(is_greedy, i == 0);
        }
    }
}

#[test]
fn continuations_follow_the_prompt_in_every_choice() {
    let (engine, server) = served();
    let ask = |more: Value| {
        let mut body = json!({
            "prompt": ["The fox", "The owl"], "n": 2, "seed": 7, "max_tokens": 5, "logprobs": 2,
            "ignore_eos": true,
        });
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        server.post(PATH, &body).json()
    };
    for more in [
        json!({}),
        json!({ "best_of": 3 }),
        json!({ "cache_prompt": false }),
    ] {
        let bare = ask(more.clone());
        let mut echo = more;
        echo["echo"] = true.into();
        let echoed = ask(echo);
        assert_eq!(
            echoed["usage"]["completion_tokens"],
            bare["usage"]["completion_tokens"]
        );
        for i in 0..4 {
            let prompt = if i < 2 { "The fox" } else { "The owl" };
            let (choice, alone) = (&echoed["choices"][i], &bare["choices"][i]);
            let text = alone["text"].as_str().unwrap();
            assert_eq!(choice["text"], format!("{prompt}{text}"));
            let tokens = engine.prompt_tokens(prompt, true).unwrap();
            let expected = engine.score(tokens.clone(), 1, "").unwrap();
            assert_eq!(known(choice)[..expected.len()], expected);
            for name in ["tokens", "token_logprobs", "top_logprobs"] {
                assert_eq!(
                    list(choice, name)[tokens.len()..],
                    *list(alone, name),
                    "{name}"
                );
            }
            let first = list(choice, "text_offset")[tokens.len()].as_u64();
            assert_eq!(first, Some(prompt.chars().count() as u64));
        }
    }
}

#[test]
fn what_is_not_to_be_cached_is_not() {
    let (engine, server) = served();
    let prompt = TEXT.repeat(20);
    let ask = |cache: bool| {
        let body = json!({
            "prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 0, "cache_prompt": cache,
        });
        server.post(PATH, &body).json()["choices"].clone()
    };
    let bare = ask(false);
    assert_eq!(engine.metrics().kv_blocks_cached, 0);
    assert_eq!(ask(true), bare);
    assert!(engine.metrics().kv_blocks_cached > 0);
    assert_eq!(ask(true), bare);
}

#[test]
fn a_stream_begins_with_the_prompt() {
    let server = serve(|_| {});
    for max_tokens in [0, 3] {
        let mut body = json!({
            "prompt": ["The fox", "The owl"], "echo": true, "logprobs": 1, "temperature": 0,
            "max_tokens": max_tokens, "ignore_eos": true,
        });
        let whole = server.post(PATH, &body).json();
        body["stream"] = true.into();
        let events = server.post(PATH, &body).events();
        for i in 0..2 {
            let of_choice = |e: &&Value| e["choices"][0]["index"] == i;
            let pieces: Vec<&Value> = events.iter().filter(of_choice).collect();
            let expected = &whole["choices"][i];
            let texts = pieces
                .iter()
                .filter_map(|e| e["choices"][0]["text"].as_str());
            assert_eq!(
                texts.collect::<String>(),
                expected["text"].as_str().unwrap()
            );
            for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                let lists = pieces.iter().map(|e| list(&e["choices"][0], name));
                let all: Vec<Value> = lists.flatten().cloned().collect();
                assert_eq!(all, list(expected, name), "{name}");
            }
            let last = pieces.last().unwrap();
            assert_eq!(last["choices"][0]["finish_reason"], "length");
        }
    }
}

#[test]
fn what_would_be_too_much_is_refused() {
    let server = serve(|_| {});
    let prompt: Vec<Vec<u32>> = vec![vec![300; 2040]; 128];
    let body = json!({
        "prompt": prompt, "echo": true, "logprobs": 20, "max_tokens": 0,
    });
    let error = server.post(PATH, &body).error(400);
    assert_eq!(error["param"], "logprobs", "{error}");
    let entries = json!({ "prompt": "a", "echo": true, "n_probs": 1 });
    assert_eq!(server.post(PATH, &entries).error(400)["param"], "n_probs");
}
