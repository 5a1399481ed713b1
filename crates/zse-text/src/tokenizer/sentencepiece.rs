//! SentencePiece's BPE (Kudo and Richardson 2018, <https://arxiv.org/abs/1808.06226>): the pair of
//! neighbours that forms the token of the best score is joined first, the leftmost of equal ones.
//! Hugging Face's `tokenizer.json` lists the merges instead.

use memchr::memmem;

use super::bpe::merge_rank;
use super::{ByteTokens, WordCache};
use crate::merge::{Merger, char_lengths};
use crate::string_table::StringTable;

/// What stands for a space in tokens: U+2581.
pub(super) const SPACE: &str = "\u{2581}";

#[derive(Clone, Debug)]
pub(super) struct SentencePiece {
    /// One a token: lower is merged earlier.
    ranks: Vec<u32>,
    /// Where there are any, these say what is merged, and when.
    merges: StringTable,
    bytes: ByteTokens,
    unknown: Option<u32>,
    /// No token has a space behind another character, so no merge reaches into the next word.
    words_apart: bool,
}

impl SentencePiece {
    /// `scores` has one entry a token, or none.
    pub(super) fn new(
        tokens: &StringTable,
        scores: &[f32],
        merges: StringTable,
        unknown: Option<u32>,
    ) -> Self {
        let mut ranks: Vec<u32> = scores.iter().take(tokens.len()).map(|&s| rank(s)).collect();
        ranks.resize(tokens.len(), rank(0.0));
        let words_apart = !tokens.iter().any(|token| next_word(token).is_some());
        Self {
            ranks,
            merges,
            bytes: ByteTokens::new(tokens),
            unknown,
            words_apart,
        }
    }

    /// Most bytes of a text that are one token, unless some may be none at all.
    pub(super) fn most_bytes(&self, tokens: &StringTable) -> Option<usize> {
        // A character that is no token may be the unknown one.
        let has_all = self.bytes.have_all(self.unknown);
        has_all.then(|| tokens.longest().max(char::MAX.len_utf8()))
    }

    /// Appends the tokens of `text`; `prefix` puts a space before it.
    pub(super) fn encode(
        &self,
        tokens: &StringTable,
        text: &str,
        prefix: bool,
        out: &mut Vec<u32>,
    ) {
        let mut escaped = text.replace(' ', SPACE);
        if prefix {
            escaped.insert_str(0, SPACE);
        }
        let (mut merger, mut pair) = (Merger::default(), Vec::new());
        let mut words = WordCache::default();
        let mut rest = &escaped[..];
        while !rest.is_empty() {
            let end = if self.words_apart {
                next_word(rest.as_bytes())
            } else {
                None
            };
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            words.encode(word, out, |out| {
                self.word(tokens, word, &mut merger, &mut pair, out);
            });
            rest = after;
        }
    }

    fn word(
        &self,
        tokens: &StringTable,
        word: &str,
        merger: &mut Merger,
        pair: &mut Vec<u8>,
        out: &mut Vec<u32>,
    ) {
        let rank = |symbols: &[u8], left| match self.merges.is_empty() {
            true => tokens.find(symbols).map(|id| self.ranks[id as usize]),
            false => merge_rank(&self.merges, symbols, left, pair),
        };
        merger.merge(
            word.as_bytes(),
            char_lengths(word),
            rank,
            |symbol| match tokens.find(symbol) {
                Some(id) => out.push(id),
                None => self.bytes.encode(symbol, self.unknown, out),
            },
        );
    }
}

/// Where the second word of `text` starts: at the first [`SPACE`] behind something else.
fn next_word(text: &[u8]) -> Option<usize> {
    let spaces = memmem::find_iter(text, SPACE);
    spaces
        .into_iter()
        .find(|&at| at > 0 && !text[..at].ends_with(SPACE.as_bytes()))
}

/// Orders scores, best first; a NaN comes last.
fn rank(score: f32) -> u32 {
    if score.is_nan() {
        return u32::MAX;
    }
    let bits = (score + 0.0).to_bits(); // -0 becomes 0
    let ascending = if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_scores_from_the_best() {
        let scores = [f32::INFINITY, 2.0, 0.5, 0.0, -0.5, -1e30, f32::NEG_INFINITY];
        assert!(scores.map(rank).is_sorted());
        assert_eq!(rank(0.0), rank(-0.0));
        assert!(rank(f32::NAN) > rank(f32::NEG_INFINITY));
    }
}
