//! Rust code without its comments and literals.

/// `source` with every comment, string and character replaced by blanks. Lines stay lines, so
/// that a place in the result is a place in the source.
pub(super) fn only_code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let literal = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => 1 + quoted(&rest[1..], '"'),
            '\'' => character(rest),
            'r' | 'b' | 'c' if !out.ends_with(is_word) => prefixed_string(rest),
            _ => 0,
        };
        let len = if literal == 0 {
            first.len_utf8()
        } else {
            literal
        };
        let (piece, tail) = rest.split_at(len);
        if literal == 0 {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    out
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes up to and with the closing quote; all if there is none.
fn quoted(body: &str, quote: char) -> usize {
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return at + c.len_utf8();
        }
        if c == '\\' {
            chars.next();
        }
    }
    body.len()
}

/// Bytes of a block comment, which may contain others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Bytes of a character literal; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => 1 + quoted(&rest[1..], '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// Bytes of a string with a prefix (`b""`, `r#""#`, `br""`, `c""`, ...); 0 for anything else.
fn prefixed_string(rest: &str) -> usize {
    let letters = rest
        .find(|c: char| !matches!(c, 'r' | 'b' | 'c'))
        .unwrap_or(rest.len());
    let body = &rest[letters..];
    if rest[..letters].ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        return match body[hashes..].strip_prefix('"') {
            Some(text) => {
                let head = letters + hashes + 1;
                text.find(&end)
                    .map_or(rest.len(), |at| head + at + end.len())
            }
            None => 0,
        };
    }
    body.strip_prefix('"')
        .map_or(0, |text| letters + 1 + quoted(text, '"'))
}

#[cfg(test)]
mod tests {
    use super::only_code;

    #[test]
    fn comments_and_literals_are_blank() {
        let cases = [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("a \" b", c)"#, "f(        , c)"),
            (r##"f(r#"a " b"#, c)"##, "f(           , c)"),
            (r#"f(b"x", br"\", c"z")"#, "f(    ,      ,     )"),
            (
                r"['a', '\'', b'\\', '\u{1F600}']",
                "[   ,     , b    ,            ]",
            ),
            ("&'a str, 'static", "&'a str, 'static"),
            ("for_r\"\"", "for_r  "),
        ];
        for (source, code) in cases {
            let only = only_code(source);
            assert_eq!(
                only.split_whitespace().collect::<Vec<_>>().join(" "),
                code.split_whitespace().collect::<Vec<_>>().join(" "),
                "{source}"
            );
            assert_eq!(only.lines().count(), source.lines().count(), "{source}");
        }
    }

    #[test]
    fn what_is_never_closed_is_blank_to_the_end() {
        for source in ["\"abc", "/* abc", "r#\"abc\"", "'\\", "b\"abc\\"] {
            assert_eq!(only_code(source).trim(), "", "{source}");
        }
    }
}
