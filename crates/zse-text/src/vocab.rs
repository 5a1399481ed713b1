//! What a tokenizer is built from, whatever file it came from.

use zse_format::Metadata;
use zse_format::hf::tokenizer::keys;

use crate::TextError;
use crate::special::SpecialIds;
use crate::string_table::StringTable;
use crate::tokenizer::UnigramRules;

/// How a tokenizer turns text into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerModel {
    /// SentencePiece BPE: the pair whose token scores best is merged first; unknown characters
    /// become byte tokens. GGUF calls it `llama`.
    SentencePiece,
    /// BPE with ranked merges within words. GGUF calls it `gpt2` (over bytes) or `gemma4` (over
    /// characters).
    Bpe,
    /// The cut of the best sum of scores. GGUF calls it `t5`.
    Unigram,
    /// Greedy longest match within words. GGUF calls it `bert`.
    WordPiece,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Text.
    Normal,
    /// The token of text that has no other.
    Unknown,
    /// A mark such as `<s>`, never produced by plain text.
    Control,
    /// A piece of text that is split off before anything else.
    UserDefined,
    /// Fills a gap in the numbering.
    Unused,
    /// One byte, written `<0xHH>`.
    Byte,
}

impl TokenKind {
    /// The kind with this number in GGUF's `tokenizer.ggml.token_type`.
    fn from_gguf(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// A vocabulary with everything else that defines a tokenizer.
///
/// [`from_metadata`](Self::from_metadata) fills it from a GGUF file's keys; any other source of
/// tokenizers fills the same fields.
#[derive(Clone, Debug)]
pub struct Vocab {
    /// How text becomes tokens.
    pub model: TokenizerModel,
    /// The family of splitting rules of a BPE tokenizer, by its name in `tokenizer.ggml.pre`.
    pub pre: String,
    /// The tokens as the file spells them, by id.
    pub tokens: StringTable,
    /// One score a token, or empty: all zero.
    pub scores: Vec<f32>,
    /// One kind a token, or empty: all normal.
    pub kinds: Vec<TokenKind>,
    /// The merges of BPE as `left right`, best first. SentencePiece's BPE may have them too: then
    /// they say what is merged when, not the scores.
    pub merges: StringTable,
    /// Tokens with a part to play.
    pub special: SpecialIds,
    /// Flags that the file may set, over the defaults of its kind of tokenizer.
    pub flags: VocabFlags,
    /// What a Unigram tokenizer does beside choosing tokens.
    pub unigram: UnigramRules,
    /// `general.name`: some models' special tokens swallow the spaces beside them.
    pub name: String,
}

/// Settings of a tokenizer that a file may leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VocabFlags {
    /// Put BOS before the text.
    pub add_bos: Option<bool>,
    /// Put EOS behind the text.
    pub add_eos: Option<bool>,
    /// Put a separator before the second of two texts, behind what ends the first.
    pub add_sep: Option<bool>,
    /// Treat text as if a space stood before it.
    pub add_space_prefix: Option<bool>,
    /// That space stands at the start of a text only, not behind special tokens as well.
    pub prefix_at_start_only: Option<bool>,
    /// BPE: a word that is a token is taken as it is, whatever its merges would make of it.
    pub ignore_merges: Option<bool>,
    /// That space is left out before a text that begins with one.
    pub prefix_unless_spaced: Option<bool>,
    /// Compose characters first (Unicode's form NFC).
    pub nfc: Option<bool>,
    /// WordPiece: turn text to lower case.
    pub lowercase: Option<bool>,
    /// WordPiece: drop accents; by default done where text is turned to lower case.
    pub strip_accents: Option<bool>,
}

impl Vocab {
    /// The vocabulary in a GGUF file's metadata.
    ///
    /// # Errors
    /// [`TextError::Metadata`] for keys that are absent or of the wrong type,
    /// [`TextError::UnsupportedModel`] for kinds of tokenizers that are not supported,
    /// [`TextError::Vocabulary`] for one that contradicts itself.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        let model_name = metadata.require_str("tokenizer.ggml.model")?;
        let model = match model_name {
            "llama" => TokenizerModel::SentencePiece,
            "gpt2" | "gemma4" => TokenizerModel::Bpe,
            "t5" => TokenizerModel::Unigram,
            "bert" => TokenizerModel::WordPiece,
            other => {
                return Err(TextError::UnsupportedModel {
                    model: other.to_owned(),
                });
            }
        };
        let pre = match model_name {
            "gemma4" => "gemma4",
            _ => metadata
                .str("tokenizer.ggml.pre")?
                .filter(|pre| !pre.is_empty())
                .unwrap_or("default"),
        };
        let tokens = StringTable::new(
            "tokenizer.ggml.tokens",
            metadata.require_strings("tokenizer.ggml.tokens")?,
        )?;
        let scores = match metadata
            .get("tokenizer.ggml.scores")
            .and_then(|v| v.as_array())
        {
            Some(array) if array.element_type() == zse_format::ValueType::I32 => metadata
                .require_i32s("tokenizer.ggml.scores")?
                .iter()
                .map(|&s| s as f32)
                .collect(),
            _ => metadata.f32s("tokenizer.ggml.scores")?.unwrap_or_default(),
        };
        let kinds = metadata
            .i32s("tokenizer.ggml.token_type")?
            .unwrap_or_default();
        let merges = "tokenizer.ggml.merges";
        let merges = match model {
            TokenizerModel::Bpe => StringTable::new(merges, metadata.require_strings(merges)?)?,
            TokenizerModel::SentencePiece if metadata.get(merges).is_some() => {
                StringTable::new(merges, metadata.require_strings(merges)?)?
            }
            _ => StringTable::new(merges, std::iter::empty())?,
        };
        Ok(Self {
            model,
            pre: pre.to_owned(),
            special: SpecialIds::from_metadata(metadata, model, tokens.len())?,
            tokens,
            scores,
            kinds: kinds.into_iter().map(TokenKind::from_gguf).collect(),
            merges,
            flags: VocabFlags {
                add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
                add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
                add_sep: metadata.bool("tokenizer.ggml.add_sep_token")?,
                add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
                prefix_at_start_only: metadata.bool(keys::PREFIX_AT_START_ONLY)?,
                prefix_unless_spaced: metadata.bool(keys::PREFIX_UNLESS_SPACED)?,
                nfc: metadata.bool(keys::NFC)?,
                ignore_merges: metadata.bool(keys::IGNORE_MERGES)?,
                lowercase: metadata.bool("tokenizer.ggml.normalizer.lowercase")?,
                strip_accents: metadata.bool("tokenizer.ggml.normalizer.strip_accents")?,
            },
            unigram: match model {
                TokenizerModel::Unigram => UnigramRules::from_metadata(metadata)?,
                _ => UnigramRules::default(),
            },
            name: metadata.str("general.name")?.unwrap_or_default().to_owned(),
        })
    }

    /// Checks that scores and kinds are one a token (or absent) and gives the kinds.
    pub(crate) fn checked_kinds(&self) -> Result<Vec<TokenKind>, TextError> {
        let tokens = self.tokens.len();
        let check = |field, len: usize| match len {
            0 => Ok(()),
            len if len >= tokens => Ok(()),
            len => Err(TextError::Vocabulary {
                field,
                problem: format!("has {len} entries for {tokens} tokens"),
            }),
        };
        check("tokenizer.ggml.scores", self.scores.len())?;
        check("tokenizer.ggml.token_type", self.kinds.len())?;
        let mut kinds = self.kinds.clone();
        kinds.resize(tokens, TokenKind::Normal);
        Ok(kinds)
    }
}
