//! Text in and out of a model: tokenizers, chat templates, stop strings, tool calls.
//!
//! A [`Tokenizer`] is built from a [`Vocab`], which [`Vocab::from_metadata`] reads out of a GGUF
//! file. It knows SentencePiece BPE, BPE over bytes with the splitting rules of every family that
//! llama.cpp names, BERT's WordPiece and unigram models. [`DecodeStream`] turns generated tokens
//! into text as they come.
#![forbid(unsafe_code)]

mod error;
mod families;
mod merge;
mod partition;
mod pattern;
mod special;
mod string_table;
mod tokenizer;
mod vocab;

pub use error::TextError;
pub use special::SpecialIds;
pub use string_table::StringTable;
pub use tokenizer::{DecodeStream, Tokenizer};
pub use vocab::{TokenKind, TokenizerModel, Vocab, VocabFlags};
