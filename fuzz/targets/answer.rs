//! Reads any text as an answer, in every family's form: cut in pieces it gives what the whole gives.
//!
//! The first byte says how long the pieces are, whether there are tools, and whether the prompt has
//! begun a thought.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use zse_text::{AnswerFormat, AnswerPiece, Family};

/// What may be called.
fn tools() -> [Value; 1] {
    let parameters = json!({ "properties": { "a": { "type": "string" } } });
    [json!({ "type": "function", "function": { "name": "f", "parameters": parameters } })]
}

/// Texts, thoughts and calls, each put together.
fn read(
    family: Family,
    has_tools: bool,
    in_thought: bool,
    pieces: impl Iterator<Item = String>,
) -> Vec<String> {
    let reader = AnswerFormat::of_family(family).reader(has_tools, in_thought);
    let mut reader = reader.with_tools(&tools());
    let mut all: Vec<AnswerPiece> = Vec::new();
    for piece in pieces {
        all.extend(reader.push(&piece));
    }
    all.extend(reader.finish());
    let mut found = vec![String::new(), String::new()];
    for piece in all {
        match piece {
            AnswerPiece::Text(text) => found[0] += &text,
            AnswerPiece::Thought(text) => found[1] += &text,
            AnswerPiece::Call(name) => found.push(name),
            AnswerPiece::Arguments(text) => *found.last_mut().expect("two at least") += &text,
        }
    }
    assert_eq!(reader.calls(), found.len() - 2);
    assert!(has_tools || reader.calls() == 0);
    found
}

fuzz_target!(|input: (u8, &str)| {
    let (bits, text) = input;
    let size = usize::from(bits % 16) + 1;
    let (has_tools, in_thought) = (bits & 16 == 0, bits & 32 != 0);
    for family in Family::ALL {
        let whole = read(family, has_tools, in_thought, [text.to_owned()].into_iter());
        let chars: Vec<char> = text.chars().collect();
        let pieces = chars.chunks(size).map(|piece| piece.iter().collect());
        assert_eq!(
            read(family, has_tools, in_thought, pieces),
            whole,
            "{family:?}"
        );
    }
});
