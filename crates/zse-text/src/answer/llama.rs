//! Llama: an answer that is an object, perhaps behind `<|python_tag|>` (3.x), or a list of calls in
//! Python (3.2 and 4):
//!
//! ```text
//! {"name": "calculator", "parameters": {"expression": "2 + 2"}}
//! [calculator(expression="2 + 2")]
//! ```

use super::cursor::{Cursor, Miss};
use super::form::{Argument, Form, Head, Tail, Written};
use super::python::{ArgumentEnd, literal};
use crate::grammar::{is_no_part_of_python_name, is_python_name};

pub(super) struct Llama;

pub(super) const PYTHON: &str = "<|python_tag|>";
pub(super) const PYTHON_START: &str = "<|python_start|>";
const PYTHON_END: &str = "<|python_end|>";

impl Form for Llama {
    fn marks(&self) -> &'static [&'static str] {
        &[PYTHON, PYTHON_START]
    }

    fn bare(&self) -> &'static [char] {
        &['{', '[']
    }

    fn head(&self, mark: &str, text: &str, _: bool) -> Result<Head, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        let is_list = cursor.skip("[")?;
        cursor.space();
        if cursor.peek("{")? {
            let name = cursor.call_object()?;
            return Ok(Head::Call {
                name,
                at: cursor.at,
            });
        }
        let name = cursor.name()?.to_owned();
        cursor.expect("(")?;
        let at = cursor.at;
        // Else it is text with a list in it, or a program.
        cursor.space();
        if !cursor.peek(")")? {
            let argument = cursor.before(is_no_part_of_python_name)?;
            cursor.expect("=")?;
            if !is_python_name(argument) {
                return Err(Miss::No);
            }
        }
        // A program may stand behind the mark, too.
        Ok(match is_list || mark.is_empty() {
            true => Head::Arguments { name, at },
            false => Head::MaybeArguments { name, at },
        })
    }

    fn argument(&self, text: &str) -> Result<Argument, Miss> {
        let end = ArgumentEnd::default().find(text).ok_or(Miss::Literal)?;
        let (argument, behind) = text.split_at(end);
        let is_last = behind.starts_with(')');
        if argument.trim().is_empty() && is_last {
            return Ok(Argument::End { at: end + 1 });
        }
        let (name, value) = argument.split_once('=').ok_or(Miss::No)?;
        let name = name.trim();
        let value = literal(value).filter(|_| is_python_name(name));
        let value = value.ok_or(Miss::No)?;
        Ok(Argument::Next {
            name: name.to_owned(),
            value: Written::Json(value.to_string()),
            at: if is_last { end } else { end + 1 },
        })
    }

    fn tail(&self, text: &str, _: bool) -> Result<Tail, Miss> {
        let mut cursor = Cursor::new(text);
        cursor.space();
        let is_object = cursor.skip("}")?;
        cursor.space();
        if cursor.skip("]")? {
            cursor.space();
            cursor.skip(PYTHON_END)?;
            return Ok(Tail::Text { at: cursor.at });
        }
        let end = cursor.at;
        // Objects behind one another are no part of the form, but models write them so.
        let is_list = cursor.skip(",")? || is_object && cursor.skip(";")?;
        cursor.space();
        match (is_object, is_list) {
            (false, false) => Err(Miss::No),
            (false, true) => Ok(Tail::Call { at: cursor.at }),
            (true, _) if cursor.peek("{")? => Ok(Tail::Call { at: cursor.at }),
            (true, _) => Ok(Tail::Text { at: end }),
        }
    }
}
