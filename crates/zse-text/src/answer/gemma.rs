//! Gemma 4 and FunctionGemma, whose arguments are like JSON, but for their quotation marks:
//!
//! ```text
//! <|tool_call>call:calculator{expression:<|"|>2 + 2<|"|>}<tool_call|>
//! <start_function_call>call:calculator{expression:<escape>2 + 2<escape>}<end_function_call>
//! ```

use serde_json::{Map, Value};

use super::cursor::{Cursor, Miss, is_name};
use super::form::{Form, Head, Tail};

pub(super) struct Gemma;

pub(super) const CALL: &str = "<|tool_call>";
pub(super) const CALL_END: &str = "<tool_call|>";
pub(super) const QUOTE: &str = "<|\"|>";
pub(super) const CALL_OF_FUNCTION_GEMMA: &str = "<start_function_call>";
pub(super) const END_OF_FUNCTION_GEMMA: &str = "<end_function_call>";
pub(super) const ESCAPE: &str = "<escape>";
const THOUGHT: &str = "<|channel>";
/// Objects and lists within one another.
const MAX_DEPTH: usize = 32;

impl Form for Gemma {
    fn marks(&self) -> &'static [&'static str] {
        &[CALL, CALL_OF_FUNCTION_GEMMA, THOUGHT]
    }

    fn always(&self) -> bool {
        true
    }

    fn opening_of_thought(&self) -> &'static str {
        THOUGHT
    }

    fn end_of_thought(&self) -> &'static str {
        "<channel|>"
    }

    fn head(&self, mark: &str, text: &str, is_end: bool) -> Result<Head, Miss> {
        let mut cursor = Cursor::new(text);
        let (end, ends, quote): (_, &[&str], _) = match mark {
            THOUGHT => {
                cursor.space();
                cursor.expect("thought")?;
                return Ok(Head::Thought { at: cursor.at });
            }
            CALL => (CALL_END, &[CALL_END], QUOTE),
            _ => (END_OF_FUNCTION_GEMMA, &[END_OF_FUNCTION_GEMMA], ESCAPE),
        };
        let (body, at) = match text.find(end) {
            Some(at) => (&text[..at], at + end.len()),
            None if is_end => (text, text.len()),
            None => return Err(Miss::Until(ends)),
        };
        let (name, arguments) = call(body.trim(), quote).ok_or(Miss::No)?;
        Ok(Head::Whole {
            name,
            arguments,
            at,
        })
    }

    fn tail(&self, _: &str, _: bool) -> Result<Tail, Miss> {
        Ok(Tail::Text { at: 0 })
    }
}

/// The name and the arguments, as JSON, of a whole call.
fn call(text: &str, quote: &str) -> Option<(String, String)> {
    let text = text.strip_prefix("call:")?;
    let open = text.find('{')?;
    let name = text[..open].trim();
    let mut reader = Reader {
        rest: &text[open..],
        quote,
    };
    let arguments = reader.value(MAX_DEPTH)?;
    (is_name(name) && arguments.is_object()).then(|| (name.to_owned(), arguments.to_string()))
}

struct Reader<'a> {
    rest: &'a str,
    quote: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self, mark: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn until(&mut self, end: &str) -> Option<String> {
        let (text, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if self.skip("{") {
            let mut map = Map::new();
            while !self.skip("}") {
                let key = match self.skip(self.quote) {
                    true => {
                        let key = self.until(self.quote)?;
                        self.skip(":").then_some(key)?
                    }
                    false => self.until(":")?.trim().to_owned(),
                };
                map.insert(key, self.value(depth)?);
                self.skip(",");
            }
            return Some(map.into());
        }
        if self.skip("[") {
            let mut list = Vec::new();
            while !self.skip("]") {
                list.push(self.value(depth)?);
                self.skip(",");
            }
            return Some(list.into());
        }
        if self.skip(self.quote) {
            return self.until(self.quote).map(Value::from);
        }
        let end = self.rest.find([',', '}', ']'])?;
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let word = word.trim();
        (!word.is_empty()).then(|| serde_json::from_str(word).unwrap_or_else(|_| word.into()))
    }
}
