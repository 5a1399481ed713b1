//! Text in and out of a model: tokenizers, chat templates, stop strings, tool calls.
//!
//! A [`Tokenizer`] is built from a [`Vocab`], which [`Vocab::from_metadata`] reads out of a GGUF
//! file. It knows SentencePiece BPE, BPE over bytes with the splitting rules of every family that
//! llama.cpp names, Unigram models and BERT's WordPiece. [`DecodeStream`] turns generated tokens into text as they
//! come, [`StopMatcher`] ends it at stop strings, and [`parse_tool_calls`] takes tool calls out of
//! it; an [`AnswerReader`] does so, and finds thoughts, in the form of each family, while it comes.
//! [`Grammars`] say which tokens may come so that a text has a given form. A [`ChatTemplate`] turns
//! [`Message`]s into the text that a model continues, within limits that hold for hostile templates
//! too.
//!
//! ```no_run
//! use zse_format::Checkpoint;
//! use zse_text::{ChatInput, ChatTemplate, Message, Role, Tokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open("model.gguf".as_ref())?;
//! let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
//! let template = ChatTemplate::from_metadata(checkpoint.metadata(), &tokenizer)?;
//! let messages = [Message::new(Role::User, "What is a token?")];
//! let prompt = template.render(&ChatInput {
//!     messages: &messages,
//!     add_generation_prompt: true,
//!     ..ChatInput::default()
//! })?;
//! let ids = tokenizer.encode(&prompt, false, true);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod answer;
mod chat;
mod error;
mod families;
mod grammar;
mod merge;
mod partition;
mod pattern;
mod schema;
mod special;
mod stop;
mod string_table;
mod tokenizer;
mod tools;
mod vocab;
mod work;

pub use answer::{AnswerFormat, AnswerPiece, AnswerReader, Family, Wanted};
pub use chat::{
    CHATML, ChatInput, ChatTemplate, Content, FunctionCall, Message, PLAIN, Role, ToolCall,
    template_reads,
};
pub use error::TextError;
pub use grammar::{
    Constraint, Grammar, GrammarError, GrammarState, Grammars, Notation, Part, TaggedCall, Triggers,
};
pub use special::SpecialIds;
pub use stop::StopMatcher;
pub use string_table::StringTable;
pub use tokenizer::{DecodeStream, Tokenizer, TooManyTokens, UnigramLibrary, UnigramRules};
pub use tools::{TOOL_CALL_CLOSE, TOOL_CALL_OPEN, parse_tool_calls};
pub use vocab::{TokenKind, TokenizerModel, Vocab, VocabFlags};
