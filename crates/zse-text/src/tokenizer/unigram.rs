//! Unigram language models (Kudo 2018, <https://arxiv.org/abs/1804.10959>): of all ways to cut a
//! text into tokens the one of the best sum of scores, found by Viterbi's algorithm.
//!
//! Three libraries cut texts so, and differ in what they do to a text first and in how they add up
//! scores, which decides between cuts that are as good: SentencePiece, which trains the models,
//! `tokenizers`, which transformers runs them with, and llama.cpp.

use std::borrow::Cow;

use zse_format::Metadata;
use zse_format::hf::tokenizer::keys;

use super::charsmap::Charsmap;
use super::sentencepiece::SPACE;
use super::{ByteTokens, WordCache};
use crate::TextError;
use crate::string_table::StringTable;
use crate::vocab::{TokenKind, Vocab};
use crate::work;

/// Tokens of more bytes are never found, so that no text takes long; the longest known have 60.
const MAX_TOKEN: usize = 512;

/// How much worse a character without a token is than the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;

/// What a Unigram tokenizer does beside choosing tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnigramRules {
    /// SentencePiece's map of characters (`precompiled_charsmap`); empty: they stay as they are.
    pub charsmap: Vec<u8>,
    /// Whose rules hold.
    pub library: UnigramLibrary,
    /// SentencePiece and llama.cpp: spaces at both ends go, and runs of them become one.
    pub remove_extra_whitespaces: bool,
    /// `tokenizers`: whitespace at the end goes.
    pub strip_right: bool,
    /// `tokenizers`: runs of spaces become one.
    pub collapse_spaces: bool,
    /// `tokenizers`: words are what stands between whitespace, with a space before each.
    pub split_whitespace: bool,
    /// `tokenizers`: no token reaches into the next word.
    pub split_words: bool,
}

/// A library whose rules a Unigram tokenizer keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnigramLibrary {
    /// SentencePiece's rules for text; sums in double precision.
    #[default]
    LlamaCpp,
    /// Sums over the whole text in single precision.
    SentencePiece,
    /// Characters are replaced by grapheme clusters; sums in double precision.
    Tokenizers,
}

impl UnigramRules {
    /// The rules in a GGUF file's metadata.
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        let flag = |key: &str| metadata.bool(key).map(Option::unwrap_or_default);
        let key = "tokenizer.ggml.precompiled_charsmap";
        let charsmap = metadata.byte_array(key)?.unwrap_or_default();
        Ok(Self {
            charsmap,
            library: match metadata.str(keys::UNIGRAM_LIBRARY)? {
                Some("sentencepiece") => UnigramLibrary::SentencePiece,
                Some("tokenizers") => UnigramLibrary::Tokenizers,
                _ => UnigramLibrary::LlamaCpp,
            },
            remove_extra_whitespaces: flag("tokenizer.ggml.remove_extra_whitespaces")?,
            strip_right: flag(keys::UNIGRAM_STRIP_RIGHT)?,
            collapse_spaces: flag(keys::UNIGRAM_COLLAPSE_SPACES)?,
            split_whitespace: flag(keys::UNIGRAM_SPLIT_WHITESPACE)?,
            split_words: flag(keys::UNIGRAM_SPLIT_WORDS)?,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Unigram {
    rules: UnigramRules,
    charsmap: Option<Charsmap>,
    pieces: Pieces,
    scores: Vec<f32>,
    unknown_score: f32,
    unknown: Option<u32>,
    /// Where text without a token becomes those of its bytes.
    bytes: Option<ByteTokens>,
}

impl Unigram {
    /// `kinds` has one entry a token.
    pub(super) fn new(
        vocab: &mut Vocab,
        kinds: &[TokenKind],
        unknown: Option<u32>,
    ) -> Result<Self, TextError> {
        let tokens = &vocab.tokens;
        let mut scores = vocab.scores.clone();
        scores.resize(tokens.len(), 0.0);
        let is = |kind| move |&(id, _): &(u32, &[u8])| kinds[id as usize] == kind;
        let normal = (0..).zip(tokens.iter()).filter(is(TokenKind::Normal));
        let ids: Vec<u32> = normal.map(|(id, _)| id).collect();
        let least = ids.iter().map(|&id| scores[id as usize]);
        let least = least.fold(f32::MAX, f32::min);
        let mut rules = std::mem::take(&mut vocab.unigram);
        let charsmap = Charsmap::new(&std::mem::take(&mut rules.charsmap))?;
        if rules.library == UnigramLibrary::LlamaCpp {
            // Sums of words by themselves choose the same where no token reaches into the next.
            let inner = |&id: &u32| {
                let token = tokens.get(id).unwrap_or_default();
                memchr::memmem::rfind(token, SPACE.as_bytes()).is_some_and(|at| at > 0)
            };
            rules.split_words = !ids.iter().any(inner);
        }
        let has_bytes = kinds.contains(&TokenKind::Byte);
        Ok(Self {
            charsmap,
            pieces: Pieces::new(tokens, ids),
            scores,
            unknown_score: least - UNKNOWN_PENALTY,
            unknown,
            bytes: has_bytes.then(|| ByteTokens::new(tokens)),
            rules,
        })
    }

    /// Appends the tokens of `text`; `prefix` puts a space before it.
    pub(super) fn encode(
        &self,
        tokens: &StringTable,
        text: &str,
        prefix: bool,
        out: &mut Vec<u32>,
    ) {
        let is_library = self.rules.library == UnigramLibrary::Tokenizers;
        let text: Cow<'_, str> = match &self.charsmap {
            Some(map) if is_library => map.by_clusters(text).into(),
            Some(map) => map.longest(text).into(),
            None => text.into(),
        };
        let escaped = match is_library {
            true => self.spaced_as_tokenizers(&text, prefix),
            false => self.spaced_as_sentencepiece(&text, prefix),
        };
        let mut paths = Paths::default();
        let mut words = WordCache::default();
        for word in Words(&escaped, self.rules.split_words) {
            words.encode(word, out, |out| self.word(tokens, word, &mut paths, out));
        }
    }

    /// `text` with [`SPACE`] for spaces, in the words that `tokenizers` makes of it.
    fn spaced_as_tokenizers(&self, text: &str, prefix: bool) -> String {
        let rules = &self.rules;
        let text = match rules.strip_right {
            true => text.trim_end(),
            false => text,
        };
        let mut out = String::with_capacity(text.len() + 8);
        let mut word = |word: &str, prefix: bool| {
            if prefix && !word.is_empty() && !word.starts_with([' ', '\u{2581}']) {
                out.push_str(SPACE);
            }
            let mut after_space = false;
            for c in word.chars() {
                match c {
                    ' ' if after_space && rules.collapse_spaces => {}
                    ' ' => out.push_str(SPACE),
                    c => out.push(c),
                }
                after_space = c == ' ';
            }
        };
        match rules.split_whitespace {
            true => text.split_whitespace().for_each(|text| word(text, true)),
            false => word(text, prefix),
        }
        out
    }

    /// `text` with [`SPACE`] for spaces, as SentencePiece's `Normalizer` has it.
    fn spaced_as_sentencepiece(&self, text: &str, prefix: bool) -> String {
        let remove = self.rules.remove_extra_whitespaces;
        let text = match remove {
            true => text.trim_matches(' '),
            false => text,
        };
        let mut out = String::with_capacity(text.len() + 8);
        if text.is_empty() {
            return out;
        }
        if prefix {
            out.push_str(SPACE);
        }
        let mut after_space = false;
        for c in text.chars() {
            match c {
                ' ' if after_space && remove => {}
                ' ' => out.push_str(SPACE),
                c => out.push(c),
            }
            after_space = c == ' ';
        }
        // Such characters at the end are taken for spaces, too.
        if remove {
            out.truncate(out.trim_end_matches(SPACE).len());
        }
        out
    }

    /// Appends the tokens of a text that is cut by itself.
    fn word(&self, tokens: &StringTable, word: &str, paths: &mut Paths, out: &mut Vec<u32>) {
        let is_single = self.rules.library == UnigramLibrary::SentencePiece;
        paths.start(word.len());
        for (start, c) in word.char_indices() {
            let so_far = paths.ends[start].sum;
            let mut has_character = false;
            self.pieces
                .prefixes(tokens, &word.as_bytes()[start..], |id, len| {
                    has_character |= len == c.len_utf8();
                    let sum = f64::from(self.scores[id as usize]) + so_far;
                    paths.offer(start, start + len, Some(id), sum, is_single);
                });
            if !has_character {
                let sum = match is_single {
                    true => f64::from(self.unknown_score + so_far as f32),
                    false => f64::from(self.unknown_score) + so_far,
                };
                paths.offer(start, start + c.len_utf8(), None, sum, is_single);
            }
        }
        // Backwards along the best path.
        paths.steps.clear();
        let mut end = word.len();
        while end > 0 {
            let best = &paths.ends[end];
            let start = best.start.expect("each character leads on") as usize;
            match (best.token, paths.steps.last_mut()) {
                // Neighbours without a token are one.
                (None, Some((first, _, None))) => *first = start,
                (token, _) => paths.steps.push((start, end, token)),
            }
            end = start;
        }
        for &(start, end, token) in paths.steps.iter().rev() {
            match (token, &self.bytes) {
                (Some(id), _) => out.push(id),
                (None, Some(bytes)) => {
                    bytes.encode(&word.as_bytes()[start..end], self.unknown, out);
                }
                (None, None) => out.extend(self.unknown),
            }
        }
    }
}

/// The best ways to cut the beginnings of a text.
#[derive(Default)]
struct Paths {
    /// By where they end.
    ends: Vec<Best>,
    /// Start, end and token of each step of the best of all, the last first.
    steps: Vec<(usize, usize, Option<u32>)>,
}

/// The best way to somewhere, by its last step.
#[derive(Clone, Copy, Default)]
struct Best {
    sum: f64,
    /// `None` before there is one.
    start: Option<u32>,
    /// `None` of a character without one.
    token: Option<u32>,
}

impl Paths {
    fn start(&mut self, len: usize) {
        self.ends.clear();
        self.ends.resize(len + 1, Best::default());
    }

    /// A step from `start` to `end`: it is taken if it is better than those before. `is_single`
    /// rounds what is kept to single precision, not what is compared with it.
    fn offer(&mut self, start: usize, end: usize, token: Option<u32>, sum: f64, is_single: bool) {
        let best = &mut self.ends[end];
        if best.start.is_none() || sum > best.sum {
            *best = Best {
                sum: if is_single {
                    f64::from(sum as f32)
                } else {
                    sum
                },
                start: Some(start as u32),
                token,
            };
        }
    }
}

/// A text at the characters [`SPACE`], which begin words; or as one word.
struct Words<'a>(&'a str, bool);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let Self(text, splits) = *self;
        let first = text.chars().next()?;
        let next = text[first.len_utf8()..].find(SPACE).filter(|_| splits);
        let end = next.map_or(text.len(), |at| first.len_utf8() + at);
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

/// The tokens that text is made of, in order of their bytes: those with a common beginning stand
/// together.
#[derive(Clone, Debug)]
struct Pieces {
    order: Vec<u32>,
    /// Where those of each first byte start.
    starts: Box<[u32; 257]>,
}

impl Pieces {
    fn new(tokens: &StringTable, mut order: Vec<u32>) -> Self {
        let text = |&id: &u32| tokens.get(id).unwrap_or_default();
        order.retain(|id| (1..=MAX_TOKEN).contains(&text(id).len()));
        order.sort_by(|a, b| text(a).cmp(text(b)).then(a.cmp(b)));
        order.dedup_by(|a, b| text(a) == text(b));
        let mut starts = Box::new([0; 257]);
        for (byte, start) in starts.iter_mut().enumerate() {
            *start = order.partition_point(|id| usize::from(text(id)[0]) < byte) as u32;
        }
        Self { order, starts }
    }

    /// Calls `found` with id and length of each token that `text` begins with, the shortest first.
    fn prefixes(&self, tokens: &StringTable, text: &[u8], mut found: impl FnMut(u32, usize)) {
        let Some(&first) = text.first() else { return };
        let first = usize::from(first);
        let mut range = &self.order[self.starts[first] as usize..self.starts[first + 1] as usize];
        let mut len = 1;
        loop {
            work::step(1);
            // Of those that begin alike the one that ends here is the first.
            let Some(&id) = range.first() else { return };
            if tokens.get(id).is_some_and(|token| token.len() == len) {
                found(id, len);
                range = &range[1..];
            }
            let Some(byte) = text.get(len) else { return };
            let at = |id: &u32| tokens.get(*id).map_or(0, |token| token[len]);
            range = &range[range.partition_point(|id| at(id) < *byte)..];
            range = &range[..range.partition_point(|id| at(id) == *byte)];
            len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found_from_the_shortest() {
        let strings = ["b", "ab", "a", "abcd", "abd", "", "ab"];
        let tokens = StringTable::new("test", strings.iter().map(|s| s.as_bytes())).unwrap();
        let pieces = Pieces::new(&tokens, (0..7).collect());
        let found = |text: &str| {
            let mut found = Vec::new();
            pieces.prefixes(&tokens, text.as_bytes(), |id, len| found.push((id, len)));
            found
        };
        assert_eq!(found("abcde"), [(2, 1), (1, 2), (3, 4)]);
        assert_eq!(found("abd"), [(2, 1), (1, 2), (4, 3)]);
        assert_eq!(found("ba"), [(0, 1)]);
        assert_eq!(found("c"), []);
        assert_eq!(found(""), []);
    }

    #[test]
    fn words_begin_with_spaces() {
        let words = |text, splits| Words(text, splits).collect::<Vec<_>>();
        assert_eq!(words("▁a▁▁bc", true), ["▁a", "▁", "▁bc"]);
        assert_eq!(words("é▁a", true), ["é", "▁a"]);
        assert_eq!(words("▁a▁b", false), ["▁a▁b"]);
        assert!(words("", true).is_empty());
    }
}
