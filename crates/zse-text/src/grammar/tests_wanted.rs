//! What answers must be: thoughts before it, and calls within free text.

use serde_json::json;

use super::tests::{CALL, END, allowed, functions, tokenizer, tokenizer_with};
use super::*;
use crate::{AnswerFormat, Family, TokenKind, Wanted};

/// A text as tokens: marks that have one, and bytes.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    const MARKS: [&str; 6] = [
        "<think>",
        "<|channel|>",
        "<|message|>",
        "<|end|>",
        "<|start|>",
        "<|constrain|>",
    ];
    let (mut rest, mut all) = (text.as_bytes(), Vec::new());
    while let Some((&byte, behind)) = rest.split_first() {
        let mark = MARKS.iter().find_map(|mark| {
            let behind = rest.strip_prefix(mark.as_bytes())?;
            Some((tokenizer.token_id(mark)?, behind))
        });
        let (token, behind) = mark.unwrap_or((CALL + 1 + u32::from(byte), behind));
        all.push(token);
        rest = behind;
    }
    all
}

/// What of `text` a constraint allows, and whether the text may end there.
fn follow(grammars: &Grammars, constraint: &Constraint, text: &str) -> (String, bool) {
    let mut state = grammars.compile(constraint).unwrap();
    let mut taken = Vec::new();
    for token in tokens(&grammars.tokenizer, text) {
        if state.is_over() || !allowed(&state.mask().unwrap()).contains(&token) {
            return (String::from_utf8_lossy(&taken).into_owned(), false);
        }
        state.accept(token).unwrap();
        taken.extend_from_slice(&grammars.tokenizer.token_bytes(token));
    }
    let ends = state.is_over() || allowed(&state.mask().unwrap()).contains(&END);
    (String::from_utf8_lossy(&taken).into_owned(), ends)
}

fn allows(grammars: &Grammars, constraint: &Constraint, text: &str) -> bool {
    follow(grammars, constraint, text) == (text.to_owned(), true)
}

/// Calls of the function `weather` in each family's form, as its readers find them.
const CALLS: [(Family, &str); 7] = [
    (
        Family::Hermes,
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"unit\": \"C\", \"rain\": true}}\n</tool_call>",
    ),
    (
        Family::QwenCoder,
        "<tool_call>\n<function=weather>\n<parameter=unit>\nC\n</parameter>\n<parameter=rain>\ntrue\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        Family::QwenCoder,
        "<function=weather>\n<parameter=unit>\nC\n</parameter>\n<parameter=rain>\ntrue\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        Family::Llama,
        "<|python_tag|>{\"name\": \"weather\", \"parameters\": {\"unit\": \"C\", \"rain\": true}}",
    ),
    (
        Family::MistralArgs,
        "[TOOL_CALLS]weather[ARGS]{\"unit\": \"C\", \"rain\": true}",
    ),
    (
        Family::DeepSeek31,
        "<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"unit\": \"C\", \"rain\": true}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        Family::Gemma,
        "<|tool_call>call:weather{unit:<|\"|>C<|\"|>,rain:true}<tool_call|>",
    ),
];

#[test]
fn calls_in_free_text_are_held_to_their_form() {
    let grammars = Grammars::new(&tokenizer()).unwrap();
    for (family, call) in CALLS {
        let format = AnswerFormat::of_family(family);
        let calls = format.calls(&functions()[..1], false);
        let constraint = format.constraint(Wanted::CallsOrText(calls), "");
        for text in ["", "Yes, 1 < 2.", "a <tool", "It rains.\n", "See [TOOL"] {
            assert!(allows(&grammars, &constraint, text), "{family:?}: {text}");
            let text = format!("{text}{call}");
            assert!(allows(&grammars, &constraint, &text), "{family:?}: {text}");
            let choice = text.rfind('C').expect("a choice");
            for wrong in [
                text.replace("weather", "wether"),
                format!("{}K{}", &text[..choice], &text[choice + 1..]),
                text.replace("rain", "snow"),
                format!("{text}{call}"),
                format!("{text} That was it."),
            ] {
                assert!(
                    !allows(&grammars, &constraint, &wrong),
                    "{family:?}: {wrong}"
                );
            }
        }
    }
}

#[test]
fn an_answer_that_begins_as_a_call_is_one_where_calls_have_no_mark() {
    let grammars = Grammars::new(&tokenizer()).unwrap();
    let format = AnswerFormat::of_family(Family::Llama);
    let calls = format.calls(&functions()[..1], false);
    let constraint = format.constraint(Wanted::CallsOrText(calls), "");
    let call = "{\"name\": \"weather\", \"parameters\": {\"unit\": \"C\", \"rain\": true}}";
    for text in ["So be it.", "A list: [1]", "Words {", call] {
        assert!(allows(&grammars, &constraint, text), "{text}");
    }
    for wrong in ["{\"a\": 1}", "[weather(unit=1)]", "  [1]"] {
        assert!(!allows(&grammars, &constraint, wrong), "{wrong}");
    }
}

#[test]
fn no_token_carries_a_text_past_its_mark() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let format = AnswerFormat::of_family(Family::Hermes);
    let calls = format.calls(&functions()[..1], false);
    let constraint = format.constraint(Wanted::CallsOrText(calls), "</think>");
    let mut state = grammars.compile(&constraint).unwrap();
    let [fitting, crossing] = ["l>\n", "l> "].map(|text| tokenizer.token_id(text).unwrap());
    for token in tokens(&tokenizer, "<tool_cal") {
        assert!(allowed(&state.mask().unwrap()).contains(&crossing));
        state.accept(token).unwrap();
    }
    let mask = allowed(&state.mask().unwrap());
    assert!(!mask.contains(&crossing) && mask.contains(&fitting));
    // What the grammar wants behind the mark may come with it.
    state.accept(fitting).unwrap();
    let brace = CALL + 1 + u32::from(b'{');
    let words = tokenizer.token_id("{\"").unwrap();
    assert_eq!(allowed(&state.mask().unwrap()), [brace, words]);
}

#[test]
fn a_model_that_begins_a_thought_itself_may_do_so() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(&tokenizer).unwrap();
    let format = AnswerFormat::of_family(Family::Hermes);
    let yes = Wanted::Form(Grammar::Choice(vec!["yes".into()]));
    let constraint = format.constraint(yes.clone(), "assistant\n");
    for text in ["yes", "<think>no, {\"no</think>yes", "<think></think>yes"] {
        assert!(allows(&grammars, &constraint, text), "{text}");
    }
    for wrong in [
        "no",
        "<think>",
        "<think>yes",
        "y<think></think>yes",
        "<think></think>no",
    ] {
        assert!(!allows(&grammars, &constraint, wrong), "{wrong}");
    }
    // In a thought that the prompt began, and behind one that it ended.
    let begun = format.constraint(yes.clone(), "<think>\n");
    assert!(allows(&grammars, &begun, "no</think>yes"));
    assert!(!allows(&grammars, &begun, "yes"));
    let ended = format.constraint(yes, "<think>\n\n</think>\n\n");
    assert!(allows(&grammars, &ended, "yes"));
    assert!(!allows(&grammars, &ended, "<think></think>yes"));

    let calls = format.calls(&functions()[..1], false);
    let constraint = format.constraint(Wanted::CallsOrText(calls), "");
    let call = CALLS[0].1;
    for text in [
        "<think>a <tool_call>?</think>No.",
        &format!("<think>.</think>So: {call}"),
    ] {
        assert!(allows(&grammars, &constraint, text), "{text}");
    }
    assert!(!allows(
        &grammars,
        &constraint,
        "<think>.</think><tool_call>?"
    ));
}

#[test]
fn an_answer_may_be_calls_or_text_of_a_form() {
    let grammars = Grammars::new(&tokenizer()).unwrap();
    let form = Grammar::JsonSchema(json!({
        "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"],
        "additionalProperties": false,
    }));
    for (family, call) in CALLS {
        let format = AnswerFormat::of_family(family);
        let calls = format.calls(&functions()[..1], false);
        let constraint = format.constraint(Wanted::CallsOrForm(calls, form.clone()), "");
        assert!(
            allows(&grammars, &constraint, "{\"ok\": true}"),
            "{family:?}"
        );
        assert!(!allows(&grammars, &constraint, "It is."), "{family:?}");
        // The grammar has the whole form, without what readers forgive.
        let call = call.trim_start_matches("<|python_tag|>");
        if !call.starts_with("<function=") && !call.starts_with("<｜tool▁call▁begin") {
            assert!(allows(&grammars, &constraint, call), "{family:?}: {call}");
        }
    }
}

#[test]
fn each_message_of_gpt_oss_stands_in_its_channel() {
    // The last two end an answer, and so the one before them does not.
    let marks = [
        "<|channel|>",
        "<|message|>",
        "<|start|>",
        "<|constrain|>",
        "<|end|>",
        "<|call|>",
        "<|return|>",
    ];
    for kind in [TokenKind::Control, TokenKind::UserDefined] {
        let tokenizer = tokenizer_with(&marks, kind);
        let grammars = Grammars::new(&tokenizer).unwrap();
        let format = AnswerFormat::of_family(Family::Harmony);
        let form = || Grammar::Choice(vec!["yes".into()]);
        let calls = || format.calls(&functions()[..1], false);
        let prompt = "<|start|>assistant";
        let thought = "<|channel|>analysis<|message|>Is {it} so?<|end|><|start|>assistant";
        let said = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant";
        let call = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"unit\": \"C\", \"rain\": true}";
        let last = |text: &str| format!("<|channel|>final<|message|>{text}");
        for (wanted, right, wrong) in [
            (
                Wanted::Form(form()),
                vec![last("yes")],
                vec![last("no"), call.to_owned(), "yes".to_owned()],
            ),
            (
                Wanted::Calls(calls()),
                vec![call.to_owned()],
                vec![last("yes"), call.replace("C", "K")],
            ),
            (
                Wanted::CallsOrForm(calls(), form()),
                vec![call.to_owned(), last("yes")],
                vec![last("no")],
            ),
            (
                Wanted::CallsOrText(calls()),
                vec![call.to_owned(), last("no"), last("")],
                vec![call.replace("true", "1"), "no".to_owned()],
            ),
        ] {
            let constraint = format.constraint(wanted.clone(), prompt);
            for before in [
                "",
                thought,
                &format!("{thought}{said}"),
                &format!("{thought}{thought}"),
            ] {
                for right in &right {
                    let text = format!("{before}{right}");
                    assert!(
                        allows(&grammars, &constraint, &text),
                        "{kind:?} {wanted:?}: {text}"
                    );
                }
                for wrong in &wrong {
                    let text = format!("{before}{wrong}");
                    assert!(
                        !allows(&grammars, &constraint, &text),
                        "{kind:?} {wanted:?}: {text}"
                    );
                }
            }
        }
    }
}
