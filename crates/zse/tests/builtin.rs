//! The SDK with the built-in model, as a server uses it.
#![cfg(feature = "builtin")]

use serde_json::{Value, json};
use zse::{
    ChatRequest, Engine, Generate, Grammar, LoadOptions, Message, ModelSource, Role, SampleParams,
};

fn engine(sequences: usize) -> Engine {
    let options = LoadOptions {
        context: Some(512),
        sequences,
        ..LoadOptions::default()
    };
    Engine::load(&ModelSource::Builtin, &options).unwrap()
}

fn greedy(max_tokens: usize) -> Generate {
    Generate {
        params: SampleParams::greedy(),
        max_tokens: Some(max_tokens),
        ..Generate::default()
    }
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message::new(Role::User, text)])
}

#[test]
fn a_conversation_finds_its_earlier_turns() {
    let engine = engine(2);
    let question = "How do I measure the speed of a model with ZSE? ".repeat(6);
    let mut request = ask(&question);
    let answer = engine
        .chat(&request, &greedy(40))
        .unwrap()
        .complete()
        .unwrap();
    let again = engine
        .chat(&request, &greedy(40))
        .unwrap()
        .complete()
        .unwrap();
    assert_eq!(answer.text, again.text);
    assert_eq!(answer.finished.usage.shared_tokens, 0);
    assert!(again.finished.usage.shared_tokens >= 32);

    request
        .messages
        .push(Message::new(Role::Assistant, &*answer.text));
    request
        .messages
        .push(Message::new(Role::User, "And how do I quantize one?"));
    let warm = engine
        .chat(&request, &greedy(40))
        .unwrap()
        .complete()
        .unwrap();
    let cold = Generate {
        cache: false,
        ..greedy(40)
    };
    let cold = engine.chat(&request, &cold).unwrap().complete().unwrap();
    assert_eq!(warm.text, cold.text);
    let usage = warm.finished.usage;
    // But for the answer's last block and for what its text may be cut into differently.
    let before = answer.finished.usage.prompt_tokens;
    assert!(usage.shared_tokens > before - 32, "{usage:?}");
    assert!(usage.shared_tokens < usage.prompt_tokens);
    assert_eq!(cold.finished.usage.shared_tokens, 0);
    let metrics = engine.metrics();
    assert!(metrics.prefix_found_tokens >= usage.shared_tokens as u64);
    assert_eq!(metrics.kv_usage(), 0.0);
}

#[test]
fn an_answer_has_the_form_of_its_schema() {
    let engine = engine(2);
    let schema = json!({
        "type": "object",
        "properties": {
            "city": { "type": "string", "maxLength": 20 },
            "days": { "type": "integer", "minimum": 1, "maximum": 9 },
            "unit": { "enum": ["celsius", "fahrenheit"] },
        },
        "required": ["city", "days", "unit"],
        "additionalProperties": false,
    });
    for seed in 0..4 {
        let settings = Generate {
            params: SampleParams {
                seed,
                temperature: 1.0,
                ..SampleParams::default()
            },
            max_tokens: Some(200),
            constraint: Some(Grammar::JsonSchema(schema.clone()).into()),
            ..Generate::default()
        };
        let request = ask("What is the weather in Paris for the next three days?");
        let answer = engine
            .chat(&request, &settings)
            .unwrap()
            .complete()
            .unwrap();
        assert_eq!(answer.finished.reason.name(), "stop");
        let value: Value = serde_json::from_str(&answer.text).expect(&answer.text);
        assert!((1..=9).contains(&value["days"].as_i64().unwrap()));
        assert!(["celsius", "fahrenheit"].contains(&value["unit"].as_str().unwrap()));
        assert!(value["city"].as_str().unwrap().chars().count() <= 20);
    }
}

#[test]
fn what_is_no_constraint_is_a_mistake_of_the_request() {
    let settings = Generate {
        constraint: Some(Grammar::Regex("(".into()).into()),
        ..greedy(5)
    };
    let error = engine(1).generate("Hello", &settings).unwrap_err();
    assert!(error.is_constraint(), "{error}");
    assert_eq!(error.retry_after(), None);
}
