//! A position in a file's bytes that moves only over what is really there.

use std::fmt::Display;

use super::limits::MAX_NESTING;
use crate::{Array, FormatError, Problem, Value, ValueType};

/// A [`FormatError::Malformed`] in the making: which part is wrong is known where it is read,
/// which key or tensor it belongs to a level above.
#[derive(Debug)]
pub(crate) struct Fault {
    part: &'static str,
    offset: u64,
    problem: Problem,
}

impl Fault {
    pub(crate) fn new(part: &'static str, offset: u64, problem: Problem) -> Self {
        Self {
            part,
            offset,
            problem,
        }
    }

    /// The error, once it is known what the part is a part of.
    pub(crate) fn of(self, file: &str, whole: impl Display) -> FormatError {
        FormatError::Malformed {
            file: file.to_owned(),
            field: format!("{} of {whole}", self.part),
            offset: self.offset,
            problem: self.problem,
        }
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// Reads little-endian fields one after the other.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Never beyond the end of `bytes`.
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor that stands at byte `at`, or at the end if that is earlier.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at: at.min(bytes.len()),
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.at as u64
    }

    pub(crate) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    pub(crate) fn take(&mut self, len: u64, part: &'static str) -> Result<&'a [u8], Fault> {
        if len > self.left() {
            let problem = Problem::CutOff {
                needed: len,
                left: self.left(),
            };
            return Err(Fault::new(part, self.offset(), problem));
        }
        let start = self.at;
        self.at += len as usize; // `len` is at most the length of a slice
        Ok(&self.bytes[start..self.at])
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], Fault> {
        let bytes = self.take(N as u64, part)?;
        Ok(bytes.try_into().expect("take returns the length asked for"))
    }

    pub(crate) fn u32(&mut self, part: &'static str) -> Result<u32, Fault> {
        self.array(part).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, part: &'static str) -> Result<u64, Fault> {
        self.array(part).map(u64::from_le_bytes)
    }

    /// A count of entries of at least `least_bytes` each.
    pub(crate) fn count(&mut self, part: &'static str, least_bytes: usize) -> Result<u64, Fault> {
        let offset = self.offset();
        let count = self.u64(part)?;
        let most = self.left() / least_bytes as u64;
        if count > most {
            return Err(Fault::new(part, offset, Problem::TooMany { count, most }));
        }
        Ok(count)
    }

    /// A value type's id.
    pub(crate) fn value_type(&mut self, part: &'static str) -> Result<ValueType, Fault> {
        let offset = self.offset();
        let found = self.u32(part)?;
        ValueType::from_id(found)
            .ok_or_else(|| Fault::new(part, offset, Problem::UnknownValueType { found }))
    }

    /// A length and as many bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.count("string length", 1)?;
        self.take(len, "string")
    }

    /// A name: UTF-8 of 1 to `most` bytes.
    pub(crate) fn name(&mut self, part: &'static str, most: u64) -> Result<&'a str, Fault> {
        let offset = self.offset();
        let len = self.u64(part)?;
        if len == 0 || len > most {
            let problem = Problem::OutOfRange {
                value: len,
                least: 1,
                most,
            };
            return Err(Fault::new(part, offset, problem));
        }
        let bytes = self.take(len, part)?;
        std::str::from_utf8(bytes).map_err(|_| Fault::new(part, offset + 8, Problem::NotUtf8))
    }

    fn bool(&mut self) -> Result<bool, Fault> {
        let offset = self.offset();
        match self.array("value")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(Fault::new("value", offset, Problem::NotBool { found })),
        }
    }

    /// A value of type `ty`. After an array's head the cursor stands at its first element;
    /// [`check_elements`](Self::check_elements) moves on.
    pub(crate) fn value(&mut self, ty: ValueType) -> Result<Value<'a>, Fault> {
        let part = "value";
        Ok(match ty {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array(part)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array(part)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array(part)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array(part)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.array(part)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array(part)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.array(part)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array(part)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array(part)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array(part)?)),
            ValueType::Bool => Value::Bool(self.bool()?),
            ValueType::String => Value::String(self.string()?),
            ValueType::Array => {
                let element_type = self.value_type("element type")?;
                let len = self.count("array length", element_type.least_bytes())?;
                Value::Array(Array::new(element_type, len, &self.bytes[self.at..]))
            }
        })
    }

    /// Moves over a value of type `ty`, checking all of it.
    pub(crate) fn check_value(&mut self, ty: ValueType) -> Result<(), Fault> {
        match self.value(ty)? {
            Value::Array(array) => self.check_elements(array, 1),
            _ => Ok(()),
        }
    }

    /// Moves over the elements of an array that stands on nesting level `level` (from 1).
    pub(crate) fn check_elements(&mut self, array: Array<'a>, level: u32) -> Result<(), Fault> {
        let len = array.len() as u64;
        match array.element_type() {
            ValueType::Bool => (0..len).try_for_each(|_| self.bool().map(drop)),
            ValueType::String => (0..len).try_for_each(|_| self.string().map(drop)),
            ValueType::Array if level >= MAX_NESTING => {
                let problem = Problem::TooDeep { most: MAX_NESTING };
                Err(Fault::new("array", self.offset(), problem))
            }
            ValueType::Array => (0..len).try_for_each(|_| {
                let Value::Array(inner) = self.value(ValueType::Array)? else {
                    return Ok(()); // `value` gives the type it is asked for
                };
                self.check_elements(inner, level + 1)
            }),
            // The array's head was refused unless all elements fit.
            fixed => self
                .take(len * fixed.least_bytes() as u64, "array")
                .map(drop),
        }
    }
}
