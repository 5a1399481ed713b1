//! gpt-oss: every part of an answer has a channel:
//!
//! ```text
//! <|channel|>analysis<|message|>A sum.<|end|><|start|>assistant<|channel|>commentary
//! to=functions.calculator <|constrain|>json<|message|>{"expression": "2 + 2"}<|call|>
//! ```

use super::cursor::{Cursor, Miss};
use super::form::{Form, Head, Tail};

pub(super) struct Harmony;

pub(super) const CHANNEL: &str = "<|channel|>";
pub(super) const MESSAGE: &str = "<|message|>";
pub(super) const CONSTRAIN: &str = "<|constrain|>";
pub(super) const START: &str = "<|start|>";
pub(super) const END: &str = "<|end|>";
const CALL: &str = "<|call|>";
const RETURN: &str = "<|return|>";

impl Form for Harmony {
    fn marks(&self) -> &'static [&'static str] {
        &[CHANNEL, START, END, CALL, RETURN]
    }

    fn always(&self) -> bool {
        true
    }

    fn end_of_thought(&self) -> &'static str {
        END
    }

    fn head(&self, mark: &str, text: &str, is_end: bool) -> Result<Head, Miss> {
        if mark != CHANNEL && mark != START {
            return Ok(Head::Text { at: 0 });
        }
        // A header that was cut off: its marks are never text.
        if is_end && !text.contains(MESSAGE) {
            return Ok(Head::Text { at: text.len() });
        }
        let mut cursor = Cursor::new(text);
        let head = cursor.until(MESSAGE)?;
        let at = cursor.at;
        let function = head.split_once("to=functions.").map(|(_, rest)| rest);
        if let Some(rest) = function {
            let end = |c: char| c.is_whitespace() || c == '<';
            let name = rest.split(end).next().unwrap_or_default().to_owned();
            cursor.space();
            return match cursor.peek("{")? {
                true => Ok(Head::Call {
                    name,
                    at: cursor.at,
                }),
                false => Ok(Head::Text { at }),
            };
        }
        match head.contains("analysis") {
            true => Ok(Head::Thought { at }),
            false => Ok(Head::Text { at }),
        }
    }

    fn tail(&self, _: &str, _: bool) -> Result<Tail, Miss> {
        // The marks behind a call are read where text is.
        Ok(Tail::Text { at: 0 })
    }
}
