//! `tokenizer.json`, the file of Hugging Face's library `tokenizers`, read without copying its
//! strings.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{MAX_TOKENS, TokenizerFiles, check_size, error};
use crate::FormatError;

/// The parts of the file that are of use.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerJson<'a> {
    #[serde(borrow)]
    pub(super) model: Model<'a>,
    #[serde(borrow, default)]
    pub(super) added_tokens: Vec<AddedToken<'a>>,
    /// What is done to text first.
    #[serde(default)]
    pub(super) normalizer: Value,
    /// How text is cut into words.
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    /// Which special tokens are put around a text.
    #[serde(default)]
    pub(super) post_processor: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model<'a> {
    /// `BPE`, `WordPiece`, `Unigram`; old files have none.
    #[serde(rename = "type", default)]
    pub(super) kind: Option<String>,
    #[serde(borrow)]
    pub(super) vocab: Pieces<'a>,
    #[serde(borrow, default)]
    pub(super) merges: Vec<Merge<'a>>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    /// Of Unigram.
    #[serde(default)]
    pub(super) unk_id: Option<u32>,
    /// Of Unigram: text without a token becomes those of its bytes.
    #[serde(default)]
    pub(super) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(super) ignore_merges: Option<bool>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) max_input_chars_per_word: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AddedToken<'a> {
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) content: Text<'a>,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
}

impl<'a> TokenizerJson<'a> {
    pub(super) fn read(files: &TokenizerFiles<'_>, bytes: &'a [u8]) -> Result<Self, FormatError> {
        const FILE: &str = "tokenizer.json";
        check_size(files, FILE, bytes)?;
        let json: Self = serde_json::from_slice(bytes)
            .map_err(|e| error(files, FILE, "is not a tokenizer:", &e.to_string()))?;
        if json.added_tokens.len() > MAX_TOKENS {
            let most = format!("has more than {MAX_TOKENS} added_tokens");
            return Err(error(files, FILE, &most, ""));
        }
        Ok(json)
    }

    /// The kind of model, guessed as `tokenizers` does where an old file does not say.
    pub(super) fn kind(&self) -> &str {
        match (&self.model.kind, &self.model.vocab) {
            (Some(kind), _) => kind,
            (None, Pieces::Scored(_)) => "Unigram",
            (None, Pieces::Ids(_)) if !self.model.merges.is_empty() => "BPE",
            (None, Pieces::Ids(_)) => "WordPiece",
        }
    }
}

/// A string of the file, borrowed if it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(text.into()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A vocabulary.
#[derive(Debug)]
pub(super) enum Pieces<'a> {
    /// Of BPE and WordPiece: tokens and their ids.
    Ids(Vec<(Text<'a>, u32)>),
    /// Of Unigram: tokens with their log-probabilities, by id.
    Scored(Vec<(Text<'a>, f64)>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Pieces<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PiecesVisitor;
        fn push<T, E: Error>(pieces: &mut Vec<T>, piece: T) -> Result<(), E> {
            if pieces.len() == MAX_TOKENS {
                let most = format_args!("more than {MAX_TOKENS} tokens");
                return Err(E::custom(most));
            }
            pieces.push(piece);
            Ok(())
        }
        impl<'de> Visitor<'de> for PiecesVisitor {
            type Value = Pieces<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tokens to ids, or a list of tokens with scores")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = map.next_entry()? {
                    push(&mut pieces, piece)?;
                }
                Ok(Pieces::Ids(pieces))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = seq.next_element()? {
                    push(&mut pieces, piece)?;
                }
                Ok(Pieces::Scored(pieces))
            }
        }
        deserializer.deserialize_any(PiecesVisitor)
    }
}

/// A merge of BPE as GGUF spells it: `left right`. Spaces within the two are spelled U+0120.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merge<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;
        fn checked<E: Error>(merge: Cow<'_, str>) -> Result<Merge<'_>, E> {
            let mut parts = merge.split(' ');
            let (left, right) = (parts.next(), parts.next());
            let is_pair =
                left.is_some_and(|l| !l.is_empty()) && right.is_some_and(|r| !r.is_empty());
            if !is_pair || parts.next().is_some() {
                let what = format_args!("the merge {merge:?} is not two tokens").to_string();
                return Err(E::custom(what));
            }
            Ok(Merge(merge))
        }
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                checked(text.into())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                checked(text.to_owned().into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut next = || seq.next_element::<Text<'de>>();
                let (Some(left), Some(right), None) = (next()?, next()?, next()?) else {
                    return Err(A::Error::custom("a merge is of two tokens"));
                };
                let spell = |text: Text<'_>| text.0.replace(' ', "\u{120}");
                checked(format!("{} {}", spell(left), spell(right)).into())
            }
        }
        deserializer.deserialize_any(MergeVisitor)
    }
}
