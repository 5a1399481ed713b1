//! Grammars that strangers would hurt with.

use serde_json::{Value, json};

use super::Grammar;
use super::tests::{draw, grammars};

#[test]
fn what_is_malformed_or_too_much_is_refused() {
    let grammars = grammars();
    let nested = |levels| (0..levels).fold(json!(true), |inner, _| json!({ "items": inner }));
    let many = |n: usize| -> Value { (0..n).map(|i| (format!("k{i}"), json!({}))).collect() };
    let parts = |key: &str| -> Vec<Value> {
        let part = |i: usize| json!({ "properties": { format!("p{i}"): { "type": "null" } } });
        (0..12)
            .map(|i| json!({ key: (0..4).map(|j| part(4 * i + j)).collect::<Vec<_>>() }))
            .collect()
    };
    let refused = [
        Grammar::JsonSchema(json!({ "type": "elephant" })),
        Grammar::JsonSchema(json!([1, 2])),
        Grammar::JsonSchema(json!({ "$ref": "https://example.com/schema" })),
        Grammar::JsonSchema(nested(100)),
        Grammar::JsonSchema(json!({ "properties": many(401) })),
        Grammar::JsonSchema(json!({ "enum": ["x".repeat(70_000)] })),
        Grammar::JsonSchema(json!({ "type": "integer", "multipleOf": 1_000_003 })),
        Grammar::JsonSchema(json!({ "type": "number", "multipleOf": 1e-9 })),
        Grammar::JsonSchema(json!({ "allOf": [{ "multipleOf": 997 }, { "multipleOf": 991 }] })),
        Grammar::JsonSchema(json!({ "allOf": parts("anyOf") })),
        Grammar::JsonSchema(json!({ "allOf": parts("oneOf") })),
        Grammar::Regex("(".into()),
        Grammar::Regex("(?=a)b".into()),
        Grammar::Regex("a".repeat(70_000)),
        Grammar::Regex(format!("{}{}", "(".repeat(20_000), ")".repeat(20_000))),
        Grammar::Lark("start: nothing".into()),
        Grammar::Lark(String::new()),
        Grammar::Lark(format!(
            "start: {}\"a\"{}",
            "(".repeat(9000),
            ")".repeat(9000)
        )),
        Grammar::Lark("start: %json { \"multipleOf\": 1000003 }".into()),
        Grammar::Lark(chain("rule", 257)),
        Grammar::Lark(format!(
            "start: a::_\na::_: \"a\" %if {}true",
            "not(".repeat(9000)
        )),
        Grammar::Choice(Vec::new()),
        Grammar::Choice(vec![String::new()]),
        Grammar::Choice(vec!["a".into(); 1001]),
    ];
    for grammar in refused {
        let name: String = format!("{grammar:?}").chars().take(80).collect();
        let error = grammars.compile(&grammar.into());
        let error = error.expect_err(&name).to_string();
        assert!(
            error.len() < 500 && !error.contains("backtrace"),
            "{name}: {error}"
        );
    }
}

/// A grammar of so many rules, each of which refers to the next from within 28 brackets.
fn chain(name: &str, rules: usize) -> String {
    let next = |i| format!("{}{name}{i}{}", "(".repeat(28), ")".repeat(28));
    let inner = (1..rules - 1).map(|i| format!("{name}{i}: {}\n", next(i + 1)));
    format!(
        "start: {name}1\n{}{name}{}: \"a\"",
        inner.collect::<String>(),
        rules - 1
    )
}

#[test]
fn what_is_costly_to_follow_ends_with_an_error() {
    let grammars = grammars();
    for grammar in [
        Grammar::Lark("start: a{1000}\na: b{1000}\nb: \"x\"{1000}".into()),
        Grammar::Regex("((a{1,100}){1,100}){1,100}".into()),
        Grammar::JsonSchema(json!({ "type": "array", "minItems": 1_000_000_000 })),
        Grammar::JsonSchema(json!({ "type": "string", "minLength": 1_000_000_000 })),
        Grammar::Lark("start: a\na: a a | \"x\" |".into()),
        Grammar::Lark(chain("rule", 256)),
        Grammar::Lark(chain("TOKEN", 256)),
    ] {
        // Either is right; neither panics, hangs or eats the memory.
        let _ = draw(&grammars, &grammar.into(), 1);
    }
}
