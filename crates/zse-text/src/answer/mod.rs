//! A model's answer while it is written: text, thoughts and calls of tools, told apart by the form
//! that the model's family has for them.
//!
//! [`AnswerFormat`] knows the family, by the model's chat template; an [`AnswerReader`] reads one
//! answer. What it finds does not depend on how the text is cut into pieces.

mod cursor;
mod deepseek;
mod form;
mod format;
mod gemma;
mod grammar;
mod harmony;
mod hermes;
mod llama;
mod mistral;
mod python;
mod qwen_coder;
mod schemas;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::HashSet;

use cursor::{Miss, ObjectEnd};
use form::{Argument, Form, Head, Tail, Written};
pub use format::{AnswerFormat, Family};
use python::ArgumentEnd;
use schemas::Schemas;
pub use wanted::Wanted;

/// What a thought begins with in most families.
const THINK: &str = "<think>";

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPiece {
    /// Text for the user.
    Text(String),
    /// What the model thinks before it answers.
    Thought(String),
    /// A call of this function begins.
    Call(String),
    /// More of the arguments of the last call: JSON.
    Arguments(String),
}

/// Reads one answer.
pub struct AnswerReader {
    form: &'static dyn Form,
    marks: Vec<&'static str>,
    has_tools: bool,
    /// Text that is not dealt with.
    held: String,
    state: State,
    has_text: bool,
    /// Spaces that come next are no part of anything.
    after_mark: bool,
    /// What a call at the very beginning may begin with.
    bare: &'static [char],
    calls: usize,
    /// What has to come before there is anything to do, and from where it is looked for.
    wait: Option<(Wait, usize)>,
    /// Bytes that were looked at, as often as they were.
    #[cfg(test)]
    looked: usize,
    schemas: Schemas,
    /// The function that is called.
    function: String,
    /// The arguments that it has so far, where they come one by one.
    arguments: HashSet<String>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Marks(&'static [&'static str]),
    Argument(ArgumentEnd),
}

/// Bytes of spaces that are held back, and dropped if a call follows them.
const MOST_SPACES: usize = 256;

/// `text` without the spaces at its end, as far as they are held back.
fn trim_end(text: &str) -> &str {
    let least = text.ceil_char_boundary(text.len().saturating_sub(MOST_SPACES));
    &text[..text.trim_end().len().max(least)]
}

/// Where an answer has come to.
#[derive(Clone, Copy, Debug)]
enum State {
    Text,
    Thought,
    /// Behind a mark; none: the bare beginning.
    Head(&'static str),
    /// In an object of arguments.
    Arguments(ObjectEnd),
    /// Among arguments that come one by one; how many there were.
    List(usize),
    Tail,
}

impl AnswerReader {
    /// How many calls there were so far.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Whether the text so far ends within a thought.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thought)
    }

    /// Knows the functions that may be called, as OpenAI's API describes them: which arguments are
    /// text, and which are JSON, where the form does not say.
    pub fn with_tools(mut self, tools: &[serde_json::Value]) -> Self {
        self.schemas = Schemas::new(tools);
        self
    }

    /// Takes the next piece of the text.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPiece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.step(false, &mut pieces) {}
        pieces
    }

    /// The rest, at the end of the text.
    pub fn finish(&mut self) -> Vec<AnswerPiece> {
        let mut pieces = Vec::new();
        while self.step(true, &mut pieces) {}
        pieces
    }

    /// Goes on by one part; false if more must come first, or all is dealt with.
    fn step(&mut self, is_end: bool, pieces: &mut Vec<AnswerPiece>) -> bool {
        if self.is_waiting() && !is_end {
            return false;
        }
        #[cfg(test)]
        {
            self.looked += self.held.len();
        }
        match self.state {
            State::Text => self.text(is_end, pieces),
            State::Thought => self.thought(is_end, pieces),
            State::Head(mark) => self.head(mark, is_end, pieces),
            State::Arguments(end) => self.arguments(end, pieces),
            State::List(before) => self.argument(before, is_end, pieces),
            State::Tail => match self.form.tail(&self.held, is_end) {
                Ok(Tail::Call { at }) => self.enter(at, State::Head("")),
                Ok(Tail::Text { at }) => self.enter(at, State::Text),
                Err(Miss::No) => self.enter(0, State::Text),
                // What a call ends with may be missing.
                Err(_) if is_end => self.enter(self.held.len(), State::Text),
                Err(miss) => self.wait_for(miss),
            },
        }
    }

    /// Looks whether what is waited for has come.
    fn is_waiting(&mut self) -> bool {
        let Some((wait, from)) = &mut self.wait else {
            return false;
        };
        let new = &self.held[*from..];
        #[cfg(test)]
        {
            self.looked += new.len();
        }
        let has_come = match wait {
            Wait::Marks(marks) => marks.iter().any(|mark| new.contains(mark)),
            Wait::Argument(end) => end.find(new).is_some(),
        };
        if has_come {
            self.wait = None;
            return false;
        }
        // It may have come in part.
        let part = match wait {
            Wait::Marks(marks) => part_of(marks),
            Wait::Argument(_) => 0,
        };
        let end = self.held.len().saturating_sub(part);
        *from = self.held.floor_char_boundary(end).max(*from);
        true
    }

    /// Goes on when more has come: gives false.
    fn wait_for(&mut self, miss: Miss) -> bool {
        self.wait = match miss {
            Miss::More | Miss::No => None,
            // What is there has been looked at, but for what may be a part.
            Miss::Until(marks) => {
                let from = self.held.len().saturating_sub(part_of(marks));
                Some((Wait::Marks(marks), self.held.floor_char_boundary(from)))
            }
            Miss::Literal => Some((Wait::Argument(ArgumentEnd::default()), 0)),
        };
        false
    }

    /// Drops what is before `at` and goes on in `state`.
    fn enter(&mut self, at: usize, state: State) -> bool {
        self.held.drain(..at);
        self.state = state;
        self.wait = None;
        true
    }

    fn text(&mut self, is_end: bool, pieces: &mut Vec<AnswerPiece>) -> bool {
        if !self.bare.is_empty() {
            let begin = self.held.trim_start();
            let spaces = self.held.len() - begin.len();
            match begin.chars().next() {
                None if !is_end && spaces <= MOST_SPACES => return false,
                Some(c) if self.bare.contains(&c) && spaces <= MOST_SPACES => {
                    self.bare = &[];
                    return self.enter(0, State::Head(""));
                }
                _ => self.bare = &[],
            }
        }
        let may_think = |before: &str| {
            // Behind a mark, spaces are no part of anything.
            trim_end(before).is_empty() || self.after_mark && before.trim().is_empty()
        };
        let found = self
            .marks
            .iter()
            .filter_map(|mark| Some((self.held.find(mark)?, *mark)))
            .filter(|&(at, mark)| mark != THINK || may_think(&self.held[..at]));
        if let Some((at, mark)) = found.min() {
            // Spaces before what may be a call stay with it until that is known.
            let text = trim_end(&self.held[..at]).to_owned();
            self.say(&text, pieces);
            self.held.drain(..text.len());
            self.state = State::Head(mark);
            return true;
        }
        let keep = match is_end {
            true if self.calls > 0 => self.held.len() - trim_end(&self.held).len(),
            true => 0,
            false => self.uncertain(),
        };
        let text: String = self.held.drain(..self.held.len() - keep).collect();
        self.say(&text, pieces);
        if is_end {
            self.held.clear();
        }
        false
    }

    /// Bytes at the end of the text that may begin a mark, and the spaces before them.
    fn uncertain(&self) -> usize {
        if self.marks.is_empty() {
            return 0;
        }
        let mark = self.marks.iter().map(|mark| begun(&self.held, mark)).max();
        let mark = mark.unwrap_or(0);
        let before = &self.held[..self.held.len() - mark];
        mark + before.len() - trim_end(before).len()
    }

    /// Tells of text.
    fn say(&mut self, text: &str, pieces: &mut Vec<AnswerPiece>) {
        let text = match self.after_mark {
            true => text.trim_start(),
            false => text,
        };
        if text.is_empty() {
            return;
        }
        let is_after_call = self.after_mark && self.calls > 0 && self.has_text;
        let line = if is_after_call { "\n" } else { "" };
        self.after_mark = false;
        self.has_text = true;
        self.has_begun();
        pieces.push(AnswerPiece::Text(format!("{line}{text}")));
    }

    /// A thought comes before text and calls: behind them, its mark is text like any other.
    fn has_begun(&mut self) {
        self.marks.retain(|mark| *mark != THINK);
    }

    fn thought(&mut self, is_end: bool, pieces: &mut Vec<AnswerPiece>) -> bool {
        let mark = self.form.end_of_thought();
        let found = self.held.find(mark);
        let (end, state) = match found {
            Some(at) => (at, State::Text),
            None if is_end => (self.held.len(), State::Text),
            None => {
                let before = &self.held[..self.held.len() - begun(&self.held, mark)];
                (trim_end(before).len(), State::Thought)
            }
        };
        let mut text = &self.held[..end];
        if self.after_mark {
            text = text.trim_start();
        }
        if found.is_some() || is_end {
            text = trim_end(text);
        }
        if !text.is_empty() {
            self.after_mark = false;
            pieces.push(AnswerPiece::Thought(text.to_owned()));
        }
        match (found, is_end) {
            (Some(at), _) => {
                self.after_mark = true;
                self.enter(at + mark.len(), state)
            }
            (None, true) => {
                self.held.clear();
                false
            }
            (None, false) => {
                self.held.drain(..end);
                false
            }
        }
    }

    fn head(&mut self, mark: &'static str, is_end: bool, pieces: &mut Vec<AnswerPiece>) -> bool {
        let spaces = self.held.len() - self.held.trim_start().len();
        let start = match mark {
            "" => 0,
            mark => spaces + mark.len(),
        };
        let text = &self.held[start..];
        let head = match mark {
            THINK => Ok(Head::Thought { at: 0 }),
            mark => self.form.head(mark, text, is_end),
        };
        let head = match head {
            Ok(Head::MaybeArguments { name, at }) => match self.schemas.has(&name) {
                true => Ok(Head::Arguments { name, at }),
                false => Err(Miss::No),
            },
            head => head,
        };
        match head {
            Err(miss) if miss != Miss::No && !is_end => self.wait_for(miss),
            Err(_) => {
                // Text like any other, mark and all.
                let text: String = self.held.drain(..start).collect();
                self.say(&text, pieces);
                self.enter(0, State::Text)
            }
            Ok(Head::Call { name, at }) if self.has_tools => {
                self.call(name, pieces);
                self.enter(start + at, State::Arguments(ObjectEnd::default()))
            }
            Ok(Head::Arguments { name, at }) if self.has_tools => {
                self.function.clone_from(&name);
                self.arguments.clear();
                self.call(name, pieces);
                self.enter(start + at, State::List(0))
            }
            Ok(Head::Whole {
                name,
                arguments,
                at,
            }) if self.has_tools => {
                self.call(name, pieces);
                pieces.push(AnswerPiece::Arguments(arguments));
                self.enter(start + at, State::Text)
            }
            // Nobody can answer a call where there are no tools.
            Ok(
                Head::Call { at, .. }
                | Head::Arguments { at, .. }
                | Head::MaybeArguments { at, .. }
                | Head::Whole { at, .. }
                | Head::Text { at },
            ) => {
                self.after_mark = true;
                self.enter(start + at, State::Text)
            }
            Ok(Head::Thought { at }) => {
                self.after_mark = true;
                self.enter(start + at, State::Thought)
            }
        }
    }

    /// A call begins.
    fn call(&mut self, name: String, pieces: &mut Vec<AnswerPiece>) {
        self.calls += 1;
        self.after_mark = true;
        self.has_begun();
        pieces.push(AnswerPiece::Call(name));
    }

    /// The next of the arguments that come one by one, of which there were `before`.
    fn argument(&mut self, before: usize, is_end: bool, pieces: &mut Vec<AnswerPiece>) -> bool {
        let end = if before == 0 { "{}" } else { "}" };
        let (text, at, state) = match self.form.argument(&self.held) {
            // The first of a name counts: an object has it once.
            Ok(Argument::Next { name, at, .. }) if self.arguments.contains(&name) => {
                return self.enter(at, State::List(before));
            }
            Ok(Argument::Next { name, value, at }) => {
                self.arguments.insert(name.clone());
                let value = match value {
                    Written::Json(value) => value,
                    Written::Plain(text) => self.schemas.json(&self.function, &name, &text),
                };
                let open = if before == 0 { "{" } else { ", " };
                let name = serde_json::Value::from(name);
                (
                    format!("{open}{name}: {value}"),
                    at,
                    State::List(before + 1),
                )
            }
            Ok(Argument::End { at }) => (end.to_owned(), at, State::Tail),
            Err(Miss::No) => (end.to_owned(), 0, State::Text),
            // The object has no end, so that nobody takes it for whole.
            Err(_) if is_end => return self.enter(self.held.len(), State::Text),
            Err(miss) => return self.wait_for(miss),
        };
        pieces.push(AnswerPiece::Arguments(text));
        self.enter(at, state)
    }

    fn arguments(&mut self, mut end: ObjectEnd, pieces: &mut Vec<AnswerPiece>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let found = end.find(&self.held);
        let text: String = self
            .held
            .drain(..found.unwrap_or(self.held.len()))
            .collect();
        pieces.push(AnswerPiece::Arguments(text));
        match found {
            Some(_) => self.enter(0, State::Tail),
            None => {
                self.state = State::Arguments(end);
                false
            }
        }
    }
}

/// How many bytes of one of `marks` may have come without the mark, at most.
fn part_of(marks: &[&str]) -> usize {
    let longest = marks.iter().map(|mark| mark.len()).max();
    longest.unwrap_or(0).saturating_sub(1)
}

/// How many bytes at the end of `text` are the beginning of `mark`.
fn begun(text: &str, mark: &str) -> usize {
    let longest = (mark.len() - 1).min(text.len());
    // Marks begin with ASCII, so this is no place within a character.
    let ends = |n: &usize| text.as_bytes().ends_with(&mark.as_bytes()[..*n]);
    (1..=longest).rev().find(ends).unwrap_or(0)
}

impl std::fmt::Debug for AnswerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerReader")
            .field("state", &self.state)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}
