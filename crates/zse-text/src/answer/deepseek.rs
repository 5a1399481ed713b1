//! DeepSeek: V3 and R1 with the arguments in a block of code, V3.1 without:
//!
//! ```text
//! <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>calculator<｜tool▁sep｜>{"expression": "2 + 2"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>
//! ```

use super::cursor::{Cursor, Miss, is_name};
use super::form::{Form, Head, Tail};

pub(super) struct DeepSeek;

pub(super) const CALLS: &str = "<｜tool▁calls▁begin｜>";
pub(super) const CALLS_END: &str = "<｜tool▁calls▁end｜>";
pub(super) const CALL: &str = "<｜tool▁call▁begin｜>";
pub(super) const CALL_END: &str = "<｜tool▁call▁end｜>";
pub(super) const SEPARATOR: &str = "<｜tool▁sep｜>";
pub(super) const CODE: &str = "```json";

impl Form for DeepSeek {
    fn marks(&self) -> &'static [&'static str] {
        &[CALLS, CALL]
    }

    fn head(&self, _: &str, text: &str, _: bool) -> Result<Head, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        cursor.skip(CALL)?;
        let mut name = cursor.until(SEPARATOR)?.trim();
        cursor.space();
        if !cursor.peek("{")? {
            // What was before is the kind of the tool.
            name = cursor.until(CODE)?.trim();
            cursor.space();
        }
        match cursor.peek("{")? && is_name(name) {
            true => Ok(Head::Call {
                name: name.to_owned(),
                at: cursor.at,
            }),
            false => Err(Miss::No),
        }
    }

    fn tail(&self, text: &str, _: bool) -> Result<Tail, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        cursor.skip("```")?;
        cursor.space();
        cursor.expect(CALL_END)?;
        let end = cursor.at;
        cursor.space();
        match cursor.peek(CALL) {
            Ok(true) => return Ok(Tail::Call { at: cursor.at }),
            Ok(false) => {}
            Err(miss) => return Err(miss),
        }
        match cursor.skip(CALLS_END)? {
            true => Ok(Tail::Text { at: cursor.at }),
            false => Ok(Tail::Text { at: end }),
        }
    }
}
