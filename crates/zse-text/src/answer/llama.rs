//! Llama 3.x: an answer that is an object, perhaps behind `<|python_tag|>`:
//!
//! ```text
//! {"name": "calculator", "parameters": {"expression": "2 + 2"}}
//! ```

use super::cursor::{Cursor, Miss};
use super::form::{Form, Head, Tail};

pub(super) struct Llama;

pub(super) const PYTHON: &str = "<|python_tag|>";

impl Form for Llama {
    fn marks(&self) -> &'static [&'static str] {
        &[PYTHON]
    }

    fn may_begin_bare(&self) -> bool {
        true
    }

    fn head(&self, _: &str, text: &str, _: bool) -> Result<Head, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        let name = cursor.call_object()?;
        Ok(Head::Call {
            name,
            at: cursor.at,
        })
    }

    fn tail(&self, text: &str, _: bool) -> Result<Tail, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        cursor.expect("}")?;
        cursor.space();
        // Several calls are no part of the form, but models write them so.
        if cursor.skip(";")? {
            cursor.space();
        }
        match cursor.peek("{")? {
            true => Ok(Tail::Call { at: cursor.at }),
            false => Ok(Tail::Text { at: cursor.at }),
        }
    }
}
