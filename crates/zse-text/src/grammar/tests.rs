//! Grammars over a small vocabulary.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{AnswerFormat, AnswerPiece, Family};
use crate::{SpecialIds, StringTable, TokenKind, TokenizerModel, Vocab};

pub(super) const END: u32 = 0;
pub(super) const CALL: u32 = 2;

fn table(strings: &[String]) -> StringTable {
    StringTable::new("test", strings.iter().map(String::as_bytes)).unwrap()
}

/// Two ends, a mark, bytes, and some words.
pub(super) fn tokenizer() -> Tokenizer {
    tokenizer_with(&[], TokenKind::Control)
}

/// The same, with more marks.
pub(super) fn tokenizer_with(marks: &[&str], kind: TokenKind) -> Tokenizer {
    let mut tokens: Vec<String> = ["</s>", "<|eot|>", "<call>"].map(String::from).to_vec();
    let mut kinds = vec![TokenKind::Control; tokens.len()];
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    kinds.resize(tokens.len(), TokenKind::Byte);
    let words = [
        "l>\n",
        "l> ",
        "<think>",
        "true",
        "false",
        "\"name\"",
        "\":",
        "yes",
        "no",
        "ye",
        "12",
        "{\"",
        "</think>\n",
    ];
    tokens.extend(words.map(String::from));
    kinds.resize(tokens.len(), TokenKind::Normal);
    tokens.extend(marks.iter().map(|&mark| mark.to_owned()));
    kinds.resize(tokens.len(), kind);
    Tokenizer::new(Vocab {
        model: TokenizerModel::SentencePiece,
        pre: String::new(),
        scores: Vec::new(),
        merges: table(&[]),
        special: SpecialIds {
            eos: Some(END),
            eot: Some(1),
            ..SpecialIds::default()
        },
        flags: Default::default(),
        unigram: Default::default(),
        name: String::new(),
        tokens: table(&tokens),
        kinds,
    })
    .unwrap()
}

pub(super) fn allowed(mask: &[u64]) -> Vec<u32> {
    let bits = (0..mask.len() as u32 * 64).filter(|i| mask[*i as usize / 64] >> (i % 64) & 1 == 1);
    bits.collect()
}

/// A text that the grammar allows, drawn by a simple generator; at most 400 tokens of it.
pub(super) fn draw(
    grammars: &Grammars,
    constraint: &Constraint,
    seed: u64,
) -> Result<String, GrammarError> {
    let mut state = grammars.compile(constraint)?;
    let (mut text, mut random) = (Vec::new(), seed);
    for _ in 0..400 {
        if state.is_over() {
            break;
        }
        let tokens = allowed(&state.mask()?);
        random = random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(seed | 1);
        // Rather an end or a word than anything else.
        let last = *tokens.last().unwrap();
        let token = match tokens[0] {
            end @ (0 | 1) => end,
            _ if last >= 259 && random >> 62 > 0 => last,
            _ => tokens[(random >> 33) as usize % tokens.len()],
        };
        if token < CALL {
            break;
        }
        state.accept(token)?;
        text.extend_from_slice(&grammars.tokenizer.token_bytes(token));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn grammars() -> Grammars {
    Grammars::new(&tokenizer()).unwrap()
}

#[test]
fn a_text_has_the_form_that_is_asked_for() {
    let grammars = grammars();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "enum": ["ada", "bob"] },
            "age": { "type": "integer", "minimum": 3, "maximum": 40 },
            "ok": { "type": "boolean" },
        },
        "required": ["name", "age", "ok"],
        "additionalProperties": false,
    });
    let tagged = Grammar::Tagged {
        open: "<call>".into(),
        schema: schema.clone(),
        close: "</call>".into(),
        repeat: false,
    };
    let check_json = |text: &str| {
        let value: Value = serde_json::from_str(text).expect(text);
        assert!(["ada", "bob"].contains(&value["name"].as_str().unwrap()));
        assert!((3..=40).contains(&value["age"].as_i64().unwrap()));
        assert!(value["ok"].is_boolean());
        assert_eq!(value.as_object().unwrap().len(), 3);
    };
    for seed in 1..40 {
        let draw = |grammar: Grammar| draw(&grammars, &grammar.into(), seed).unwrap();
        check_json(&draw(Grammar::JsonSchema(schema.clone())));
        let text = draw(tagged.clone());
        let inner = text
            .strip_prefix("<call>")
            .and_then(|t| t.strip_suffix("</call>"));
        check_json(inner.expect(&text));
        let text = draw(Grammar::Regex("[a-c]{2,5}-(yes|no)".into()));
        let (letters, word) = text.split_once('-').expect(&text);
        assert!((2..=5).contains(&letters.len()) && ["yes", "no"].contains(&word));
        let text = draw(Grammar::Lark(
            "start: \"a\" b+ \"c\"\nb: \"x\" | \"(\" b \")\"".into(),
        ));
        assert!(text.starts_with('a') && text.len() > 2);
        let text = draw(Grammar::Choice(vec!["yes".into(), "no \"more\"\n".into()]));
        assert!(["yes", "no \"more\"\n"].contains(&&*text), "{text:?}");
    }
}

/// The functions of the tests of calls.
pub(super) fn functions() -> Vec<(String, Value)> {
    let unit = json!({ "enum": ["C", "F"] });
    let weather = json!({
        "type": "object",
        "properties": {
            "unit": unit, "days": { "type": "integer", "minimum": 0, "maximum": 99 }, "rain": { "type": "boolean" },
            "hours": { "type": "array", "items": { "enum": [6, 18] } },
        },
        "required": ["unit", "rain"],
        "additionalProperties": false,
    });
    let write = json!({
        "type": "object",
        "properties": {
            "text": { "type": "string" },
            "any": {},
            "more": { "type": "object", "properties": { "x": { "type": ["number", "null"] } } },
        },
        "required": ["text"],
    });
    vec![
        ("weather".into(), weather),
        ("write".into(), write),
        ("now".into(), json!({})),
    ]
}

/// The calls that a family's reader finds, and nothing else.
fn calls_in(family: Family, text: &str) -> Vec<(String, Value)> {
    let tools: Vec<Value> = functions().into_iter().map(as_tool).collect();
    let mut reader = AnswerFormat::of_family(family)
        .reader(true, false)
        .with_tools(&tools);
    let mut calls: Vec<(String, String)> = Vec::new();
    for piece in reader.push(text).into_iter().chain(reader.finish()) {
        match piece {
            AnswerPiece::Call(name) => calls.push((name, String::new())),
            AnswerPiece::Arguments(more) => calls.last_mut().expect("a call").1 += &more,
            other => panic!("{family:?}: {other:?} in {text}"),
        }
    }
    let json = |text: String| serde_json::from_str(&text).expect(&text);
    calls
        .into_iter()
        .map(|(name, text)| (name, json(text)))
        .collect()
}

fn as_tool((name, parameters): (String, Value)) -> Value {
    json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
}

#[test]
fn calls_that_are_required_are_read_as_what_they_must_be() {
    let grammars = grammars();
    let functions = &functions()[..1];
    for family in Family::ALL {
        let grammar = AnswerFormat::of_family(family).calls(functions, false);
        let mut sizes = BTreeSet::new();
        for seed in 1..30 {
            let text = draw(&grammars, &grammar.clone().into(), seed).unwrap();
            let calls = calls_in(family, &text);
            let [(name, arguments)] = &calls[..] else {
                panic!("{family:?}: {text}")
            };
            assert_eq!(name, "weather");
            assert!(
                ["C", "F"].contains(&arguments["unit"].as_str().expect(&text)),
                "{text}"
            );
            assert!(arguments["rain"].is_boolean(), "{text}");
            let days = &arguments["days"];
            assert!(days.is_null() || days.is_i64() || days.is_u64(), "{text}");
            for hour in arguments["hours"].as_array().into_iter().flatten() {
                assert!([json!(6), json!(18)].contains(hour), "{text}");
            }
            sizes.insert(arguments.as_object().map(|all| all.len()));
        }
        assert!(
            sizes.len() > 1,
            "{family:?}: optional arguments come and stay away"
        );
    }
}

/// Whether a text of bytes is one that the grammar allows.
fn allows(grammars: &Grammars, grammar: &Grammar, text: &str) -> bool {
    let mut state = grammars.compile(&grammar.clone().into()).unwrap();
    for byte in text.bytes() {
        let token = CALL + 1 + u32::from(byte);
        if state.is_over() || !allowed(&state.mask().unwrap()).contains(&token) {
            return false;
        }
        state.accept(token).unwrap();
    }
    state.is_over() || allowed(&state.mask().unwrap()).contains(&END)
}

#[test]
fn each_familys_calls_are_held_to_their_notation() {
    use Family::{FunctionGemma, Gemma, LlamaPython, QwenCoder};
    let grammars = grammars();
    let arguments =
        json!({ "text": "a <b> \n{\"", "any": [1, { "k": true }], "more": { "x": null } });
    for (family, text) in [
        (
            Gemma,
            "<|tool_call>call:write{text:<|\"|>a <b> \n{\"<|\"|>,any:[1,{k:true}],more:{x:null}}<tool_call|>",
        ),
        (
            FunctionGemma,
            "<start_function_call>call:write{text:<escape>a <b> \n{\"<escape>,any:[1,{k:true}],more:{x:null}}<end_function_call>",
        ),
        (
            LlamaPython,
            r#"[write(text="a <b> \n{\"", any=[1, {"k": True}], more={"x": None})]"#,
        ),
        (
            QwenCoder,
            "<tool_call>\n<function=write>\n<parameter=text>\na <b> \n{\"\n</parameter>\n<parameter=any>\n[1, {\"k\": true}]\n</parameter>\n<parameter=more>\n{\"x\": null}\n</parameter>\n</function>\n</tool_call>",
        ),
    ] {
        let format = AnswerFormat::of_family(family);
        let grammar = format.calls(&functions(), false);
        assert!(allows(&grammars, &grammar, text), "{family:?}: {text}");
        let expected = vec![("write".to_owned(), arguments.clone())];
        assert_eq!(calls_in(family, text), expected);
        for wrong in [
            text.replace("write", "erase"),
            text.replace("null", "\"\"").replace("None", "\"\""),
            text.replace("text", "test"),
            format!("{text}{text}"),
            format!(" {text}"),
        ] {
            assert!(!allows(&grammars, &grammar, &wrong), "{family:?}: {wrong}");
        }
    }
}

#[test]
fn several_calls_may_be_required() {
    let grammars = grammars();
    for (family, text) in [
        (
            Family::Gemma,
            "<|tool_call>call:now{}<tool_call|><|tool_call>call:now{a:1}<tool_call|>",
        ),
        (Family::LlamaPython, "[now(), now(a=1)]"),
        (
            Family::QwenCoder,
            "<tool_call>\n<function=now>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
        ),
    ] {
        let several = AnswerFormat::of_family(family).calls(&functions(), true);
        assert!(allows(&grammars, &several, text), "{text}");
        let one = AnswerFormat::of_family(family).calls(&functions(), false);
        assert!(!allows(&grammars, &one, text), "{text}");
        let now = |arguments| ("now".to_owned(), arguments);
        assert_eq!(
            calls_in(family, text),
            [now(json!({})), now(json!({ "a": 1 }))]
        );
    }
}

/// The only call that a grammar of `family` for a function of these arguments allows in `text`.
fn only_call(family: Family, parameters: &Value, text: &str) -> Option<Value> {
    let functions = [("f".to_owned(), parameters.clone())];
    let format = AnswerFormat::of_family(family);
    if !allows(&grammars(), &format.calls(&functions, false), text) {
        return None;
    }
    let tools = functions.map(as_tool);
    let mut reader = format.reader(true, false).with_tools(&tools);
    let pieces = reader.push(text).into_iter().chain(reader.finish());
    let arguments = pieces.map(|piece| match piece {
        AnswerPiece::Call(_) => String::new(),
        AnswerPiece::Arguments(more) => more,
        other => panic!("{family:?}: {other:?} in {text}"),
    });
    let arguments: String = arguments.collect();
    Some(serde_json::from_str(&arguments).expect(&arguments))
}

#[test]
fn an_argument_between_tags_ends_where_its_reader_ends_it() {
    let parameters = json!({
        "properties": {
            "a": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
            "c": { "$ref": "#/$defs/color" },
            "p": { "anyOf": [{ "$ref": "#/$defs/point" }, { "type": "null" }] },
        },
        "$defs": {
            "color": { "enum": ["red", "7"] },
            "point": {
                "type": "object",
                "properties": { "x": { "type": "integer" } },
                "required": ["x"],
                "additionalProperties": false,
            },
        },
    });
    let call = |arguments: &str| {
        let text = format!("<tool_call>\n<function=f>\n{arguments}</function>\n</tool_call>");
        only_call(Family::QwenCoder, &parameters, &text)
    };
    for (arguments, value) in [
        (
            "<parameter=a>\n12\n\n</parameter>\n<parameter=c>\n7\n</parameter>\n",
            json!({ "a": "12\n", "c": "7" }),
        ),
        ("<parameter=a>\na</parameter>\n", json!({ "a": "a" })),
        ("<parameter=a>\nnull\n</parameter>\n", json!({ "a": null })),
        (
            "<parameter=p>\n{\"x\": 1}\n</parameter>\n",
            json!({ "p": { "x": 1 } }),
        ),
    ] {
        assert_eq!(call(arguments), Some(value), "{arguments}");
    }
    for wrong in [
        "<parameter=a>\na </parameter> b\n</parameter>\n",
        "<parameter=c>\n8\n</parameter>\n",
        "<parameter=p>\n{\"x\": \"\"}\n</parameter>\n",
    ] {
        assert_eq!(call(wrong), None, "{wrong}");
    }
}

#[test]
fn names_are_written_as_they_are_read_or_refused() {
    let named = |name: &str| json!({ "properties": { name: { "type": "integer" } } });
    for name in ["größe", "$filter", "user id"] {
        for (family, text) in [
            (Family::LlamaPython, "[f(NAME=1)]"),
            (Family::Gemma, "<|tool_call>call:f{NAME:1}<tool_call|>"),
            (
                Family::QwenCoder,
                "<tool_call>\n<function=f>\n<parameter=NAME>\n1\n</parameter>\n</function>\n</tool_call>",
            ),
        ] {
            let found = only_call(family, &named(name), &text.replace("NAME", name));
            assert_eq!(found, Some(json!({ name: 1 })), "{family:?}: {name}");
        }
    }
    let nested = json!({ "properties": { "o": { "type": "object", "properties": {
        "a\"b\\": { "type": "integer" },
    }}}});
    let text = r#"[f(o={"a\"b\\": 1})]"#;
    let found = only_call(Family::LlamaPython, &nested, text);
    assert_eq!(found, Some(json!({ "o": { "a\"b\\": 1 } })));
    let grammars = grammars();
    for (family, names) in [
        (
            Family::LlamaPython,
            &["", " a", "a=b", "a'", "a(", "a,b"][..],
        ),
        (Family::Gemma, &["", "a ", "a:b", "}"][..]),
        (Family::QwenCoder, &["", " a", "a>b"][..]),
    ] {
        for name in names {
            let functions = [("f".to_owned(), named(name))];
            let grammar = AnswerFormat::of_family(family).calls(&functions, false);
            let error = grammars.compile(&grammar.into());
            let error = error.expect_err(name).to_string();
            assert!(error.contains("parameter name"), "{family:?}: {error}");
        }
    }
}

#[test]
fn rules_that_are_the_same_are_there_once() {
    let grammars = grammars();
    let many = |count: usize, text: usize| -> Vec<(String, Value)> {
        let description = "x".repeat(text);
        let parameter = json!({ "type": "array", "items": {}, "description": description });
        let functions =
            (0..count).map(|i| (format!("f{i}"), json!({ "properties": { "a": parameter } })));
        functions.collect()
    };
    let format = AnswerFormat::of_family(Family::LlamaPython);
    let grammar = format.calls(&many(300, 0), false);
    assert!(allows(&grammars, &grammar, "[f299(a=[1, None])]"));
    let too_long = format.calls(&many(300, 300), false);
    let error = grammars.compile(&too_long.into()).unwrap_err();
    assert!(matches!(
        error,
        GrammarError::TooLarge {
            what: "the size in bytes",
            ..
        }
    ));
}

#[test]
fn a_special_token_is_no_text() {
    let grammars = grammars();
    let text = Grammar::Regex("<call>".into());
    let mut state = grammars.compile(&text.into()).unwrap();
    assert!(!allowed(&state.mask().unwrap()).contains(&CALL));
    let tagged = Grammar::Tagged {
        open: "<call>".into(),
        schema: json!({ "type": "boolean" }),
        close: String::new(),
        repeat: true,
    };
    let mut state = grammars.compile(&tagged.into()).unwrap();
    assert_eq!(allowed(&state.mask().unwrap()), [CALL]);
}

#[test]
fn the_end_comes_when_the_text_is_complete_and_not_before() {
    let grammars = grammars();
    let grammar = Grammar::Regex("ab?".into());
    let mut state = grammars.compile(&grammar.into()).unwrap();
    assert_eq!(allowed(&state.mask().unwrap()), [3 + u32::from(b'a')]);
    state.accept(3 + u32::from(b'a')).unwrap();
    assert_eq!(
        allowed(&state.mask().unwrap()),
        [END, 1, 3 + u32::from(b'b')]
    );
    assert!(!state.is_over());
    let mut other = state.clone();
    other.accept(3 + u32::from(b'b')).unwrap();
    assert!(other.is_over());
    assert_eq!(allowed(&other.mask().unwrap()), [END, 1]);
    assert!(!state.is_over(), "a copy goes its own way");
    assert!(matches!(state.accept(3), Err(GrammarError::Stuck(_))));
}

#[test]
fn what_comes_before_the_marker_is_free() {
    let grammars = grammars();
    let constraint = Constraint {
        after: Some("</think>".into()),
        ..Grammar::Choice(vec!["yes".into()]).into()
    };
    let mut state = grammars.compile(&constraint).unwrap();
    let thought = tokenizer().encode("no </thin </think", false, false);
    for token in thought {
        let mask = allowed(&state.mask().unwrap());
        assert!(mask.contains(&token) && !mask.contains(&END) && !mask.contains(&1));
        assert_eq!(mask.len(), grammars.tokenizer.vocab_size() - 2);
        state.accept(token).unwrap();
    }
    state.accept(3 + u32::from(b'>')).unwrap();
    let yes = state.mask().unwrap();
    assert_eq!(allowed(&yes).first(), Some(&(3 + u32::from(b'y'))));
    let mut state = grammars.compile(&constraint).unwrap();
    state
        .accept(grammars.tokenizer.token_id("</think>\n").unwrap())
        .unwrap();
    assert_eq!(state.mask().unwrap(), yes);
}

#[test]
fn a_vocabulary_without_an_end_cannot_be_constrained() {
    let vocab = |special| Vocab {
        model: TokenizerModel::SentencePiece,
        pre: String::new(),
        scores: Vec::new(),
        merges: table(&[]),
        special,
        flags: Default::default(),
        unigram: Default::default(),
        name: String::new(),
        tokens: table(&["a", "b"].map(String::from)),
        kinds: Vec::new(),
    };
    let tokenizer = Tokenizer::new(vocab(SpecialIds::default())).unwrap();
    let error = Grammars::new(&tokenizer).unwrap_err();
    assert!(matches!(error, GrammarError::Vocabulary(_)));
}
