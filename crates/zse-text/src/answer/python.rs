//! Literals of Python, in which Llama writes the arguments of calls.

use serde_json::{Map, Value};

/// Lists and dictionaries within one another.
const MAX_DEPTH: usize = 32;

/// Finds the end of an argument that comes in pieces: a comma, or the bracket that ends them all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArgumentEnd {
    depth: usize,
    quote: Option<u8>,
    is_escaped: bool,
}

impl ArgumentEnd {
    /// Goes over the next piece; where in it the end is.
    pub(super) fn find(&mut self, text: &str) -> Option<usize> {
        for (i, byte) in text.bytes().enumerate() {
            match (byte, self.quote) {
                _ if self.is_escaped => self.is_escaped = false,
                (b'\\', Some(_)) => self.is_escaped = true,
                (byte, Some(quote)) if byte == quote => self.quote = None,
                (_, Some(_)) => {}
                (b'"' | b'\'', None) => self.quote = Some(byte),
                (b',' | b')', None) if self.depth == 0 => return Some(i),
                (b'(' | b'[' | b'{', None) => self.depth += 1,
                (b')' | b']' | b'}', None) => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
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
    fn skip(&mut self, mark: char) -> bool {
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
        if self.skip('[') {
            return self.list(']', depth);
        }
        if self.skip('(') {
            return self.list(')', depth);
        }
        if self.skip('{') {
            let mut map = Map::new();
            while !self.skip('}') {
                let Value::String(key) = self.value(depth)? else {
                    return None;
                };
                self.skip(':').then_some(())?;
                map.insert(key, self.value(depth)?);
                self.next('}')?;
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
            word => serde_json::from_str(word).ok(),
        }
    }

    /// What is between two values, or before the end.
    fn next(&mut self, end: char) -> Option<()> {
        let is_end = self.rest.trim_start().starts_with(end);
        (self.skip(',') || is_end).then_some(())
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Value> {
        let mut list = Vec::new();
        while !self.skip(end) {
            list.push(self.value(depth)?);
            self.next(end)?;
        }
        Some(list.into())
    }

    /// A string, if there is one: several behind one another are one, and so are those between three
    /// quotes. `None` if it has no end.
    fn string(&mut self) -> Option<Option<String>> {
        let mut text = None;
        while let Some(quote) = ['"', '\''].into_iter().find(|&quote| self.skip(quote)) {
            let text = text.get_or_insert_with(String::new);
            let mut chars = self.rest.char_indices();
            loop {
                match chars.next()? {
                    (i, c) if c == quote => {
                        self.rest = &self.rest[i + 1..];
                        break;
                    }
                    (_, '\\') => match chars.next()?.1 {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        '\n' => {}
                        'x' => text.push(code(&mut chars, 2)?),
                        'u' => text.push(code(&mut chars, 4)?),
                        c @ ('\\' | '"' | '\'') => text.push(c),
                        // Python keeps both.
                        c => text.extend(['\\', c]),
                    },
                    (_, c) => text.push(c),
                }
            }
        }
        Some(text)
    }
}

/// The character whose number the next hexadecimal digits are.
fn code(chars: &mut std::str::CharIndices<'_>, digits: usize) -> Option<char> {
    let mut number = 0;
    for _ in 0..digits {
        number = 16 * number + chars.next()?.1.to_digit(16)?;
    }
    char::from_u32(number)
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
            ("True", json!(true)),
            ("None", json!(null)),
            ("'a\\'b'", json!("a'b")),
            (r#""\n\x41\u00fc\q""#, json!("\nA\u{fc}\\q")),
            ("\"\"\"a\nb\"\"\"", json!("a\nb")),
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
    }
}
