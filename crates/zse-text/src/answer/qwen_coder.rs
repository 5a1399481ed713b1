//! Qwen3-Coder, whose arguments stand between tags, each on lines of its own:
//!
//! ```text
//! <tool_call>
//! <function=calculator>
//! <parameter=expression>
//! 2 + 2
//! </parameter>
//! </function>
//! </tool_call>
//! ```

use super::cursor::{Cursor, Miss, is_name};
use super::form::{Argument, Form, Head, Tail, Written};
use super::hermes::Hermes;
use crate::tools::{TOOL_CALL_CLOSE, TOOL_CALL_OPEN};

pub(super) struct QwenCoder;

pub(super) const FUNCTION: &str = "<function=";
pub(super) const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

impl Form for QwenCoder {
    fn marks(&self) -> &'static [&'static str] {
        // The first is left out at times.
        &[TOOL_CALL_OPEN, FUNCTION]
    }

    fn head(&self, mark: &str, text: &str, is_end: bool) -> Result<Head, Miss> {
        let mut cursor = Cursor::new(text);
        if mark == TOOL_CALL_OPEN {
            cursor.space();
            // Models of the family that are no coders have this form.
            if cursor.peek("{")? {
                return Hermes.head(mark, text, is_end);
            }
            cursor.expect(FUNCTION)?;
        }
        let name = cursor.until(">")?.trim();
        match is_name(name) {
            true => Ok(Head::Arguments {
                name: name.to_owned(),
                at: cursor.at,
            }),
            false => Err(Miss::No),
        }
    }

    fn argument(&self, text: &str) -> Result<Argument, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        // The end of the function may be missing.
        if cursor.skip(FUNCTION_END)? || cursor.peek(TOOL_CALL_CLOSE)? {
            return Ok(Argument::End { at: cursor.at });
        }
        cursor.expect(PARAMETER)?;
        let name = cursor.until(">")?.trim();
        let value = &text[cursor.at..];
        let length = end_of(value).ok_or(Miss::Until(&[PARAMETER_END]))?;
        let at = cursor.at + length + PARAMETER_END.len();
        let value = &value[..length];
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        Ok(Argument::Next {
            name: name.to_owned(),
            value: Written::Plain(value.to_owned()),
            at,
        })
    }

    fn tail(&self, text: &str, _: bool) -> Result<Tail, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        // Of an object, in the other form.
        while cursor.skip("}")? {
            cursor.space();
        }
        match cursor.skip(TOOL_CALL_CLOSE)? {
            true => Ok(Tail::Text { at: cursor.at }),
            false => Ok(Tail::Text { at: 0 }),
        }
    }
}

/// Where the mark is that ends a value: not within a string of a value that is JSON. Strings have no line
/// breaks, so one that seems to is none.
fn end_of(value: &str) -> Option<usize> {
    let is_json = value.trim_start().starts_with(['{', '[']);
    let (mut in_string, mut is_escaped) = (false, false);
    let mut from = 0;
    loop {
        let at = from + value[from..].find(PARAMETER_END)?;
        for byte in value[from..at].bytes() {
            match byte {
                b'\n' => in_string = false,
                _ if is_escaped => {}
                b'"' => in_string = !in_string,
                _ => {}
            }
            is_escaped = byte == b'\\' && !is_escaped;
        }
        if !(is_json && in_string) {
            return Some(at);
        }
        from = at + PARAMETER_END.len();
    }
}
