//! Values that JSON holds as strings.

use std::fmt;

use serde::de::{Deserializer, Visitor};

/// What `read` makes of a string, without a copy of it.
pub(crate) fn read_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    read: fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Text<T>(&'static str, fn(&str) -> Option<T>);

    impl<T> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            let unexpected = serde::de::Unexpected::Str(text);
            (self.1)(text).ok_or_else(|| E::invalid_value(unexpected, &self))
        }
    }

    deserializer.deserialize_str(Text(expected, read))
}
