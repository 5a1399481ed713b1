//! Lines from a person (with editing and history) or from a pipe.

use std::io::{self, BufRead};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A message or a command; may have several lines.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of a pipe.
    End,
}

/// Where lines come from.
pub(super) enum Input {
    Editor(Box<DefaultEditor>),
    Pipe,
}

/// Around a message of several lines.
const QUOTES: &str = "\"\"\"";

impl Input {
    pub(super) fn new(is_interactive: bool) -> anyhow::Result<Self> {
        if !is_interactive {
            return Ok(Self::Pipe);
        }
        let config = Config::builder().auto_add_history(true).build();
        Ok(Self::Editor(Box::new(DefaultEditor::with_config(config)?)))
    }

    /// The next message: a line; lines that end with `\` and the one behind them; or all lines
    /// from `"""` to `"""`.
    pub(super) fn read(&mut self, prompt: &str) -> anyhow::Result<Line> {
        let mut text = match self.line(prompt)? {
            Line::Text(text) => text,
            other => return Ok(other),
        };
        loop {
            match open(&text) {
                Open::No => return Ok(Line::Text(text)),
                Open::Quoted(inner) => return Ok(Line::Text(inner.to_owned())),
                Open::Backslash => text.truncate(text.len() - 1),
                Open::Quote => {}
            }
            match self.line(". ")? {
                Line::Text(more) => text = format!("{text}\n{more}"),
                Line::Interrupted => return Ok(Line::Interrupted),
                Line::End => return Ok(Line::Text(text)),
            }
        }
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Line> {
        match self {
            Self::Editor(editor) => match editor.readline(prompt) {
                Ok(text) => Ok(Line::Text(text)),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(error.into()),
            },
            Self::Pipe => {
                let mut text = String::new();
                if io::stdin().lock().read_line(&mut text)? == 0 {
                    return Ok(Line::End);
                }
                Ok(Line::Text(text.trim_end_matches(['\n', '\r']).to_owned()))
            }
        }
    }
}

/// Whether a message goes on.
#[derive(Debug, PartialEq, Eq)]
enum Open<'a> {
    No,
    /// It ends with a backslash.
    Backslash,
    /// Quotes were opened.
    Quote,
    /// Quotes were opened and closed again around this.
    Quoted(&'a str),
}

fn open(text: &str) -> Open<'_> {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(rest) => match rest.trim_end().strip_suffix(QUOTES) {
            Some(inner) => Open::Quoted(inner.trim_matches('\n')),
            None => Open::Quote,
        },
        None if text.ends_with('\\') => Open::Backslash,
        None => Open::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_on_over_backslashes_and_quotes() {
        assert_eq!(open("hello"), Open::No);
        assert_eq!(open("hello \\"), Open::Backslash);
        assert_eq!(open("\"\"\"hello"), Open::Quote);
        assert_eq!(open("\"\"\"\na\n\nb\n\"\"\""), Open::Quoted("a\n\nb"));
        assert_eq!(open("\"\"\"one line\"\"\""), Open::Quoted("one line"));
        assert_eq!(open("\"\"\""), Open::Quote);
    }
}
