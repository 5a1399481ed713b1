//! `config.json`, with getters that say what is wrong.

use std::path::Path;

use serde_json::{Map, Value};

use crate::FormatError;
use crate::safetensors::index::{parse, read_file};

/// Most bytes of the file: its values take many times the room of their text.
pub const MAX_CONFIG: usize = 4 << 20;

/// A JSON object of a file; `null` is as good as absent.
#[derive(Debug)]
pub(crate) struct Config {
    file: String,
    /// Of an object within another: its key and a dot.
    prefix: String,
    values: Map<String, Value>,
}

impl Config {
    /// Reads a file; `None` where there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, FormatError> {
        let Some(text) = read_file(path, MAX_CONFIG)? else {
            return Ok(None);
        };
        Self::parse(&text, &path.display().to_string()).map(Some)
    }

    /// Reads the text of a file, which messages call `file`.
    pub(crate) fn parse(text: &[u8], file: &str) -> Result<Self, FormatError> {
        Ok(Self {
            values: parse(text, file)?,
            prefix: String::new(),
            file: file.to_owned(),
        })
    }

    /// The keys of the object.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// The object `key`.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, FormatError> {
        let object = self.typed(key, "an object", |v| v.as_object().cloned())?;
        Ok(object.map(|values| Self {
            file: self.file.clone(),
            prefix: format!("{}{key}.", self.prefix),
            values,
        }))
    }

    /// An object `key` without entries, as if the file had it.
    pub(crate) fn empty(&self, key: &str) -> Self {
        Self {
            file: self.file.clone(),
            prefix: format!("{}{key}.", self.prefix),
            values: Map::new(),
        }
    }

    /// Adds the entries of `defaults`, a JSON object, that the file lacks.
    pub(crate) fn with_defaults(mut self, defaults: &Value) -> Self {
        for (key, value) in defaults.as_object().into_iter().flatten() {
            if self.get(key).is_none() {
                self.values.insert(key.clone(), value.clone());
            }
        }
        self
    }

    /// An integer from 0 to 2^32 - 1.
    pub(crate) fn u32(&self, key: &str) -> Result<Option<u32>, FormatError> {
        self.typed(key, "an integer from 0 to 2^32 - 1", as_u32)
    }

    pub(crate) fn require_u32(&self, key: &str) -> Result<u32, FormatError> {
        self.required(key, self.u32(key)?)
    }

    /// A finite number.
    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>, FormatError> {
        self.typed(key, "a number", |v| v.as_f64().filter(|x| x.is_finite()))
    }

    pub(crate) fn require_f64(&self, key: &str) -> Result<f64, FormatError> {
        self.required(key, self.f64(key)?)
    }

    /// `true` or `false`; `default` where the file does not say.
    pub(crate) fn bool(&self, key: &str, default: bool) -> Result<bool, FormatError> {
        Ok(self
            .typed(key, "true or false", Value::as_bool)?
            .unwrap_or(default))
    }

    pub(crate) fn str(&self, key: &str) -> Result<Option<&str>, FormatError> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn require_str(&self, key: &str) -> Result<&str, FormatError> {
        self.required(key, self.str(key)?)
    }

    pub(crate) fn strs(&self, key: &str) -> Result<Option<Vec<&str>>, FormatError> {
        self.typed(key, "an array of strings", |v| {
            v.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    pub(crate) fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, FormatError> {
        self.typed(key, "an array of integers", |v| {
            v.as_array()?.iter().map(as_u32).collect()
        })
    }

    pub(crate) fn require_f32s(&self, key: &str) -> Result<Vec<f32>, FormatError> {
        let numbers = self.typed(key, "an array of numbers", |v| {
            let numbers = v.as_array()?.iter().map(|x| Some(x.as_f64()? as f32));
            numbers.collect()
        })?;
        self.required(key, numbers)
    }

    /// Refuses every value of `key` but those of `known`, which are JSON; an absent one is the
    /// first of them.
    pub(crate) fn allow_only(&self, key: &str, known: &[Value]) -> Result<(), FormatError> {
        match self.get(key) {
            Some(found) if !known.contains(found) => {
                let values: Vec<_> = known.iter().map(Value::to_string).collect();
                let what = match known {
                    [] => "only configurations without it are".to_owned(),
                    _ => format!("only {} is", values.join(" or ")),
                };
                Err(self.not_implemented(key, &what))
            }
            _ => Ok(()),
        }
    }

    /// An error about a value that is not implemented; `what` says what is.
    pub(crate) fn not_implemented(&self, key: &str, what: &str) -> FormatError {
        let found = self
            .values
            .get(key)
            .map_or_else(|| "absent".to_owned(), short);
        self.unusable(key, format!("is {found}, which is not implemented; {what}"))
    }

    pub(crate) fn unusable(&self, key: &str, problem: String) -> FormatError {
        FormatError::Unusable {
            file: self.file.clone(),
            field: format!("{}{key}", self.prefix),
            problem,
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.unusable(key, format!("must be {expected}, but is {}", short(value)))),
        }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, FormatError> {
        value.ok_or_else(|| self.unusable(key, "is missing; download the file again".to_owned()))
    }
}

/// Also a float without a fraction, as some tools write integers.
fn as_u32(value: &Value) -> Option<u32> {
    match value.as_u64() {
        Some(n) => n.try_into().ok(),
        None => {
            let x = value.as_f64()?;
            (x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x)).then_some(x as u32)
        }
    }
}

/// A value in a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
