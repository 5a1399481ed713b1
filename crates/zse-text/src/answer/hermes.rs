//! Hermes, Qwen and the built-in model:
//!
//! ```text
//! <tool_call>
//! {"name": "calculator", "arguments": {"expression": "2 + 2"}}
//! </tool_call>
//! ```

use super::cursor::{Cursor, Miss};
use super::form::{Form, Head, Tail};
use crate::tools::{TOOL_CALL_CLOSE, TOOL_CALL_OPEN, call};

pub(super) struct Hermes;

impl Form for Hermes {
    fn marks(&self) -> &'static [&'static str] {
        &[TOOL_CALL_OPEN]
    }

    fn head(&self, _: &str, text: &str, is_end: bool) -> Result<Head, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        match cursor.call_object() {
            Ok(name) => {
                return Ok(Head::Call {
                    name,
                    at: cursor.at,
                });
            }
            Err(Miss::More) if !is_end => return Err(Miss::More),
            Err(_) => {}
        }
        // In another order, or without arguments: by its end, which may be missing.
        let (body, at) = match text.find(TOOL_CALL_CLOSE) {
            Some(at) => (&text[..at], at + TOOL_CALL_CLOSE.len()),
            None if is_end => (text, text.len()),
            None => return Err(Miss::Until(&[TOOL_CALL_CLOSE])),
        };
        let call = call(body).ok_or(Miss::No)?;
        Ok(Head::Whole {
            name: call.name,
            arguments: call.arguments,
            at,
        })
    }

    fn tail(&self, text: &str, is_end: bool) -> Result<Tail, Miss> {
        // Without its end, a call is over where its object is: what follows is text.
        let is_rest = |c: char| c.is_whitespace() || c == '}';
        let object = text.len() - text.trim_start_matches(is_rest).len();
        match (text.find(TOOL_CALL_CLOSE), text.find(TOOL_CALL_OPEN)) {
            (Some(close), open) if open.is_none_or(|open| close < open) => Ok(Tail::Text {
                at: close + TOOL_CALL_CLOSE.len(),
            }),
            (_, Some(_)) => Ok(Tail::Text { at: object }),
            (_, None) if is_end => Ok(Tail::Text { at: object }),
            (_, None) => Err(Miss::Until(&[TOOL_CALL_CLOSE, TOOL_CALL_OPEN])),
        }
    }
}
