//! Mistral: a list of objects, or since the eleventh version of its form name and arguments:
//!
//! ```text
//! [TOOL_CALLS][{"name": "calculator", "arguments": {"expression": "2 + 2"}, "id": "123456789"}]
//! [TOOL_CALLS]calculator[ARGS]{"expression": "2 + 2"}
//! ```

use super::cursor::{Cursor, Miss, is_name};
use super::form::{Form, Head, Tail};

pub(super) struct Mistral;

pub(super) const CALLS: &str = "[TOOL_CALLS]";
pub(super) const ARGUMENTS: &str = "[ARGS]";
const ID: &str = "[CALL_ID]";
const THOUGHT: &str = "[THINK]";

impl Form for Mistral {
    fn marks(&self) -> &'static [&'static str] {
        &[CALLS, THOUGHT]
    }

    fn always(&self) -> bool {
        true
    }

    fn opening_of_thought(&self) -> &'static str {
        THOUGHT
    }

    fn end_of_thought(&self) -> &'static str {
        "[/THINK]"
    }

    fn head(&self, mark: &str, text: &str, _: bool) -> Result<Head, Miss> {
        if mark == THOUGHT {
            return Ok(Head::Thought { at: 0 });
        }
        let mut cursor = Cursor::new(text);
        cursor.space();
        if cursor.skip("[")? {
            cursor.space();
        }
        if cursor.peek("{")? {
            let name = cursor.call_object()?;
            return Ok(Head::Call {
                name,
                at: cursor.at,
            });
        }
        let head = cursor.until("{")?;
        let head = head.trim();
        let head = head.strip_suffix(ARGUMENTS).unwrap_or(head);
        let name = head.split(ID).next().unwrap_or_default();
        match is_name(name) {
            true => Ok(Head::Call {
                name: name.to_owned(),
                at: cursor.at - 1,
            }),
            false => Err(Miss::No),
        }
    }

    fn tail(&self, text: &str, _: bool) -> Result<Tail, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        // An id may stand behind the arguments.
        while cursor.skip(",")? {
            cursor.space();
            cursor.string()?;
            cursor.space();
            cursor.expect(":")?;
            cursor.space();
            cursor.string()?;
            cursor.space();
        }
        cursor.expect("}")?;
        cursor.space();
        if cursor.skip(",")? {
            cursor.space();
            return Ok(Tail::Call { at: cursor.at });
        }
        cursor.expect("]")?;
        Ok(Tail::Text { at: cursor.at })
    }
}
