//! Literals of Python, in which Llama writes the arguments of calls.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Lists and dictionaries within one another.
const MAX_DEPTH: usize = 32;

/// Finds the end of an argument that comes in pieces: a comma, or the bracket that ends them all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArgumentEnd {
    depth: usize,
    place: Place,
    is_escaped: bool,
}

/// Where a literal has come to, as to its strings. Each knows the quote that began the string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    /// Behind one quote.
    Once(u8),
    /// Behind two: of an empty string, or of three.
    Twice(u8),
    /// In a string between single quotes.
    Single(u8),
    /// In a string between three, behind so many that may end it.
    Triple(u8, u8),
}

impl ArgumentEnd {
    /// Goes over the next piece; where in it the end is.
    pub(super) fn find(&mut self, text: &str) -> Option<usize> {
        use Place::{Once, Outside, Single, Triple, Twice};
        for (i, byte) in text.bytes().enumerate() {
            if self.is_escaped {
                self.is_escaped = false;
                continue;
            }
            self.place = match (self.place, byte) {
                (Once(quote), byte) if byte == quote => Twice(quote),
                (Twice(quote), byte) if byte == quote => Triple(quote, 0),
                (Single(quote) | Triple(quote, 2), byte) if byte == quote => Outside,
                (Triple(quote, n), byte) if byte == quote => Triple(quote, n + 1),
                (Once(quote) | Single(quote), byte) => {
                    self.is_escaped = byte == b'\\';
                    Single(quote)
                }
                (Triple(quote, _), byte) => {
                    self.is_escaped = byte == b'\\';
                    Triple(quote, 0)
                }
                (Outside | Twice(_), b'"' | b'\'') => Once(byte),
                (Outside | Twice(_), byte) => {
                    match byte {
                        b',' | b')' if self.depth == 0 => return Some(i),
                        b'(' | b'[' | b'{' => self.depth += 1,
                        b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    Outside
                }
            };
        }
        None
    }
}

/// The value of a literal, all of `text`.
pub(super) fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    let value = reader.value(MAX_DEPTH)?;
    reader.rest.trim_start().is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self, mark: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(mark) {
            Some(behind) => {
                self.rest = behind;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if self.skip("[") {
            return self.list("]", depth);
        }
        if self.skip("(") {
            return self.list(")", depth);
        }
        if self.skip("{") {
            let mut map = Map::new();
            while !self.skip("}") {
                let Value::String(key) = self.value(depth)? else {
                    return None;
                };
                self.skip(":").then_some(())?;
                map.insert(key, self.value(depth)?);
                self.next("}")?;
            }
            return Some(map.into());
        }
        if let Some(text) = self.string()? {
            return Some(text.into());
        }
        let rest = self.rest.trim_start();
        let end = |c: char| c.is_whitespace() || matches!(c, ',' | ']' | ')' | '}' | ':');
        let (word, rest) = rest.split_at(rest.find(end).unwrap_or(rest.len()));
        self.rest = rest;
        match word {
            "True" => Some(true.into()),
            "False" => Some(false.into()),
            "None" => Some(Value::Null),
            // Numbers, and JSON's words.
            word => serde_json::from_str(word)
                .ok()
                .or_else(|| is_number(word).then(|| word.into())),
        }
    }

    /// What is between two values, or before the end.
    fn next(&mut self, end: &str) -> Option<()> {
        let is_end = self.rest.trim_start().starts_with(end);
        (self.skip(",") || is_end).then_some(())
    }

    fn list(&mut self, end: &str, depth: usize) -> Option<Value> {
        let mut list = Vec::new();
        while !self.skip(end) {
            list.push(self.value(depth)?);
            self.next(end)?;
        }
        Some(list.into())
    }

    /// A string, if there is one: several behind one another are one. `None` if it has no end.
    fn string(&mut self) -> Option<Option<String>> {
        let mut text = None;
        let quotes = ["\"\"\"", "'''", "\"", "'"];
        while let Some(quote) = quotes.into_iter().find(|quote| self.skip(quote)) {
            let text = text.get_or_insert_with(String::new);
            loop {
                if let Some(rest) = self.rest.strip_prefix(quote) {
                    self.rest = rest;
                    break;
                }
                match self.char()? {
                    '\\' => match self.char()? {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        'b' => text.push('\u{8}'),
                        'f' => text.push('\u{c}'),
                        '\n' => {}
                        'x' => text.push(char::from_u32(self.number(2)?)?),
                        'u' => text.push(self.utf16()?),
                        'U' => text.push(char::from_u32(self.number(8)?)?),
                        c @ ('\\' | '"' | '\'') => text.push(c),
                        // Python keeps both.
                        c => text.extend(['\\', c]),
                    },
                    c => text.push(c),
                }
            }
        }
        Some(text)
    }

    fn char(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    /// The number that the next hexadecimal digits are, at most eight.
    fn number(&mut self, digits: usize) -> Option<u32> {
        (0..digits).try_fold(0, |number, _| {
            Some(number << 4 | self.char()?.to_digit(16)?)
        })
    }

    /// The character behind `\u`; as in JSON, two of them may spell one.
    fn utf16(&mut self) -> Option<char> {
        let first = self.number(4)?;
        let Some(high @ ..0x400) = first.checked_sub(0xd800) else {
            return char::from_u32(first);
        };
        self.rest = self.rest.strip_prefix("\\u")?;
        let low = self
            .number(4)?
            .checked_sub(0xdc00)
            .filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + (high << 10) + low)
    }
}

/// Whether this is a number of JSON, be it beyond those of a computer: such a one stays a text.
fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<IgnoredAny>(word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_become_json() {
        for (text, value) in [
            ("1", json!(1)),
            (" -2.5e3 ", json!(-2500.0)),
            ("12E1231", json!("12E1231")),
            ("True", json!(true)),
            ("None", json!(null)),
            ("'a\\'b'", json!("a'b")),
            (r#""\n\x41\u00fc\q""#, json!("\nA\u{fc}\\q")),
            ("\"\"\"a\nb\"\"\"", json!("a\nb")),
            (r#"'''it's "so" \n'''"#, json!("it's \"so\" \n")),
            (r#""""a "quoted" word""""#, json!("a \"quoted\" word")),
            ("'' 'a' \"\"", json!("a")),
            (
                r"'\ud83d\ude00 \U0001f600 \b\f'",
                json!("\u{1f600} \u{1f600} \u{8}\u{c}"),
            ),
            ("[1, 'x', (2,), []]", json!([1, "x", [2], []])),
            (
                "{'a': {'b': False}, \"c\": 1}",
                json!({"a": {"b": false}, "c": 1}),
            ),
        ] {
            assert_eq!(literal(text), Some(value), "{text}");
        }
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "x",
            "f(1)",
            "'a",
            "[1 2]",
            "{1: 2}",
            "1 2",
            "'\\ud800'",
            "'\\ud800x'",
            "'\\ud800\\ud800'",
            "'\\ude00'",
            "'''a''",
            &deep,
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    #[test]
    fn arguments_end_outside_of_brackets_and_quotes() {
        let find = |text: &str| ArgumentEnd::default().find(text);
        assert_eq!(find("a=1, b=2)"), Some(3));
        assert_eq!(find("a='),\\'(', b"), Some(9));
        assert_eq!(find("a=[1, (2)])"), Some(10));
        assert_eq!(find("a=[1, 2"), None);
        assert_eq!(find(r#"a="""x, "y", )""", b"#), Some(17));
        assert_eq!(find(r#"a="""x\""", """, b"#), Some(15));
        assert_eq!(find("a='', b"), Some(4));
        assert_eq!(find("a='''', b"), None);
    }
}
