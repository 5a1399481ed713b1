//! The tokens: spelling, score and kind of each id, put together from all files that name some.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::json::{Pieces, Text, TokenizerJson};
use super::piece::SentencePieceModel;
use super::rules::Rules;
use super::{Entries, MAX_TOKENS, Objects, TokenizerFiles, error, object};
use crate::{EncodedValue, FormatError};

/// Numbers in `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Most ids without a token, beside one for each token: models have rows for a few more.
const MAX_GAPS: usize = 1 << 16;

/// Scores that llama.cpp's converter gives to padding and to added tokens.
const PADDING_SCORE: f32 = -10_000.0;
const ADDED_SCORE: f32 = -1_000.0;

/// A vocabulary, gaps filled.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    list: Vec<Option<Token<'a>>>,
    /// Where the vocabulary ends, if the configuration says so: the model has no rows for more.
    limit: Option<usize>,
    /// Most tokens, so that a short file cannot ask for much memory.
    most: usize,
    has_scores: bool,
    merges: Option<Vec<Cow<'a, str>>>,
}

#[derive(Clone, Debug)]
struct Token<'a> {
    text: Cow<'a, str>,
    score: f32,
    kind: i32,
}

/// A token that is added to a vocabulary.
struct Added<'a> {
    id: u64,
    text: Cow<'a, str>,
    special: bool,
}

impl<'a> Tokens<'a> {
    /// Room for `named` tokens, and gaps between them.
    fn new(
        files: &TokenizerFiles<'_>,
        config: &Value,
        has_scores: bool,
        named: usize,
    ) -> Result<Self, FormatError> {
        let most = (2 * named + MAX_GAPS).min(MAX_TOKENS);
        let sizes = [&config["vocab_size"], &config["text_config"]["vocab_size"]];
        let limit = sizes.iter().find_map(|size| size.as_u64());
        if let Some(size) = limit.filter(|&size| size == 0 || size > most as u64) {
            let what = format!(
                "has vocab_size {size}; with {named} tokens in the tokenizer's files, from 1 to \
                 {most} are supported"
            );
            return Err(error(files, "config.json", &what, ""));
        }
        Ok(Self {
            list: Vec::new(),
            limit: limit.map(|size| size as usize),
            most,
            has_scores,
            merges: None,
        })
    }

    /// Sets token `id`; ids beyond the model's are passed over, as its converters do.
    fn set(&mut self, id: u64, token: Token<'a>) -> Result<(), String> {
        let limit = self.limit.unwrap_or(self.most) as u64;
        if id >= limit {
            return match self.limit {
                Some(_) => Ok(()),
                None => Err(format!(
                    "has the id {id} for {:?}; ids below {} are supported",
                    token.text, self.most
                )),
            };
        }
        let id = id as usize;
        if self.list.len() <= id {
            self.list.resize(id + 1, None);
        }
        self.list[id] = Some(token);
        Ok(())
    }

    /// Those of a `tokenizer.model` and of all files that add to it.
    pub(super) fn of_sentence_piece(
        files: &TokenizerFiles<'a>,
        model: &SentencePieceModel<'a>,
        json: Option<&TokenizerJson<'a>>,
        objects: &Objects,
    ) -> Result<Self, FormatError> {
        let added = object(files, "added_tokens.json", files.added_tokens)?;
        let decoder = objects.tokenizer_config["added_tokens_decoder"].as_object();
        let named = model.pieces.len()
            + added.as_object().map_or(0, serde_json::Map::len)
            + decoder.map_or(0, serde_json::Map::len)
            + json.map_or(0, |json| json.added_tokens.len());
        let mut tokens = Self::new(files, &objects.config, true, named)?;
        let invalid = |file: &str| {
            let file = file.to_owned();
            move |problem: String| error(files, &file, &problem, "")
        };
        for (id, piece) in (0..).zip(&model.pieces) {
            let token = Token {
                text: piece.text.into(),
                score: piece.score,
                kind: piece.kind,
            };
            tokens.set(id, token).map_err(invalid("tokenizer.model"))?;
        }
        for (text, id) in added.as_object().into_iter().flatten() {
            let id = id.as_u64().ok_or_else(|| {
                let what = format!("has no id for {text:?}");
                error(files, "added_tokens.json", &what, "")
            })?;
            let token = Token {
                text: text.clone().into(),
                score: ADDED_SCORE,
                kind: USER_DEFINED,
            };
            tokens
                .set(id, token)
                .map_err(invalid("added_tokens.json"))?;
        }
        for (id, token) in decoder.into_iter().flatten() {
            const FILE: &str = "tokenizer_config.json";
            let (Ok(id), Some(text)) = (id.parse::<u64>(), token["content"].as_str()) else {
                let what =
                    format!("has the field added_tokens_decoder.{id:?} without id and content");
                return Err(error(files, FILE, &what, ""));
            };
            let special = token["special"].as_bool().unwrap_or(false);
            let text = text.to_owned().into();
            let added = Added { id, text, special };
            tokens.add(added).map_err(invalid(FILE))?;
        }
        // Newer directories name added tokens in tokenizer.json alone.
        if let (None, Some(json)) = (decoder, json) {
            tokens.add_all(json).map_err(invalid("tokenizer.json"))?;
        }
        Ok(tokens)
    }

    /// Those of a `tokenizer.json`.
    pub(super) fn of_json(
        files: &TokenizerFiles<'_>,
        json: &TokenizerJson<'a>,
        rules: &Rules,
        config: &Value,
    ) -> Result<Self, FormatError> {
        let invalid = |problem: String| error(files, "tokenizer.json", &problem, "");
        let sentence_piece = matches!(rules, Rules::SentencePiece { .. });
        let pieces = match (&json.model.vocab, rules) {
            (Pieces::Scored(pieces), Rules::Unigram(_)) => {
                return Self::of_unigram(files, json, pieces, config);
            }
            (Pieces::Ids(pieces), rules) if !matches!(rules, Rules::Unigram(_)) => pieces,
            _ => {
                return Err(invalid(
                    "has a list of tokens where ids by token are needed, or the other way round"
                        .to_owned(),
                ));
            }
        };
        let named = pieces.len() + json.added_tokens.len();
        let mut tokens = Self::new(files, config, sentence_piece, named)?;
        let scores = match sentence_piece {
            true => scores(&json.model.merges),
            false => HashMap::new(),
        };
        for (text, id) in pieces {
            let text = &text.0;
            let kind = match () {
                () if !sentence_piece => NORMAL,
                () if is_byte(text) => BYTE,
                () if json.model.unk_token.as_deref() == Some(text) => UNKNOWN,
                () => NORMAL,
            };
            let token = Token {
                text: text.clone(),
                score: scores.get(&**text).copied().unwrap_or(ADDED_SCORE),
                kind,
            };
            let slot = tokens.list.get(*id as usize);
            if slot.is_some_and(Option::is_some) {
                return Err(invalid(format!(
                    "has two tokens of id {id}, one of them {text:?}"
                )));
            }
            tokens.set(u64::from(*id), token).map_err(invalid)?;
        }
        tokens.add_all(json).map_err(invalid)?;
        if matches!(rules, Rules::WordPiece { .. }) {
            tokens.spell_as_bert();
        } else {
            let merges = json.model.merges.iter();
            tokens.merges = Some(merges.map(|merge| merge.0.clone()).collect());
        }
        Ok(tokens)
    }

    /// Those of a Unigram model in a `tokenizer.json`.
    fn of_unigram(
        files: &TokenizerFiles<'_>,
        json: &TokenizerJson<'a>,
        pieces: &[(Text<'a>, f64)],
        config: &Value,
    ) -> Result<Self, FormatError> {
        let invalid = |problem: String| error(files, "tokenizer.json", &problem, "");
        let named = pieces.len() + json.added_tokens.len();
        let mut tokens = Self::new(files, config, true, named)?;
        let has_bytes = json.model.byte_fallback == Some(true);
        for (id, (text, score)) in (0..).zip(pieces) {
            let kind = match () {
                () if json.model.unk_id == Some(id) => UNKNOWN,
                () if has_bytes && is_byte(&text.0) => BYTE,
                () => NORMAL,
            };
            let token = Token {
                text: text.0.clone(),
                score: *score as f32,
                kind,
            };
            tokens.set(u64::from(id), token).map_err(invalid)?;
        }
        tokens.add_all(json).map_err(invalid)?;
        Ok(tokens)
    }

    fn add_all(&mut self, json: &TokenizerJson<'a>) -> Result<(), String> {
        json.added_tokens.iter().try_for_each(|added| {
            self.add(Added {
                id: u64::from(added.id),
                text: added.content.0.clone(),
                special: added.special,
            })
        })
    }

    /// Adds a token, or makes an existing one special.
    fn add(&mut self, added: Added<'a>) -> Result<(), String> {
        let control = added.special || looks_special(&added.text);
        let token = Token {
            kind: if control { CONTROL } else { USER_DEFINED },
            // User-defined tokens are found in text before spaces are spelled otherwise.
            text: match control || !added.text.contains('\u{2581}') {
                true => added.text,
                false => added.text.replace('\u{2581}', " ").into(),
            },
            score: ADDED_SCORE,
        };
        self.set(added.id, token)
    }

    /// Marks the start of words with U+2581, not what goes on in them with `##`.
    fn spell_as_bert(&mut self) {
        for (id, slot) in self.list.iter_mut().enumerate() {
            let token = slot.get_or_insert_with(|| padding(id));
            if token.kind != CONTROL {
                token.text = match token.text.strip_prefix("##") {
                    Some(rest) => rest.to_owned().into(),
                    None => format!("\u{2581}{}", token.text).into(),
                };
            }
        }
    }

    /// The id of the token that spells `text`.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let mut ids = (0..).zip(&self.list);
        let found = ids.find(|(_, token)| token.as_ref().is_some_and(|token| token.text == text));
        found.map(|(id, _)| id)
    }

    /// Number of tokens, padding included.
    pub(super) fn len(&self) -> usize {
        self.limit.unwrap_or(self.list.len())
    }

    /// Writes tokens, scores, kinds and merges.
    pub(super) fn write(&self, entries: &mut Entries) {
        let all = (0..self.len()).map(|id| match self.list.get(id) {
            Some(Some(token)) => token.clone(),
            _ => padding(id),
        });
        let all: Vec<Token<'_>> = all.collect();
        let mut set = |key: &str, value: EncodedValue| {
            entries.push((format!("tokenizer.ggml.{key}"), value));
        };
        set(
            "tokens",
            EncodedValue::strings(all.iter().map(|token| token.text.as_bytes())),
        );
        if self.has_scores {
            let scores: Vec<f32> = all.iter().map(|token| token.score).collect();
            set("scores", scores[..].into());
        }
        let kinds: Vec<i32> = all.iter().map(|token| token.kind).collect();
        set("token_type", kinds[..].into());
        if let Some(merges) = &self.merges {
            let merges = merges.iter().map(|merge| merge.as_bytes());
            set("merges", EncodedValue::strings(merges));
        }
    }
}

/// What stands where the vocabulary has no token but the model has a row.
fn padding(id: usize) -> Token<'static> {
    Token {
        text: format!("[PAD{id}]").into(),
        score: PADDING_SCORE,
        kind: UNUSED,
    }
}

/// Scores that order tokens as `merges` do: minus the number of the first merge that makes one, as
/// SentencePiece numbers what it learns.
fn scores<'m>(merges: &'m [super::json::Merge<'_>]) -> HashMap<Cow<'m, str>, f32> {
    let mut scores = HashMap::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        let joined = merge.0.replacen(' ', "", 1);
        scores.entry(joined.into()).or_insert(-(rank as f32));
    }
    scores
}

/// Whether a token is one of `<0x00>` to `<0xFF>`.
fn is_byte(text: &str) -> bool {
    let digits = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Tokens that some models should mark as special and do not (llama.cpp's list).
fn looks_special(text: &str) -> bool {
    let between = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}
