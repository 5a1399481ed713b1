//! A file's key-value pairs, with getters that say what is wrong.

use std::sync::Arc;

use crate::gguf::cursor::{Cursor, Fault};
use crate::gguf::header::Whole;
use crate::source::Source;
use crate::{FormatError, Problem, Value, ValueType, names};

/// The key-value pairs of a model file, e.g. `llama.context_length`.
///
/// Values stay in the file and are decoded when asked for; [`get`](Self::get) is a binary search
/// by key. A getter named for a type returns `Ok(None)` if the key is absent and
/// [`FormatError::WrongType`] if the value is of another type; integers of any width are accepted
/// where they fit. Its `require_` variant returns [`FormatError::Missing`] for an absent key.
#[derive(Debug)]
pub struct Metadata {
    source: Arc<Source>,
    /// In the order of the file.
    entries: Vec<Entry>,
    /// Indices of `entries` by key.
    by_key: Vec<u32>,
}

/// A key, and where its value stands.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) value_type: ValueType,
    /// From the start of the file.
    pub(crate) value_at: u64,
}

impl Metadata {
    /// Metadata of checked entries; refuses keys that occur twice.
    pub(crate) fn new(source: Arc<Source>, entries: Vec<Entry>) -> Result<Self, FormatError> {
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        names::sort(&mut by_key, |i| &entries[i as usize].key).map_err(|i| {
            let Entry { key, value_at, .. } = &entries[i as usize];
            let key_at = value_at - 4 - key.len() as u64;
            Fault::new("key", key_at, Problem::Duplicate).of(source.name(), Whole::Metadata(key))
        })?;
        Ok(Self {
            source,
            entries,
            by_key,
        })
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.entry(key).and_then(|entry| self.value(entry))
    }

    /// All keys and values in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((&*entry.key, self.value(entry)?)))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The path of the file, or the name given to bytes in memory; for messages.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let i = names::find(&self.by_key, |i| &self.entries[i as usize].key, key)?;
        Some(&self.entries[i as usize])
    }

    /// `None` only if someone changed the file since it was opened.
    fn value(&self, entry: &Entry) -> Option<Value<'_>> {
        let at = usize::try_from(entry.value_at).ok()?;
        Cursor::new(self.source.bytes(), at)
            .value(entry.value_type)
            .ok()
    }

    /// An error about the value of `key`.
    pub(crate) fn malformed(&self, key: &str, problem: Problem) -> FormatError {
        let at = self.entry(key).map_or(0, |entry| entry.value_at);
        Fault::new("value", at, problem).of(self.file(), Whole::Metadata(key))
    }

    fn wrong_type(&self, key: &str, expected: &'static str, found: String) -> FormatError {
        FormatError::WrongType {
            file: self.file().to_owned(),
            key: key.to_owned(),
            expected,
            found,
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.wrong_type(key, expected, value.describe())),
        }
    }

    fn list<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, FormatError> {
        self.typed(key, expected, |value| {
            value.as_array()?.iter().map(&convert).collect()
        })
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, FormatError> {
        value.ok_or_else(|| FormatError::Missing {
            file: self.file().to_owned(),
            key: key.to_owned(),
        })
    }
}

/// A getter that gives `None` for an absent key, and one that refuses it.
macro_rules! getters {
    ($($what:literal, $get:ident, $require:ident -> $ty:ty, $how:ident($convert:expr);)*) => {
        impl Metadata {$(
            #[doc = concat!("The value of `key`: ", $what, ".")]
            pub fn $get(&self, key: &str) -> Result<Option<$ty>, FormatError> {
                self.$how(key, $what, $convert)
            }

            #[doc = concat!("The value of `key`, which must be present: ", $what, ".")]
            pub fn $require(&self, key: &str) -> Result<$ty, FormatError> {
                self.required(key, self.$get(key)?)
            }
        )*}
    };
}
getters! {
    "an integer from 0 to 2^32 - 1", u32, require_u32 -> u32, typed(|v| v.as_u32());
    "an integer from 0 to 2^64 - 1", u64, require_u64 -> u64, typed(|v| v.as_u64());
    "a float", f32, require_f32 -> f32, typed(|v| v.as_f32());
    "a bool", bool, require_bool -> bool, typed(|v| v.as_bool());
    "a string of UTF-8", str, require_str -> &str, typed(|v| v.as_str());
    "a string", bytes, require_bytes -> &[u8], typed(|v| v.as_bytes());
    "an array of integers from 0 to 2^32 - 1", u32s, require_u32s -> Vec<u32>, list(|v| v.as_u32());
    "an array of integers from -2^31 to 2^31 - 1", i32s, require_i32s -> Vec<i32>,
        list(|v| v.as_i32());
    "an array of floats", f32s, require_f32s -> Vec<f32>, list(|v| v.as_f32());
    "an array of bools", bools, require_bools -> Vec<bool>, list(|v| v.as_bool());
}

impl Metadata {
    /// The value of `key`: an array of bytes, which count as unsigned.
    pub fn byte_array(&self, key: &str) -> Result<Option<Vec<u8>>, FormatError> {
        self.list(key, "an array of bytes", |value| match value {
            Value::U8(byte) => Some(byte),
            Value::I8(byte) => Some(byte.cast_unsigned()),
            _ => None,
        })
    }

    /// The value of `key`: an array of strings.
    pub fn strings<'a>(&'a self, key: &'a str) -> Result<Option<Strings<'a>>, FormatError> {
        self.typed(key, "an array of strings", |value| {
            let array = value
                .as_array()
                .filter(|a| a.element_type() == ValueType::String)?;
            let cursor = array.cursor();
            Some(Strings {
                metadata: self,
                key,
                cursor,
                left: array.len(),
            })
        })
    }

    /// The value of `key`, which must be present: an array of strings.
    pub fn require_strings<'a>(&'a self, key: &'a str) -> Result<Strings<'a>, FormatError> {
        self.required(key, self.strings(key)?)
    }
}

/// The strings of an array in order, as bytes: tokens of some vocabularies are not UTF-8.
/// Nothing is copied.
#[derive(Debug)]
pub struct Strings<'a> {
    metadata: &'a Metadata,
    key: &'a str,
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Strings<'a> {
    /// The strings as text; one that is not UTF-8 is [`FormatError::WrongType`].
    pub fn utf8(self) -> impl ExactSizeIterator<Item = Result<&'a str, FormatError>> {
        let Self { metadata, key, .. } = self;
        self.enumerate().map(move |(i, bytes)| {
            std::str::from_utf8(bytes).map_err(|_| {
                let found = format!("an array whose string {i} is not UTF-8");
                metadata.wrong_type(key, "an array of UTF-8 strings", found)
            })
        })
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        // Lengths were checked at open. Should someone have changed the file since, the rest of
        // the array reads as empty strings: its length stays what was promised.
        Some(self.cursor.string().unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}
