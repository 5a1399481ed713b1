//! Tokenization: the ids of llama.cpp.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use zse_format::Checkpoint;
use zse_model::conformance::Rng;
use zse_text::{TokenKind, Tokenizer};

use crate::llama::{Load, Model};
use crate::section::{Section, Table};
use crate::stem;
use crate::text;

/// Texts that were written for this, one below another.
const WRITTEN: &str = include_str!("../data/texts.txt");
/// The line between them.
const BREAK: &str = "\n%%\n";

/// Where llama.cpp departs from a tokenizer's definition.
struct Departure {
    /// The start of the file's name.
    vocabulary: &'static str,
    why: &'static str,
    /// Which texts it touches; others must give the same ids.
    touches: fn(&str) -> bool,
}

const DEPARTURES: &[Departure] = &[
    // Of 199 generated texts that differed, Hugging Face's tokenizers gave ZSE's ids for 198; the
    // other spells the mark by which GGUF tells the start of a word.
    Departure {
        vocabulary: "ggml-vocab-bert",
        why: "llama.cpp normalizes otherwise than BERT; see below",
        touches: |text| text.chars().any(|c| !c.is_ascii() || c.is_ascii_control()),
    },
    Departure {
        vocabulary: "ggml-vocab-deepseek-llm",
        why: "llama.cpp does not find U+3000 in `[\\u3000-\\u3002]`; see below",
        touches: |text| text.contains('\u{3000}'),
    },
];

/// Compares the tokenizers of `files` on the texts of `data/texts.txt`, the `.inp` files beside
/// the vocabularies, and `generated` random ones.
///
/// # Errors
/// If a file cannot be read by either.
pub(crate) fn section(files: &[PathBuf], generated: usize, seed: u64) -> Result<Section> {
    let mut section = Section::new(
        "Tokens",
        "Texts written for this, the inputs beside the vocabularies, and generated ones (words, \
         scripts, spaces, emoji, unassigned and combining characters, spellings of control tokens \
         in random order), each tokenized with and without special tokens, and with and without \
         taking their spelling for the token.",
    );
    let mut table = Table::new(&["vocabulary", "texts", "tokens", "texts that differ", "note"]);
    for file in files {
        let name = stem(file);
        let outcome = compare(file, generated, seed).with_context(|| name.clone())?;
        let differing = outcome.differing.len();
        let departure = DEPARTURES.iter().find(|d| name.starts_with(d.vocabulary));
        table.row([
            name.clone(),
            outcome.texts.to_string(),
            outcome.tokens.to_string(),
            differing.to_string(),
            departure.map_or("", |d| d.why).to_owned(),
        ]);
        let unexplained: Vec<_> = outcome
            .differing
            .iter()
            .filter(|text| !departure.is_some_and(|d| (d.touches)(text)))
            .collect();
        section.promise(unexplained.is_empty(), || {
            let shown: Vec<_> = unexplained
                .iter()
                .take(3)
                .map(|text| format!("`{text:?}`"))
                .collect();
            format!(
                "{name}: {} texts give other tokens, such as {}",
                unexplained.len(),
                shown.join(", ")
            )
        });
    }
    section.add(&table);
    Ok(section)
}

/// Says that there were no vocabularies in `folder`. In a report that is a broken promise: rows
/// that are just missing would go unnoticed.
pub(crate) fn lacks_vocabularies(section: &mut Section, folder: &Path, is_report: bool) {
    let missing = format!(
        "not compared: no folder of vocabularies at {}",
        folder.display()
    );
    if is_report {
        section.promise(false, || missing);
    } else {
        section.add(missing);
    }
}

#[derive(Default)]
struct Outcome {
    texts: usize,
    tokens: usize,
    /// The shortest first.
    differing: Vec<String>,
}

fn compare(file: &Path, generated: usize, seed: u64) -> Result<Outcome> {
    let theirs = Model::open(file, Load::Vocabulary)?;
    let checkpoint = Checkpoint::open(file)?;
    let ours = Tokenizer::from_metadata(checkpoint.metadata())?;
    let controls: Vec<String> = (0..ours.vocab_size() as u32)
        .filter(|&id| ours.kind(id) == Some(TokenKind::Control))
        .map(|id| ours.piece(id).into_owned())
        .take(64)
        .collect();
    let mut texts: Vec<String> = WRITTEN.trim_end().split(BREAK).map(str::to_owned).collect();
    let mut inputs = file.as_os_str().to_owned();
    inputs.push(".inp");
    if let Ok(inputs) = std::fs::read_to_string(inputs) {
        texts.extend(inputs.split("\n__ggml_vocab_test__\n").map(str::to_owned));
    }
    let mut rng = Rng::new(seed);
    texts.extend((0..generated).map(|_| text::random(&mut rng, &controls)));

    let mut outcome = Outcome::default();
    for text in texts {
        let mut differs = false;
        for [add, parse] in [[true, false], [false, false], [true, true], [false, true]] {
            let ids = ours.encode(&text, add, parse);
            outcome.tokens += ids.len();
            differs |= ids != theirs.tokenize(&text, add, parse)?;
        }
        outcome.texts += 1;
        if differs {
            outcome.differing.push(text);
        }
    }
    outcome.differing.sort_by_key(String::len);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_report_fails_without_vocabularies() {
        for is_report in [false, true] {
            let mut section = Section::new("Tokens", "");
            lacks_vocabularies(&mut section, Path::new("/absent"), is_report);
            let said = "not compared: no folder of vocabularies at /absent";
            assert!(section.to_string().contains(said), "{section}");
            assert_eq!(section.failures.len(), usize::from(is_report));
        }
    }
}
