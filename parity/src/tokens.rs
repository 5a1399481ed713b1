//! Tokenization: the ids of llama.cpp.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use zse_format::Checkpoint;
use zse_model::conformance::Rng;
use zse_text::{TokenKind, Tokenizer};

use crate::llama::{Load, Model};
use crate::section::{Section, Table};
use crate::text;

/// Texts that were written for this, one below another.
const WRITTEN: &str = include_str!("../data/texts.txt");
/// The line between them.
const BREAK: &str = "\n%%\n";

/// Checked once: of 199 generated texts that differ, Hugging Face's tokenizers give ZSE's ids for
/// 198; the other spells the mark by which GGUF tells the start of a word.
const WORDPIECE: &str = "llama.cpp normalizes otherwise than BERT; see below";

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
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let outcome = compare(file, generated, seed).with_context(|| name.clone())?;
        let differing = outcome.differing.len();
        table.row([
            name.clone(),
            outcome.texts.to_string(),
            outcome.tokens.to_string(),
            differing.to_string(),
            outcome.known.unwrap_or_default().to_owned(),
        ]);
        section.promise(differing == 0 || outcome.known.is_some(), || {
            let shown: Vec<_> = outcome
                .differing
                .iter()
                .take(3)
                .map(|text| format!("`{text:?}`"))
                .collect();
            format!(
                "{name}: {differing} texts give other tokens, such as {}",
                shown.join(", ")
            )
        });
    }
    section.add(&table);
    Ok(section)
}

#[derive(Default)]
struct Outcome {
    texts: usize,
    tokens: usize,
    /// The shortest first.
    differing: Vec<String>,
    /// Where llama.cpp departs from the tokenizer's definition.
    known: Option<&'static str>,
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

    let is_wordpiece = checkpoint.metadata().str("tokenizer.ggml.model")? == Some("bert");
    let mut outcome = Outcome {
        known: is_wordpiece.then_some(WORDPIECE),
        ..Outcome::default()
    };
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
