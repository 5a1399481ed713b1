//! JSON as Python's `json.dumps` writes it, which is what models were trained on.

use std::io;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};

use super::meter::{Meter, Verdict};

/// The largest `indent`.
const MAX_INDENT: usize = 16;

/// The filter `tojson` of Hugging Face's templates:
/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`. No HTML escapes.
pub(super) fn tojson(value: &Value, arguments: &Kwargs, meter: &Meter) -> Result<String, Error> {
    let ascii: Option<bool> = arguments.get("ensure_ascii")?;
    let indent: Option<Value> = arguments.get("indent")?;
    let separators: Option<(String, String)> = match arguments.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => match &pair.try_iter()?.collect::<Vec<_>>()[..] {
            [item, key] => Some((item.to_string(), key.to_string())),
            _ => return Err(invalid("separators must be a pair of strings")),
        },
        _ => None,
    };
    let sort: Option<bool> = arguments.get("sort_keys")?;
    arguments.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => {
            let width = indent.as_usize().filter(|&width| width <= MAX_INDENT);
            Some(width.ok_or_else(|| meter.stop(Verdict::Limit("the indent of JSON")))?)
        }
    };
    let item = if indent.is_some() { "," } else { ", " };
    let separators = separators.unwrap_or_else(|| (item.to_owned(), ": ".to_owned()));
    write(
        value,
        Python::new(separators, indent, ascii.unwrap_or(false)),
        sort == Some(true),
        meter,
    )
}

/// `value` as `json.dumps` writes it without further arguments.
pub(super) fn compact(value: &Value, meter: &Meter) -> Result<String, Error> {
    write(
        value,
        Python::new((", ".to_owned(), ": ".to_owned()), None, false),
        false,
        meter,
    )
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn write(value: &Value, python: Python<'_>, sort: bool, meter: &Meter) -> Result<String, Error> {
    if value.kind() == ValueKind::Undefined {
        return Err(invalid("tojson of an undefined value"));
    }
    meter.weigh(value)?;
    let mut out = Metered {
        out: Vec::new(),
        meter,
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, python);
    let written = match sort {
        false => value.serialize(&mut serializer),
        true => serde_json::to_value(value).and_then(|mut value| {
            value.sort_all_objects();
            value.serialize(&mut serializer)
        }),
    };
    written.map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}")))?;
    String::from_utf8(out.out).map_err(|_| invalid("tojson wrote what is not text"))
}

/// Collects output as long as the budget allows.
struct Metered<'m> {
    out: Vec<u8>,
    meter: &'m Meter,
}

impl io::Write for Metered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.meter
            .create(bytes.len() as u64)
            .map_err(io::Error::other)?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How `json.dumps` lays out JSON.
struct Python<'a> {
    item: String,
    key: String,
    ascii: bool,
    pretty: Option<PrettyFormatter<'a>>,
}

/// [`MAX_INDENT`] spaces.
const SPACES: &[u8] = b"                ";

impl Python<'_> {
    fn new((item, key): (String, String), indent: Option<usize>, ascii: bool) -> Self {
        let pretty = indent.map(|width| PrettyFormatter::with_indent(&SPACES[..width]));
        Self {
            item,
            key,
            ascii,
            pretty,
        }
    }
}

/// Calls the pretty formatter where there is one.
macro_rules! laid_out {
    ($($name:ident $plain:literal;)*) => {$(
        fn $name<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
            match &mut self.pretty {
                Some(pretty) => pretty.$name(writer),
                None => writer.write_all($plain),
            }
        }
    )*};
}

impl Formatter for Python<'_> {
    laid_out! {
        begin_array b"[";
        end_array b"]";
        begin_object b"{";
        end_object b"}";
        end_array_value b"";
        end_object_value b"";
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if !first {
            w.write_all(self.item.as_bytes())?;
        }
        match &mut self.pretty {
            // As for a first value: the separator is written already.
            Some(pretty) => pretty.begin_array_value(w, true),
            None => Ok(()),
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_array_value(w, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, w: &mut W, value: f64) -> io::Result<()> {
        w.write_all(float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return w.write_all(text.as_bytes());
        }
        for c in text.chars() {
            match c.is_ascii() {
                true => w.write_all(&[c as u8])?,
                false => c
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .try_for_each(|unit| write!(w, "\\u{unit:04x}"))?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(w, escape)
    }
}

/// A float as Python's `repr` writes it: Rust's shortest digits, `1e+16` and `1e-05`.
fn float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e-5, "1e-05"),
            (1.5e300, "1.5e+300"),
            (123_456.0, "123456.0"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn layouts_are_those_of_json_dumps() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"b":[1,2.0,{}],"a":"é\n\u001f<"}"#).unwrap();
        let value = Value::from(minijinja::value::Serde(&value));
        let json = |pairs: &[(&str, Value)]| {
            let arguments = Kwargs::from_iter(pairs.iter().map(|(k, v)| (*k, v.clone())));
            tojson(&value, &arguments, &Meter::new(0)).unwrap()
        };
        assert_eq!(json(&[]), r#"{"b": [1, 2.0, {}], "a": "é\n\u001f<"}"#);
        assert_eq!(
            json(&[("sort_keys", true.into()), ("ensure_ascii", true.into())]),
            r#"{"a": "\u00e9\n\u001f<", "b": [1, 2.0, {}]}"#
        );
        assert_eq!(
            json(&[("indent", 1.into())]),
            "{\n \"b\": [\n  1,\n  2.0,\n  {}\n ],\n \"a\": \"é\\n\\u001f<\"\n}"
        );
        assert_eq!(
            json(&[("separators", vec![",", ":"].into())]),
            r#"{"b":[1,2.0,{}],"a":"é\n\u001f<"}"#
        );
    }
}
