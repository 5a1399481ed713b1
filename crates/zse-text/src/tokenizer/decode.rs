//! Tokens to text: whole, or as they come.

use super::{Inner, Segmenter, Tokenizer};
use crate::vocab::TokenKind;

impl Tokenizer {
    /// The text of `ids`, without control tokens if `skip_special`. Bytes that are not UTF-8 become
    /// U+FFFD.
    ///
    /// What [`encode`](Self::encode) gives for a text decodes to that text, except where the
    /// tokenizer itself loses something (WordPiece, tokens that swallow spaces).
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        let mut at_start = true;
        for &id in ids {
            self.0.append(id, skip_special, &mut at_start, &mut bytes);
        }
        String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// A decoder for tokens that come one at a time. Control tokens are left out.
    pub fn stream(&self) -> DecodeStream {
        DecodeStream {
            tokenizer: self.clone(),
            skip_special: true,
            at_start: true,
            pending: Vec::new(),
        }
    }
}

/// Whether a token stands for no text.
fn is_mark(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Control | TokenKind::Unknown)
}

/// Whether a token is made of the text around what is cut out of it.
fn is_text(kind: TokenKind) -> bool {
    !is_mark(kind) && kind != TokenKind::UserDefined
}

impl Inner {
    /// Appends what token `id` adds to a text. `at_start` says, and is told, whether a space that
    /// encoding put in comes next.
    fn append(&self, id: u32, skip_special: bool, at_start: &mut bool, out: &mut Vec<u8>) {
        let Some(&kind) = self.kinds.get(id as usize) else {
            return;
        };
        let (mark, text) = (is_mark(kind), is_text(kind));
        // Encoding puts a space behind what is cut out of a text, as it does at the start.
        *at_start |= !text && self.add_space_behind_special;
        if mark && skip_special {
            return;
        }
        let bytes = self.bytes(id);
        let prefixed = self.add_space_prefix || matches!(self.segmenter, Segmenter::WordPiece(_));
        let bytes = match bytes.strip_prefix(b" ") {
            Some(rest) if *at_start && text && prefixed => rest,
            _ => &bytes,
        };
        *at_start &= !text;
        out.extend_from_slice(bytes);
    }
}

/// Decodes tokens as they come, without ever splitting a character.
///
/// What all calls return, put together, is what [`Tokenizer::decode`] makes of all the tokens.
///
/// ```no_run
/// # fn example(tokenizer: &zse_text::Tokenizer, generated: &[u32]) {
/// let mut stream = tokenizer.stream();
/// for &id in generated {
///     print!("{}", stream.push(id));
/// }
/// println!("{}", stream.flush());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DecodeStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    at_start: bool,
    /// The start of a character whose other bytes have not come yet.
    pending: Vec<u8>,
}

impl DecodeStream {
    /// Goes on behind `prompt`: in the middle of a text, a leading space is a space, not one that
    /// encoding put in.
    pub fn after(mut self, prompt: &[u32]) -> Self {
        let inner = &self.tokenizer.0;
        let known = |id: &u32| inner.kinds.get(*id as usize);
        // The last token that says so decides: text, or what has a space put in behind it.
        let last = prompt.iter().rev().filter_map(known).find_map(|kind| {
            let is_text = is_text(*kind);
            (is_text || inner.add_space_behind_special).then_some(!is_text)
        });
        self.at_start = last.unwrap_or(self.at_start);
        self
    }

    /// Spells control tokens out too.
    pub fn show_special(mut self) -> Self {
        self.skip_special = false;
        self
    }

    /// The text that token `id` completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> String {
        self.tokenizer
            .0
            .append(id, self.skip_special, &mut self.at_start, &mut self.pending);
        let mut text = String::new();
        let mut rest = &self.pending[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = tail;
                    // Without a length the tail may yet become a character.
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        text
    }

    /// The end of the text: U+FFFD if it stopped in the middle of a character.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}
