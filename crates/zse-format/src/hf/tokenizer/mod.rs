//! The tokenizer of a Hugging Face directory as GGUF's `tokenizer.*` metadata.
//!
//! [`metadata`] is a pure function from the directory's files to what llama.cpp's converter
//! (`convert_hf_to_gguf.py`) writes for the same model, so that one reader of tokenizers serves
//! both worlds. It differs from the converter where that one guesses:
//!
//! - The splitting rules of byte-level BPE are told by the regular expressions that
//!   `tokenizer.json` declares, not by what the tokenizer makes of a test text. Rules that are not
//!   in [`FAMILIES`](crate::pre_tokenizer::FAMILIES) are an error that prints them.
//! - SentencePiece's BPE in a `tokenizer.json` alone has no scores: its merges are kept, and scores
//!   that order tokens as the merges do are written for readers that know only those.
//! - Unigram models of a `tokenizer.json` keep the order and kind of its steps in such keys: what
//!   the library makes of texts differs from what SentencePiece and llama.cpp make of them.
//! - `add_bos_token` and `add_eos_token` are always written where `tokenizer.json` tells them.
//! - Keys `tokenizer.zse.*` hold what GGUF has no key for (see [`keys`]).
//!
//! Files are untrusted: sizes and counts are limited before anything is allocated for them.

mod flags;
mod json;
mod piece;
mod rules;
mod special;
mod template;
mod unigram;
mod vocab;

use serde_json::Value;

use super::config::MAX_CONFIG;
use crate::{EncodedValue, FormatError};
use json::TokenizerJson;
use piece::SentencePieceModel;
use rules::Rules;
use vocab::Tokens;

/// Keys of what GGUF has no key for; other programs ignore them.
pub mod keys {
    /// Tokens that end a generation beside EOS (array of u32), from `generation_config.json`.
    pub const END_TOKEN_IDS: &str = "tokenizer.zse.end_token_ids";
    /// Characters are composed first, to Unicode's form NFC (bool).
    pub const NFC: &str = "tokenizer.zse.nfc";
    /// BPE: a word that is a token is taken as it is, whatever its merges would make of it (bool).
    pub const IGNORE_MERGES: &str = "tokenizer.zse.ignore_merges";
    /// The space that `add_space_prefix` asks for stands at the start of a text only, not behind
    /// special tokens (bool).
    pub const PREFIX_AT_START_ONLY: &str = "tokenizer.zse.space_prefix_at_start_only";
    /// That space is left out before a text that begins with one (bool).
    pub const PREFIX_UNLESS_SPACED: &str = "tokenizer.zse.space_prefix_unless_spaced";
    /// Whose rules a Unigram tokenizer keeps where they differ: `tokenizers` or `sentencepiece`
    /// (string). Those of llama.cpp hold where the key is absent.
    pub const UNIGRAM_LIBRARY: &str = "tokenizer.zse.unigram.library";
    /// Unigram: whitespace at the end of a text goes (bool).
    pub const UNIGRAM_STRIP_RIGHT: &str = "tokenizer.zse.unigram.strip_right";
    /// Unigram: runs of spaces become one (bool).
    pub const UNIGRAM_COLLAPSE_SPACES: &str = "tokenizer.zse.unigram.collapse_spaces";
    /// Unigram: no token reaches into the next word (bool).
    pub const UNIGRAM_SPLIT_WORDS: &str = "tokenizer.zse.unigram.split_words";
    /// Unigram: words are what stands between whitespace, with a space before each (bool).
    pub const UNIGRAM_SPLIT_WHITESPACE: &str = "tokenizer.zse.unigram.split_whitespace";
    /// Special tokens that swallow the spaces before them (array of u32).
    pub const LSTRIP_TOKEN_IDS: &str = "tokenizer.zse.lstrip_token_ids";
    /// Special tokens that swallow the spaces behind them (array of u32).
    pub const RSTRIP_TOKEN_IDS: &str = "tokenizer.zse.rstrip_token_ids";
}

/// Most bytes of a `tokenizer.json` or `tokenizer.model`; the largest known has 35 MB.
const MAX_TOKENIZER: usize = 100 << 20;
/// Most bytes of a list of added tokens; the largest known has 1.2 MB.
const MAX_ADDED: usize = 16 << 20;
/// Most tokens of a vocabulary; the largest known has 262,400.
pub const MAX_TOKENS: usize = 1 << 21;

/// Most chat templates of a model; the most known have three.
pub(super) const MAX_TEMPLATES: usize = 64;

/// The files of a directory that have a say in its tokenizer, where they exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// The directory's path; for messages.
    pub directory: &'a str,
    /// `config.json`: the size of the vocabulary, and ids of special tokens.
    pub config: Option<&'a [u8]>,
    /// `generation_config.json`: the tokens that end a generation.
    pub generation_config: Option<&'a [u8]>,
    /// `tokenizer.json`: a tokenizer of the library `tokenizers`.
    pub tokenizer: Option<&'a [u8]>,
    /// `tokenizer.model`: a model of SentencePiece.
    pub sentence_piece: Option<&'a [u8]>,
    /// `tokenizer_config.json`: special tokens, flags, chat templates.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `special_tokens_map.json`: special tokens where `tokenizer_config.json` has none.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `added_tokens.json`: tokens behind those of a `tokenizer.model`.
    pub added_tokens: Option<&'a [u8]>,
    /// `chat_template.jinja`: the chat template.
    pub chat_template: Option<&'a [u8]>,
    /// `chat_template.json`: the chat template, as some processors save it.
    pub chat_template_json: Option<&'a [u8]>,
    /// `additional_chat_templates/NAME.jinja` by NAME.
    pub additional_chat_templates: &'a [(&'a str, &'a [u8])],
}

/// Metadata entries in the order in which they are written.
pub type Entries = Vec<(String, EncodedValue)>;

/// The files that are JSON objects, read.
struct Objects {
    config: Value,
    generation_config: Value,
    tokenizer_config: Value,
    special_tokens_map: Value,
}

/// The entries `tokenizer.*` of the model in `files`.
///
/// # Errors
/// [`FormatError::Unusable`], naming the file and the field: for files that are malformed or
/// contradict themselves, and for kinds of tokenizers and splitting rules that are not supported.
pub fn metadata(files: &TokenizerFiles<'_>) -> Result<Entries, FormatError> {
    let objects = Objects {
        config: object(files, "config.json", files.config)?,
        generation_config: object(files, "generation_config.json", files.generation_config)?,
        tokenizer_config: object(files, "tokenizer_config.json", files.tokenizer_config)?,
        special_tokens_map: object(files, "special_tokens_map.json", files.special_tokens_map)?,
    };
    let json = match files.tokenizer {
        Some(bytes) => Some(TokenizerJson::read(files, bytes)?),
        None => None,
    };
    let rules = match &json {
        Some(json) => Some(Rules::recognize(files, json)?),
        None => None,
    };
    // SentencePiece's own file has the scores that a tokenizer.json made from it lacks. A
    // tokenizer of another kind does not come from it: some directories hold a leftover one.
    let from_sentence_piece = |rules: &Rules| matches!(rules, Rules::SentencePiece { .. });
    let piece = match files.sentence_piece {
        Some(bytes) if rules.as_ref().is_none_or(from_sentence_piece) => {
            Some(SentencePieceModel::read(files, bytes, rules.is_some())?)
        }
        _ => None,
    };

    let mut entries = Entries::new();
    let tokens = match (&piece, &json, &rules) {
        (Some(piece), json, _) => {
            piece.write(&mut entries);
            Tokens::of_sentence_piece(files, piece, json.as_ref(), &objects)?
        }
        (None, Some(json), Some(rules)) => {
            rules.write(&mut entries);
            Tokens::of_json(files, json, rules, &objects.config)?
        }
        _ => {
            return Err(error(
                files,
                "tokenizer.json",
                "and tokenizer.model are missing",
                "save the tokenizer with transformers' AutoTokenizer, which writes the former",
            ));
        }
    };
    if let Some(rules) = &rules {
        rules.write_prefix(&mut entries);
    }
    tokens.write(&mut entries);
    special::write(
        &tokens,
        json.as_ref(),
        piece.as_ref(),
        &objects,
        &mut entries,
    );
    if let Some(json) = &json {
        flags::write_strips(json, &tokens, &mut entries);
    }
    template::write(files, &objects.tokenizer_config, &mut entries)?;
    Ok(entries)
}

/// The JSON object in `bytes`; an empty one if there is no file.
fn object(
    files: &TokenizerFiles<'_>,
    file: &str,
    bytes: Option<&[u8]>,
) -> Result<Value, FormatError> {
    let Some(bytes) = bytes else {
        return Ok(Value::Object(serde_json::Map::new()));
    };
    check_size(files, file, bytes)?;
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|e| error(files, file, "is not JSON:", &e.to_string()))?;
    if !value.is_object() {
        return Err(error(files, file, "is not a JSON object", ""));
    }
    Ok(value)
}

/// Most bytes of `file` that are read.
pub(super) fn most_bytes(file: &str) -> usize {
    match file {
        "tokenizer.json" | "tokenizer.model" => MAX_TOKENIZER,
        "tokenizer_config.json" | "added_tokens.json" => MAX_ADDED,
        _ => MAX_CONFIG,
    }
}

fn check_size(files: &TokenizerFiles<'_>, file: &str, bytes: &[u8]) -> Result<(), FormatError> {
    let most = most_bytes(file);
    if bytes.len() > most {
        let most = format!("at most {most} are read");
        return Err(error(
            files,
            file,
            &format!("has {} bytes;", bytes.len()),
            &most,
        ));
    }
    Ok(())
}

/// What is wrong with `file`, or with a field of it.
fn error(files: &TokenizerFiles<'_>, file: &str, problem: &str, hint: &str) -> FormatError {
    let separator = if hint.is_empty() || problem.ends_with([':', ';']) {
        " "
    } else {
        "; "
    };
    FormatError::Unusable {
        file: files.directory.to_owned(),
        field: file.to_owned(),
        problem: format!("{problem}{separator}{hint}").trim_end().to_owned(),
    }
}
