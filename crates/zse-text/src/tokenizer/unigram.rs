//! SentencePiece's unigram model (Kudo 2018, <https://arxiv.org/abs/1804.10959>): the segmentation
//! of the best total score, found by Viterbi's algorithm.

use super::charsmap::Charsmap;
use super::sentencepiece::SPACE;
use crate::TextError;
use crate::merge::char_lengths;
use crate::string_table::StringTable;
use crate::vocab::{TokenKind, Vocab};

/// The longest token in bytes; SentencePiece stops at 16 characters.
const MAX_TOKEN: usize = 1024;

/// How much worse an unknown character scores than the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;

#[derive(Clone, Debug)]
pub(super) struct Unigram {
    /// One a token; NaN for tokens that text does not produce.
    scores: Vec<f32>,
    unknown: Option<u32>,
    unknown_score: f32,
    charsmap: Charsmap,
    add_prefix: bool,
    merge_spaces: bool,
}

/// The best way to a position: the token that ends there, where it starts, and the total score.
#[derive(Clone, Copy)]
struct Best {
    token: Option<u32>,
    start: usize,
    score: f64,
}

impl Unigram {
    pub(super) fn new(
        vocab: &Vocab,
        kinds: &[TokenKind],
        add_prefix: bool,
    ) -> Result<Self, TextError> {
        if vocab.tokens.longest() > MAX_TOKEN {
            return Err(TextError::Vocabulary {
                field: "tokenizer.ggml.tokens",
                problem: format!(
                    "has a token of {} bytes; at most {MAX_TOKEN} are supported",
                    vocab.tokens.longest()
                ),
            });
        }
        let score = |id: usize| vocab.scores.get(id).copied().unwrap_or(0.0);
        let normal = kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| **kind == TokenKind::Normal);
        let worst = normal.map(|(id, _)| score(id)).fold(f32::MAX, f32::min);
        let scores = kinds.iter().enumerate().map(|(id, kind)| match kind {
            TokenKind::Normal | TokenKind::Unused => score(id),
            TokenKind::UserDefined => 0.0,
            _ => f32::NAN,
        });
        Ok(Self {
            scores: scores.collect(),
            unknown: vocab.special.unk,
            unknown_score: worst - UNKNOWN_PENALTY,
            charsmap: Charsmap::new(&vocab.charsmap)?,
            add_prefix,
            merge_spaces: vocab.flags.remove_extra_whitespaces.unwrap_or(false),
        })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, tokens: &StringTable, text: &str, out: &mut Vec<u32>) {
        let text = self.normalize(text);
        let bytes = text.as_bytes();
        let mut best = vec![
            Best {
                token: None,
                start: 0,
                score: f64::MIN
            };
            bytes.len() + 1
        ];
        best[0].score = 0.0;
        let mut start = 0;
        for first in char_lengths(&text) {
            let score = best[start].score;
            let mut reach = |end: usize, token, gain: f32| {
                let score = score + f64::from(gain);
                if score > best[end].score {
                    best[end] = Best {
                        token,
                        start,
                        score,
                    };
                }
            };
            let mut known = false;
            let mut end = start;
            for len in char_lengths(&text[start..]) {
                end += len;
                if end - start > tokens.longest() {
                    break;
                }
                let id = tokens.find(&bytes[start..end]);
                if let Some(id) = id.filter(|&id| !self.scores[id as usize].is_nan()) {
                    known |= end == start + first;
                    reach(end, Some(id), self.scores[id as usize]);
                }
            }
            if !known {
                reach(start + first, None, self.unknown_score);
            }
            start += first;
        }
        let from = out.len();
        let mut end = bytes.len();
        let mut unknown_before = false;
        while end > 0 {
            let Best { token, start, .. } = best[end];
            // A run of unknown characters is one unknown token.
            if token.is_some() || !unknown_before {
                out.extend(token.or(self.unknown));
            }
            unknown_before = token.is_none();
            end = start;
        }
        out[from..].reverse();
    }

    /// The text that the model segments: characters mapped, spaces merged and marked.
    fn normalize(&self, text: &str) -> String {
        let mut normalized = String::with_capacity(text.len() + SPACE.len());
        let (mut in_word, mut prefixed) = (false, false);
        self.charsmap.map(text, |c| {
            if c == ' ' {
                in_word = false;
                if !self.merge_spaces {
                    normalized.push_str(SPACE);
                }
                return;
            }
            if !in_word && ((self.add_prefix && !prefixed) || self.merge_spaces) {
                normalized.push_str(SPACE);
                prefixed = true;
            }
            in_word = true;
            normalized.push(c);
        });
        normalized
    }
}
