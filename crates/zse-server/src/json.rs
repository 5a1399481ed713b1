//! Reading JSON from strangers: as many values as an honest request has.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::ApiError;

/// Most values: each takes some 80 bytes, however short it is written. Of texts as tokens there may be
/// many in one request.
const MAX_VALUES: usize = 1 << 19;
/// As how many values an object counts, and each of its fields, with what they hold: they take so much more of
/// memory and time than the items of a list.
const OF_OBJECTS: usize = 8;

/// The value that `text` is.
///
/// # Errors
/// If it is no JSON, or has more values within one another or in all than may be.
pub(crate) fn read(text: &[u8]) -> Result<Value, ApiError> {
    let left = Cell::new(MAX_VALUES);
    // It knows how deep it is.
    let mut from = serde_json::Deserializer::from_slice(text);
    let value = Reader(&left).deserialize(&mut from);
    let value = value.and_then(|value| from.end().map(|()| value));
    value.map_err(|error| ApiError::invalid(format!("the body is not valid JSON: {error}")))
}

/// Refuses what an object has beside `known` fields, by name: `at` is where the object stands. `null` counts
/// as absent, and what is no object has no fields.
///
/// # Errors
/// If there is another field.
pub(crate) fn only(at: &str, object: &Value, known: &[&str]) -> Result<(), ApiError> {
    match object.as_object() {
        None => Ok(()),
        Some(fields) => only_of(at, fields, known),
    }
}

/// The same of an object's fields.
///
/// # Errors
/// If there is another field.
pub(crate) fn only_of(
    at: &str,
    fields: &Map<String, Value>,
    known: &[&str],
) -> Result<(), ApiError> {
    let mut fields = fields.iter();
    let other = fields.find(|(name, value)| !value.is_null() && !known.contains(&name.as_str()));
    match other {
        None => Ok(()),
        Some((name, _)) => Err(ApiError::unknown(&format!("{at}.{name}"))),
    }
}

/// Reads a value while there may be more.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a Cell<usize>);

impl Reader<'_> {
    /// Counts so many values.
    fn count<E: Error>(self, values: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(values);
        let most = || {
            E::custom(format_args!(
                "it has more than {MAX_VALUES} values (an object counts as {OF_OBJECTS}, and so does each \
                 field)"
            ))
        };
        self.0.set(left.ok_or_else(most)?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.count(1)?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.count(OF_OBJECTS - 1)?;
        let mut values = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            self.count(OF_OBJECTS - 1)?;
            values.insert(key, from.next_value_seed(self)?);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        for text in [
            "null",
            r#"{"b": [1, -2, 0.5, 1e300, true, "\u00e9", {}], "a": {"b": null}}"#,
            "18446744073709551615",
            r#"{"a": 1, "a": 2}"#,
            " [ ] ",
        ] {
            let value: Value = serde_json::from_str(text).expect(text);
            let read = read(text.as_bytes()).expect(text);
            assert_eq!(read, value);
            assert_eq!(read.to_string(), value.to_string(), "in order");
        }
    }

    #[test]
    fn what_is_no_json_or_too_much_of_it_is_refused() {
        let most = "0,".repeat(MAX_VALUES - 2) + "0";
        assert!(read(format!("[{most}]").as_bytes()).is_ok());
        let fields = r#""a":1,"#.repeat(MAX_VALUES / OF_OBJECTS) + r#""a":1"#;
        let objects = "{},".repeat(MAX_VALUES / OF_OBJECTS) + "{}";
        // As many messages as a conversation may have.
        let message = r#"{"role":"user","content":[{"type":"text","text":"a"}]},"#;
        assert!(read(format!("[{}1]", message.repeat(10_000)).as_bytes()).is_ok());
        for (text, why) in [
            ("", "EOF"),
            ("{} x", "trailing"),
            (r#"{"a": 1e999}"#, "out of range"),
            (&"[".repeat(1000), "recursion limit"),
            (&format!("[{most},0]"), "more than 524288 values"),
            (&format!("[{{}},{most}]"), "more than 524288 values"),
            (&format!("{{{fields}}}"), "more than 524288 values"),
            (&format!("[{objects}]"), "more than 524288 values"),
        ] {
            let error = read(text.as_bytes()).expect_err(why).body().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
