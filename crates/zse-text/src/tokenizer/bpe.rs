//! BPE with ranked merges within words (Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>),
//! over bytes as in GPT-2 or over characters as in Gemma 4.
//!
//! Own code, not the `tokenizers` crate: that one (0.22) takes 280 ms of processor time to build
//! Llama 3's tokenizer (128,000 tokens, 280,000 merges), a `String` each, and encodes 2 MB/s of
//! prose. Here both stand in a [`StringTable`] as the file spells them, the number of a merge is
//! its rank, and a pair is looked up as the string `left right`: 20 ms, and 13 MB/s.

use super::sentencepiece::SPACE;
use super::{ByteTokens, WordCache};
use crate::families::PreTokenizer;
use crate::merge::{Merger, char_lengths};
use crate::string_table::StringTable;

#[derive(Clone, Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    merges: StringTable,
    bytes: ByteTokens,
    unknown: Option<u32>,
}

impl Bpe {
    /// BPE over words that `pre` cuts.
    pub(super) fn new(
        tokens: &StringTable,
        merges: StringTable,
        pre: PreTokenizer,
        unknown: Option<u32>,
    ) -> Self {
        Self {
            pre,
            merges,
            bytes: ByteTokens::new(tokens),
            unknown,
        }
    }

    /// Whether BOS is added where the file does not say.
    pub(super) fn add_bos(&self) -> bool {
        self.pre.add_bos
    }

    /// Whether tokens are plain text with [`SPACE`] for spaces.
    pub(super) fn raw(&self) -> bool {
        self.pre.raw
    }

    /// Most bytes of a text that are one token, unless some may be none at all.
    pub(super) fn most_bytes(&self, tokens: &StringTable) -> Option<usize> {
        let has_token = |c: &char| tokens.find(c.encode_utf8(&mut [0; 4]).as_bytes()).is_some();
        let has_all = match self.raw() {
            true => self.bytes.have_all(self.unknown),
            false => ALPHABET.iter().all(has_token),
        };
        // A merge need not be a token.
        has_all.then(|| tokens.longest().max(self.merges.longest()))
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, tokens: &StringTable, text: &str, out: &mut Vec<u32>) {
        let escaped;
        let text = match self.raw() && text.contains(' ') {
            true => {
                escaped = text.replace(' ', SPACE);
                &escaped
            }
            false => text,
        };
        let mut words = WordCache::default();
        let (mut merger, mut pair, mut spelling) = (Merger::default(), Vec::new(), String::new());
        self.pre.words(text, &mut |word| {
            words.encode(word, out, |out| {
                if self.raw() {
                    return self.word(tokens, word, &mut merger, &mut pair, out);
                }
                spelling.clear();
                spelling.extend(word.bytes().map(|byte| ALPHABET[byte as usize]));
                self.word(tokens, &spelling, &mut merger, &mut pair, out);
            });
        });
    }

    /// Appends the tokens of a word in the spelling of tokens.
    fn word(
        &self,
        tokens: &StringTable,
        word: &str,
        merger: &mut Merger,
        pair: &mut Vec<u8>,
        out: &mut Vec<u32>,
    ) {
        let whole = self.pre.ignore_merges || (self.raw() && word.starts_with('\n'));
        if let Some(id) = whole.then(|| tokens.find(word.as_bytes())).flatten() {
            out.push(id);
            return;
        }
        let rank = |symbols: &[u8], left: usize| merge_rank(&self.merges, symbols, left, pair);
        merger.merge(word.as_bytes(), char_lengths(word), rank, |symbol| {
            match tokens.find(symbol) {
                Some(id) => out.push(id),
                None if self.raw() => self.bytes.encode(symbol, self.unknown, out),
                // A merge whose result is no token, or a byte that the vocabulary lacks, which
                // is left out.
                None => out.extend(
                    String::from_utf8_lossy(symbol)
                        .chars()
                        .filter_map(|c| tokens.find(c.encode_utf8(&mut [0; 4]).as_bytes())),
                ),
            }
        });
    }
}

/// How early the two symbols in `symbols`, the left one `left` bytes long, are merged. `pair` is
/// scratch space.
pub(super) fn merge_rank(
    merges: &StringTable,
    symbols: &[u8],
    left: usize,
    pair: &mut Vec<u8>,
) -> Option<u32> {
    if symbols.len() >= merges.longest() {
        return None;
    }
    pair.clear();
    pair.extend_from_slice(&symbols[..left]);
    pair.push(b' ');
    pair.extend_from_slice(&symbols[left..]);
    merges.find(pair)
}

/// GPT-2's alphabet: the character that stands for each byte in tokens. Printable bytes of Latin-1
/// stand for themselves, the others for U+0100, U+0101, ... in order.
pub(crate) const ALPHABET: [char; 256] = {
    let mut alphabet = ['\0'; 256];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 256 {
        alphabet[byte] = match byte as u8 {
            printable @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => printable as char,
            _ => {
                next += 1;
                match char::from_u32(next - 1) {
                    Some(c) => c,
                    None => panic!("U+0100 to U+0143 are characters"),
                }
            }
        };
        byte += 1;
    }
    alphabet
};

/// The bytes that a token in GPT-2's alphabet stands for; one with other characters stands for
/// itself.
pub(super) fn bytes_of(token: &[u8]) -> Vec<u8> {
    let byte = |c: char| match c {
        '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}' => Some(c as u8),
        // 0..=0x20, 0x7f..=0xa0 and 0xad, in this order.
        '\u{100}'..='\u{120}' => Some((c as u32 - 0x100) as u8),
        '\u{121}'..='\u{142}' => Some((c as u32 - 0x121 + 0x7f) as u8),
        '\u{143}' => Some(0xad),
        _ => None,
    };
    let text = std::str::from_utf8(token).ok();
    let bytes = text.and_then(|text| text.chars().map(byte).collect());
    bytes.unwrap_or_else(|| token.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_its_inverse_agree() {
        for byte in 0..=255u8 {
            let c = ALPHABET[byte as usize];
            assert_eq!(bytes_of(c.to_string().as_bytes()), [byte], "{byte:#x}");
        }
        assert_eq!(ALPHABET[b' ' as usize], 'Ġ');
        assert_eq!(bytes_of("漢".as_bytes()), "漢".as_bytes());
    }
}
