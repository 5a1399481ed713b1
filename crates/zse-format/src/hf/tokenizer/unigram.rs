//! What a `tokenizer.json` of Unigram does to text before its model sees it (T5, XLM-RoBERTa).
//!
//! transformers writes the steps of a SentencePiece model as `Precompiled`, `Strip` and `Replace`,
//! then `Metaspace`, before which `WhitespaceSplit` may stand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rules::{Prefix, SPACE, Steps, type_of};
use super::{Entries, keys};
use crate::{CharsmapParts, EncodedValue};

/// The rules of a Unigram tokenizer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unigram {
    /// Empty: characters stay as they are.
    charsmap: Vec<u8>,
    strip_right: bool,
    collapse_spaces: bool,
    /// Words are what stands between whitespace.
    split_whitespace: bool,
    split_words: bool,
    pub(super) prefix: Prefix,
}

/// Recognises them.
///
/// # Errors
/// What is not implemented.
pub(super) fn unigram(
    normalizer: &Steps<'_>,
    pre_tokenizer: &Steps<'_>,
) -> Result<Unigram, String> {
    let mut rules = Unigram {
        charsmap: Vec::new(),
        strip_right: false,
        collapse_spaces: false,
        split_whitespace: false,
        split_words: false,
        prefix: Prefix::Never,
    };
    for step in &normalizer.0 {
        let is_first = !rules.strip_right && !rules.collapse_spaces;
        match type_of(step) {
            "Precompiled" if is_first && rules.charsmap.is_empty() => {
                rules.charsmap = charsmap(&step["precompiled_charsmap"])?;
            }
            "Strip" if step["strip_left"] == false && step["strip_right"] == true => {
                rules.strip_right = true;
            }
            // Spaces are spelled so afterwards.
            "Replace"
                if step["pattern"] == json!({"Regex": " {2,}"})
                    && (step["content"] == " " || step["content"] == SPACE) =>
            {
                rules.collapse_spaces = true;
            }
            _ => return Err(refused("normalizer", step)),
        }
    }
    let metaspace = match pre_tokenizer.0[..] {
        [metaspace] => metaspace,
        [split, metaspace] if type_of(split) == "WhitespaceSplit" => {
            rules.split_whitespace = true;
            metaspace
        }
        _ => {
            return Err(
                "has no pre-tokenizer Metaspace, without which Unigram is not supported".to_owned(),
            );
        }
    };
    let is_spelled = metaspace["replacement"].as_str().unwrap_or(SPACE) == SPACE;
    if type_of(metaspace) != "Metaspace" || !is_spelled {
        return Err(refused("pre-tokenizer", metaspace));
    }
    rules.prefix = Prefix::of_metaspace(metaspace)?;
    rules.split_words = metaspace["split"].as_bool().unwrap_or(true);
    // Words between whitespace have nothing else to tell them apart.
    if rules.split_whitespace && rules.prefix != Prefix::Always {
        return Err(refused("pre-tokenizer", metaspace));
    }
    Ok(rules)
}

fn refused(what: &str, step: &Value) -> String {
    let step = step.to_string();
    let shown = &step[..step.floor_char_boundary(300)];
    format!("has the {what} {shown}, which is not supported in this place for Unigram")
}

/// The map in base64.
fn charsmap(value: &Value) -> Result<Vec<u8>, String> {
    let text = value.as_str().unwrap_or_default();
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| "has a precompiled_charsmap that is not base64".to_owned())?;
    if !bytes.is_empty() {
        CharsmapParts::new(&bytes)
            .map_err(|problem| format!("has a precompiled_charsmap that {problem}"))?;
    }
    Ok(bytes)
}

impl Unigram {
    /// Writes all but the prefix.
    pub(super) fn write(&self, entries: &mut Entries) {
        let mut set = |key: &str, value: EncodedValue| entries.push((key.to_owned(), value));
        if !self.charsmap.is_empty() {
            let key = "tokenizer.ggml.precompiled_charsmap";
            set(key, self.charsmap[..].into());
        }
        // As near as other programs can come.
        let remove = self.split_whitespace || self.strip_right && self.collapse_spaces;
        set("tokenizer.ggml.remove_extra_whitespaces", remove.into());
        set(keys::UNIGRAM_LIBRARY, "tokenizers".into());
        set(keys::UNIGRAM_STRIP_RIGHT, self.strip_right.into());
        set(keys::UNIGRAM_COLLAPSE_SPACES, self.collapse_spaces.into());
        set(keys::UNIGRAM_SPLIT_WORDS, self.split_words.into());
        set(keys::UNIGRAM_SPLIT_WHITESPACE, self.split_whitespace.into());
    }
}
