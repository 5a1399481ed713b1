//! Reads any text as an answer, in every family's form: cut in pieces it gives what the whole gives.
//!
//! The first byte says how long the pieces are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zse_text::{AnswerFormat, AnswerPiece, Family};

/// Texts, thoughts and calls, each put together.
fn read(family: Family, pieces: impl Iterator<Item = String>) -> Vec<String> {
    let mut reader = AnswerFormat::of_family(family).reader(true, false);
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
    found
}

fuzz_target!(|input: (u8, &str)| {
    let (size, text) = input;
    let size = usize::from(size % 16) + 1;
    for family in Family::ALL {
        let whole = read(family, [text.to_owned()].into_iter());
        let chars: Vec<char> = text.chars().collect();
        let pieces = chars.chunks(size).map(|piece| piece.iter().collect());
        assert_eq!(read(family, pieces), whole, "{family:?}");
    }
});
