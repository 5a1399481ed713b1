//! Texts that may have so many tokens and no more: one that is far longer is not cut into tokens to its
//! end.

use std::fmt;

use super::{Segmenter, Tokenizer};

/// Bytes of a text's beginning that are looked at, for each token that it may have.
const BYTES_A_TOKEN: usize = 16;

/// How many tokens a text has, which are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTokens {
    /// All of them, or so many at least.
    pub tokens: usize,
    /// Whether these are all.
    pub is_exact: bool,
}

impl fmt::Display for TooManyTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, is_exact } = self;
        let or_more = if *is_exact { "" } else { "at least " };
        write!(f, "{or_more}{tokens}")
    }
}

impl Tokenizer {
    /// What [`encode`](Self::encode) gives, if that is no more than `limit` tokens. Takes time by the
    /// limit, not by the text, where a text of many more is no single word.
    ///
    /// # Errors
    /// If there are more.
    pub fn encode_within(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        limit: usize,
    ) -> Result<Vec<u32>, TooManyTokens> {
        let begin = limit.saturating_add(1).saturating_mul(BYTES_A_TOKEN);
        if text.len() / 2 > begin {
            let begin = &text[..text.floor_char_boundary(begin)];
            let begin = self.encode(begin, add_special, parse_special).len();
            // Where it is cut, a word may be other tokens than as a whole: not twice as many.
            check(begin.div_ceil(2).max(self.least(text.len())), limit, false)?;
        }
        let tokens = self.encode(text, add_special, parse_special);
        check(tokens.len(), limit, true)?;
        Ok(tokens)
    }

    /// How many tokens a text of so many bytes has at least, as far as its length says.
    fn least(&self, bytes: usize) -> usize {
        let inner = &*self.0;
        let longest = match &inner.segmenter {
            Segmenter::SentencePiece(spm) => spm.most_bytes(&inner.tokens),
            Segmenter::Bpe(bpe) => bpe.most_bytes(&inner.tokens),
            // Spaces are no part of any token, or go with other characters.
            Segmenter::WordPiece(_) | Segmenter::Unigram(_) => None,
        };
        let longest = longest.filter(|_| !inner.specials.strip_spaces());
        longest.map_or(0, |longest| bytes / longest)
    }
}

fn check(tokens: usize, limit: usize, is_exact: bool) -> Result<(), TooManyTokens> {
    match tokens > limit {
        true => Err(TooManyTokens { tokens, is_exact }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{TokenizerModel, work};

    #[test]
    fn what_is_far_too_long_is_refused_after_its_beginning() {
        let tokenizer = work::tests::tokenizer(TokenizerModel::Bpe, "gpt-2");
        let limit = 100;
        for (text, is_exact) in [
            ("b c ".repeat(25), true),
            ("b c ".repeat(26), true),
            ("b c ".repeat(1 << 18), false),
            // Runs of it are tokens.
            ("a".repeat(1600), true),
            ("a".repeat(1 << 20), false),
        ] {
            let whole = tokenizer.encode(&text, false, false);
            work::start();
            let found = tokenizer.encode_within(&text, false, false, limit);
            assert!(work::steps() < 100_000, "{}", work::steps());
            match found {
                Ok(found) => assert!(found == whole && whole.len() <= limit),
                Err(error) => {
                    assert_eq!(error.is_exact, is_exact);
                    assert!(
                        error.tokens > limit && error.tokens <= whole.len(),
                        "{error}"
                    );
                    assert_eq!(error.tokens == whole.len(), is_exact);
                }
            }
        }
    }

    #[test]
    fn a_lower_bound_is_none_where_text_may_vanish() {
        let model = TokenizerModel::WordPiece;
        let tokenizer = work::tests::tokenizer(model, "");
        let spaces = " ".repeat(1 << 20);
        assert_eq!(
            tokenizer.encode_within(&spaces, false, false, 0),
            Ok(Vec::new())
        );
    }
}
