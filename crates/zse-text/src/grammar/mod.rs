//! Constraints: which tokens may come next, so that a text has a given form.
//!
//! A [`Grammar`] says the form, [`Grammars`] compiles it for a tokenizer's vocabulary, and a
//! [`GrammarState`] follows one text: its [`mask`](GrammarState::mask) says what may come next,
//! [`accept`](GrammarState::accept) what came. The work is done by the crate `llguidance`
//! (derivatives of regular expressions as a lexer, an Earley parser above); this module gives it the
//! vocabulary and holds it to limits, as schemas come from strangers.

mod form;
mod free;
mod notation;
mod parts;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_hostile;
#[cfg(test)]
mod tests_wanted;
mod vocabulary;

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::Tokenizer;
use free::{Scans, Stage, Tail, Watch, set};
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
    /// Parts, one after the other.
    Parts(Vec<Part>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// This: a special token, or text.
    Mark(String),
    /// Any text up to this mark, and the mark.
    Until(String),
    /// Any text.
    Text,
    /// What this grammar says.
    Of(Grammar),
    /// One of several sequences.
    OneOf(Vec<Vec<Part>>),
    /// A sequence, any number of times.
    Repeated(Vec<Part>),
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
    /// A token such as `<think>`: only a text that begins with it is free up to `after`, none where the
    /// vocabulary has no such token. `None`: any text is.
    pub opening: Option<String>,
    /// What begins the part of the text that the form is for: what is before is free, and may be all.
    pub triggers: Option<Triggers>,
}

/// What begins the part of a text that a grammar is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    /// Marks, each with the beginning of the grammar that it stands for: parts that are a special token,
    /// or text.
    pub marks: Vec<(String, Vec<String>)>,
    /// Characters, of ASCII, that do so where they are the first of the text but for spaces.
    pub bare: &'static str,
}

impl From<Grammar> for Constraint {
    fn from(grammar: Grammar) -> Self {
        Self {
            grammar: grammar.into(),
            after: None,
            opening: None,
            triggers: None,
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
    every: Arc<[u64]>,
    scans: Scans,
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
            every: vocabulary::every(tokenizer).into(),
            scans: Scans::default(),
        })
    }

    /// The state before the first token of a text that `constraint` holds for.
    ///
    /// # Errors
    /// If it is beyond a limit, malformed, or cannot be enforced.
    pub fn compile(&self, constraint: &Constraint) -> Result<GrammarState, GrammarError> {
        let parser = on_deep_stack(|| {
            let grammar = form::compile(&constraint.grammar, &self.tokenizer)?;
            let parser = self.factory.create_parser(grammar);
            parser.map_err(|e| GrammarError::Invalid(message(&e.to_string())))
        })?;
        let mut matcher = Matcher::new(Ok(parser));
        // What is too ambiguous shows it at the start, as a rule, and then costs nobody a token.
        let first = matcher.compute_mask();
        first.map_err(|e| GrammarError::Invalid(message(&e.to_string())))?;
        let after = constraint.after.as_ref().filter(|text| !text.is_empty());
        let trie = self.factory.tok_env().tok_trie();
        let triggers = constraint.triggers.as_ref();
        let watch = triggers.map(|triggers| {
            let scan = self.scans.get(triggers, &self.tokenizer, trie);
            Arc::new(Watch::new(scan, &self.tokenizer, &matcher))
        });
        let opening = constraint.opening.as_ref();
        let opening = opening.map(|text| self.tokenizer.token_id(text));
        let mut state = GrammarState {
            matcher,
            stage: Stage::Begin,
            after: after.map(|text| text.as_bytes().into()),
            watch,
            tokenizer: self.tokenizer.clone(),
            every: Arc::clone(&self.every),
        };
        state.stage = match (after, opening) {
            (Some(_), None) => Stage::Thought(Tail::default()),
            (Some(_), Some(Some(token))) => Stage::Opening(token),
            _ => state.behind_thought(),
        };
        Ok(state)
    }
}

/// Bytes of stack for the deepest grammar that is taken; what is not used takes no memory.
const STACK: usize = 64 << 20;

/// Does `work` where it may call itself as often as a hostile grammar makes it: an overflow would end the
/// process.
fn on_deep_stack<T: Send>(
    work: impl FnOnce() -> Result<T, GrammarError> + Send,
) -> Result<T, GrammarError> {
    let thread = std::thread::Builder::new().stack_size(STACK);
    let done = std::thread::scope(|scope| Some(thread.spawn_scoped(scope, work).ok()?.join()));
    match done {
        Some(Ok(result)) => result,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => Err(GrammarError::Invalid(
            "there is no thread to compile it".to_owned(),
        )),
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
    stage: Stage,
    /// What ends a thought.
    after: Option<Arc<[u8]>>,
    /// What ends text that is free, if there may be such text.
    watch: Option<Arc<Watch>>,
    tokenizer: Tokenizer,
    /// Every token.
    every: Arc<[u64]>,
}

impl GrammarState {
    /// Which tokens may come next: bit `i % 64` of word `i / 64` for token `i`.
    ///
    /// # Errors
    /// [`GrammarError::Stuck`] if none may, or the grammar is too ambiguous to tell in time.
    pub fn mask(&mut self) -> Result<Vec<u64>, GrammarError> {
        if let Stage::Opening(token) = self.stage {
            let behind = self.behind_thought();
            let mut mask = self.mask_at(&behind)?;
            set(&mut mask, [token], true);
            return Ok(mask);
        }
        let stage = self.stage.clone();
        self.mask_at(&stage)
    }

    fn mask_at(&mut self, stage: &Stage) -> Result<Vec<u64>, GrammarError> {
        if matches!(stage, Stage::Bound) {
            return self.bound();
        }
        let mut mask = self.every.to_vec();
        match (stage, self.watch.clone()) {
            (Stage::Opening(_) | Stage::Thought(_), _) => {
                set(&mut mask, self.tokenizer.eog().iter().copied(), false);
            }
            (Stage::Begin, Some(watch)) => {
                set(&mut mask, watch.bare_tokens().iter().copied(), false);
                let nothing = Tail::default();
                let forbidden = watch.forbidden(&nothing, &self.tokenizer);
                set(&mut mask, forbidden, false);
                let bound = self.bound()?;
                let allowed = |token: &u32| {
                    let word = bound.get(*token as usize / 64).copied();
                    word.unwrap_or_default() >> (token % 64) & 1 == 1
                };
                let bare = watch.bare_tokens().iter().copied().filter(allowed);
                set(&mut mask, bare, true);
            }
            (Stage::Text(tail), Some(watch)) => {
                set(&mut mask, watch.forbidden(tail, &self.tokenizer), false);
            }
            (Stage::Begin | Stage::Text(_) | Stage::Bound, _) => return self.bound(),
        }
        Ok(mask)
    }

    /// What the grammar allows.
    fn bound(&mut self) -> Result<Vec<u64>, GrammarError> {
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
        let bytes = self.tokenizer.token_bytes(token).into_owned();
        if let Stage::Opening(opening) = self.stage {
            self.stage = match token == opening {
                true => Stage::Thought(Tail::default()),
                false => self.behind_thought(),
            };
            if token == opening {
                return Ok(());
            }
        }
        if let (Stage::Thought(tail), Some(mark)) = (&mut self.stage, &self.after) {
            tail.push(&bytes);
            // What follows the mark within its token is spacing.
            match tail.has(mark) {
                true => self.stage = self.behind_thought(),
                false => tail.forget(mark.len()),
            }
            return Ok(());
        }
        if let (Stage::Begin, Some(watch)) = (&self.stage, &self.watch) {
            match watch.begins_bare(&bytes) {
                None => return Ok(()),
                Some(true) => self.stage = Stage::Bound,
                Some(false) => self.stage = Stage::Text(Tail::default()),
            }
        }
        if let (Stage::Text(tail), Some(watch)) = (&mut self.stage, &self.watch) {
            tail.push(&bytes);
            let Some(tokens) = watch.ended(tail) else {
                tail.forget(watch.longest);
                return Ok(());
            };
            self.stage = Stage::Bound;
            return consumed(self.matcher.consume_tokens(&tokens));
        }
        consumed(self.matcher.consume_token(token))
    }

    /// Where a text is behind its thought, or without one.
    fn behind_thought(&self) -> Stage {
        match &self.watch {
            None => Stage::Bound,
            Some(watch) if watch.has_bare() => Stage::Begin,
            Some(_) => Stage::Text(Tail::default()),
        }
    }

    /// Whether the text is complete and nothing can be added to it.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Bound) && self.matcher.is_stopped()
    }
}

fn consumed<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), GrammarError> {
    result.map_err(|e| GrammarError::Stuck(message(&e.to_string())))
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
