//! BERT's WordPiece: text is cleaned and cut into words, each word into the longest tokens that
//! fit from the left (Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>).
//!
//! Normalization is that of Hugging Face's `BertNormalizer`, with Unicode's tables of today. For
//! scripts with vowel signs and for Hangul this is not what llama.cpp does, which drops all marks
//! and keeps only the first character of a decomposition.
//!
//! In GGUF, tokens that start a word are spelled with U+2581 before them, tokens that go on in one
//! as they are.

use unicode_general_category::{GeneralCategory as G, get_general_category};
use unicode_normalization::UnicodeNormalization;

use super::sentencepiece::SPACE;
use crate::string_table::StringTable;
use crate::work;

/// Words of more characters are unknown as a whole, in BERT's own code as well.
const MAX_WORD_CHARS: usize = 100;

#[derive(Clone, Debug)]
pub(super) struct WordPiece {
    pub(super) lowercase: bool,
    pub(super) strip_accents: bool,
    pub(super) unknown: Option<u32>,
}

impl WordPiece {
    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, tokens: &StringTable, text: &str, out: &mut Vec<u32>) {
        let normalized = self.normalize(text);
        let mut spelling = String::new();
        for word in normalized.split_whitespace() {
            let mut rest = word;
            while let Some(first) = rest.chars().next() {
                // Punctuation is a word of its own.
                let end = match is_punctuation(first) {
                    true => first.len_utf8(),
                    false => rest.find(is_punctuation).unwrap_or(rest.len()),
                };
                let (word, after) = rest.split_at(end);
                rest = after;
                spelling.clear();
                spelling.extend([SPACE, word]);
                let before = out.len();
                if !self.word(tokens, &spelling, out) {
                    out.truncate(before);
                    out.extend(self.unknown);
                }
            }
        }
    }

    /// Appends the tokens of a word with [`SPACE`] before it; false if some part of it has none.
    fn word(&self, tokens: &StringTable, word: &str, out: &mut Vec<u32>) -> bool {
        if word.chars().count() > MAX_WORD_CHARS + 1 {
            return false;
        }
        let (mut start, mut least) = (0, SPACE.len());
        while start < word.len() {
            let ends = word[start..]
                .char_indices()
                .map(|(at, c)| at + c.len_utf8());
            let ends = ends
                .skip_while(|&end| end <= least)
                .take_while(|&end| end <= tokens.longest());
            let found = ends
                .inspect(|_| work::step(1))
                .filter_map(|end| Some((end, tokens.find(&word.as_bytes()[start..start + end])?)))
                .last();
            let Some((end, id)) = found else { return false };
            out.push(id);
            start += end;
            least = 0;
        }
        true
    }

    /// What BERT's normalizer makes of `text`: control characters dropped, ideographs set apart,
    /// accents and capitals removed if asked for.
    fn normalize(&self, text: &str) -> String {
        let clean = text.chars().flat_map(|c| match c {
            '\t' | '\n' | '\r' => [Some(' '), None, None],
            '\0' | '\u{fffd}' => [None; 3],
            c if is_ideograph(c) => [Some(' '), Some(c), Some(' ')],
            c => match get_general_category(c) {
                G::Control | G::Format | G::PrivateUse => [None; 3],
                _ => [Some(c), None, None],
            },
        });
        let clean = clean.flatten();
        let is_accent = |c: &char| get_general_category(*c) == G::NonspacingMark;
        let plain: String = match self.strip_accents {
            true => clean.nfd().filter(|c| !is_accent(c)).collect(),
            false => clean.collect(),
        };
        // Each character on its own: to_lowercase of a whole string minds a final sigma.
        if self.lowercase {
            plain.chars().flat_map(char::to_lowercase).collect()
        } else {
            plain
        }
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(
            get_general_category(c),
            G::ConnectorPunctuation
                | G::DashPunctuation
                | G::OpenPunctuation
                | G::ClosePunctuation
                | G::InitialPunctuation
                | G::FinalPunctuation
                | G::OtherPunctuation
        )
}

/// The blocks that BERT calls Chinese; 0x2B920 for 0x2B820 is a slip that models are trained with.
fn is_ideograph(c: char) -> bool {
    matches!(
        c as u32,
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str, lowercase: bool) -> Vec<u32> {
        let spellings = [
            "[UNK]",
            "▁un",
            "aff",
            "able",
            "▁unaffable",
            "▁,",
            "▁漢",
            "▁É",
            "▁e",
            "▁",
        ];
        let tokens = StringTable::new("test", spellings.iter().map(|s| s.as_bytes())).unwrap();
        let wordpiece = WordPiece {
            lowercase,
            strip_accents: lowercase,
            unknown: Some(0),
        };
        let mut out = Vec::new();
        wordpiece.encode(&tokens, text, &mut out);
        out
    }

    #[test]
    fn words_are_cut_into_the_longest_tokens() {
        assert_eq!(encode("unaffable unable unx", true), [4, 1, 3, 0]);
        assert_eq!(encode("un,able漢É\u{200d}", true), [1, 5, 0, 6, 8]);
        assert_eq!(encode("É", false), [7]);
        assert!(encode(" \n\u{fffd}", true).is_empty());
        assert_eq!(encode(&"un".repeat(51), true), [0]);
    }
}
