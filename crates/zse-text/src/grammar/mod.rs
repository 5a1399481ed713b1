//! Constraints: which tokens may come next, so that a text has a given form.
//!
//! A [`Grammar`] says the form, [`Grammars`] compiles it for a tokenizer's vocabulary, and a
//! [`GrammarState`] follows one text: its [`mask`](GrammarState::mask) says what may come next,
//! [`accept`](GrammarState::accept) what came. The work is done by the crate `llguidance`
//! (derivatives of regular expressions as a lexer, an Earley parser above); this module gives it the
//! vocabulary and holds it to limits, as schemas come from strangers.

mod form;
mod notation;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::Tokenizer;
pub use notation::Notation;
pub(crate) use notation::{is_no_part_of_python_name, is_python_name};

/// The form of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// JSON that a schema describes. A keyword that cannot be enforced is an error; `format` knows
    /// dates, times, durations, e-mail and IP addresses, host names, URIs and UUIDs.
    JsonSchema(Value),
    /// What a regular expression matches as a whole, in the syntax of Rust's crate `regex`, without
    /// look-around and anchors.
    Regex(String),
    /// A context-free grammar in `llguidance`'s variant of Lark's syntax. Special tokens are named as
    /// `<|eot_id|>` or `<[128009]>`, JSON schemas written as `%json { ... }`.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// JSON between marks, once or more: tool calls.
    Tagged {
        /// What is before each; a special token, or text.
        open: String,
        /// What the JSON looks like.
        schema: Value,
        /// What is behind each; a special token, or text; may be empty.
        close: String,
        /// Whether others may follow, with a line break between two.
        repeat: bool,
    },
    /// One of several calls, whose marks name it; once or more.
    Calls {
        /// Marks before all: each a special token, or text.
        begin: Vec<String>,
        /// What may be called.
        calls: Vec<TaggedCall>,
        /// Marks behind all.
        end: Vec<String>,
        /// Whether others may follow.
        repeat: bool,
        /// What is between two.
        separator: String,
    },
}

/// Arguments between marks of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct TaggedCall {
    /// Marks before them: each a special token, or text.
    pub open: Vec<String>,
    /// What they look like.
    pub schema: Value,
    /// How they are written.
    pub notation: Notation,
    /// Marks behind it.
    pub close: Vec<String>,
}

/// What a text must look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    /// Its form. Shared by the copies: a schema may be large.
    pub grammar: Arc<Grammar>,
    /// The text from which on it holds, such as `</think>`: what is before is free, but has to come
    /// to this. `None`: it holds from the first token.
    pub after: Option<String>,
}

impl From<Grammar> for Constraint {
    fn from(grammar: Grammar) -> Self {
        Self {
            grammar: grammar.into(),
            after: None,
        }
    }
}

/// Why a constraint cannot be used, or could not be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// Something is larger than allowed.
    #[error("{what} of the constraint is {size}, at most {limit} is allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// It has an error, asks for what cannot be enforced, or is too complex.
    #[error("the constraint cannot be used: {0}")]
    Invalid(String),
    /// The tokenizer cannot be constrained.
    #[error("this model's vocabulary cannot be constrained: {0}")]
    Vocabulary(&'static str),
    /// No token continues the text, or finding out which do took more than is allowed.
    #[error("the constraint could not be followed: {0}")]
    Stuck(String),
}

/// Compiles grammars for one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    tokenizer: Tokenizer,
    /// Every token but those that end a generation.
    endless: Arc<[u64]>,
}

impl Grammars {
    /// Prepares the vocabulary of `tokenizer`: some microseconds a token.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`] if it has no token that ends a text, or is too large.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, GrammarError> {
        Ok(Self {
            factory: vocabulary::factory(tokenizer)?,
            tokenizer: tokenizer.clone(),
            endless: vocabulary::endless(tokenizer).into(),
        })
    }

    /// The state before the first token of a text that `constraint` holds for.
    ///
    /// # Errors
    /// If it is beyond a limit, malformed, or cannot be enforced.
    pub fn compile(&self, constraint: &Constraint) -> Result<GrammarState, GrammarError> {
        let grammar = form::compile(&constraint.grammar, &self.tokenizer)?;
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|e| GrammarError::Invalid(message(&e.to_string())))?;
        let mut matcher = Matcher::new(Ok(parser));
        // What is too ambiguous shows it at the start, as a rule, and then costs nobody a token.
        let first = matcher.compute_mask();
        first.map_err(|e| GrammarError::Invalid(message(&e.to_string())))?;
        let marker = constraint.after.as_ref().filter(|text| !text.is_empty());
        Ok(GrammarState {
            matcher,
            free: marker.map(|text| Free {
                marker: text.as_bytes().into(),
                tail: Vec::new(),
            }),
            tokenizer: self.tokenizer.clone(),
            endless: Arc::clone(&self.endless),
        })
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

/// How far a text has come in its grammar.
#[derive(Clone)]
pub struct GrammarState {
    matcher: Matcher,
    /// While the grammar does not hold yet.
    free: Option<Free>,
    tokenizer: Tokenizer,
    endless: Arc<[u64]>,
}

/// The part of a text before its grammar holds.
#[derive(Clone)]
struct Free {
    /// What ends it.
    marker: Arc<[u8]>,
    /// The last bytes, fewer than the marker has.
    tail: Vec<u8>,
}

impl GrammarState {
    /// Which tokens may come next: bit `i % 64` of word `i / 64` for token `i`.
    ///
    /// # Errors
    /// [`GrammarError::Stuck`] if none may, or the grammar is too ambiguous to tell in time.
    pub fn mask(&mut self) -> Result<Vec<u64>, GrammarError> {
        if self.free.is_some() {
            return Ok(self.endless.to_vec());
        }
        let mask = self.matcher.compute_mask_or_eos();
        let mask = words(&mask.map_err(|e| GrammarError::Stuck(message(&e.to_string())))?);
        match mask.iter().all(|&word| word == 0) {
            true => Err(GrammarError::Stuck(NOTHING.to_owned())),
            false => Ok(mask),
        }
    }

    /// Takes in the next token.
    ///
    /// # Errors
    /// [`GrammarError::Stuck`] if it is none of those that may come.
    pub fn accept(&mut self, token: u32) -> Result<(), GrammarError> {
        if let Some(free) = &mut self.free {
            free.tail
                .extend_from_slice(&self.tokenizer.token_bytes(token));
            // What follows the marker within its token is spacing.
            if memchr::memmem::find(&free.tail, &free.marker).is_some() {
                self.free = None;
            } else {
                let rest = free.tail.len().saturating_sub(free.marker.len() - 1);
                free.tail.drain(..rest);
            }
            return Ok(());
        }
        let accepted = self.matcher.consume_token(token);
        accepted.map_err(|e| GrammarError::Stuck(message(&e.to_string())))
    }

    /// Whether the text is complete and nothing can be added to it.
    pub fn is_over(&self) -> bool {
        self.free.is_none() && self.matcher.is_stopped()
    }
}

impl std::fmt::Debug for GrammarState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarState").finish_non_exhaustive()
    }
}

/// Why a text that is not complete ends.
const NOTHING: &str = "no token continues it";

/// Two halves of 32 bits make a word.
fn words(mask: &SimpleVob) -> Vec<u64> {
    let pairs = mask.as_slice().chunks(2);
    pairs
        .map(|pair| {
            let high = pair.get(1).copied().unwrap_or_default();
            u64::from(pair[0]) | u64::from(high) << 32
        })
        .collect()
}

/// What people are told of an error: its first words, and nothing of the library's insides.
fn message(error: &str) -> String {
    const MOST: usize = 300;
    if error.starts_with("panic") {
        return "it is beyond what can be compiled".to_owned();
    }
    if error.contains("NoExtension") {
        return NOTHING.to_owned();
    }
    let end = error.find("<non-verbose/>").unwrap_or(error.len());
    let text = error[..end].trim_end();
    text[..text.floor_char_boundary(MOST)].to_owned()
}
