//! How well a model predicts a text.

use std::ops::ControlFlow;

use crate::{Engine, Error};

/// How well a model predicts a text; smaller is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Mean negative log-likelihood of a token, in nats.
    pub nll: f64,
    /// Standard error of `nll`.
    pub nll_error: f64,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Chunks that the text was cut in.
    pub chunks: usize,
}

impl Perplexity {
    /// Tokens that a chunk has at least: of fewer, nothing would be left to score.
    pub const MIN_CHUNK: usize = 4;
}

/// Where a measurement stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerplexityProgress {
    /// The result so far.
    pub so_far: Perplexity,
    /// Chunks that there are.
    pub chunks: usize,
}

/// Sums over the tokens that were scored.
#[derive(Default)]
struct Sums {
    nll: f64,
    squares: f64,
    tokens: usize,
    chunks: usize,
}

impl Sums {
    fn add(&mut self, scores: &[f32]) {
        for &score in scores {
            let nll = -f64::from(score);
            self.nll += nll;
            self.squares += nll * nll;
        }
        self.tokens += scores.len();
        self.chunks += 1;
    }

    fn result(&self) -> Perplexity {
        let n = self.tokens as f64;
        let mean = self.nll / n;
        let variance = (self.squares / n - mean * mean).max(0.0);
        Perplexity {
            perplexity: mean.exp(),
            nll: mean,
            nll_error: (variance / (n - 1.0).max(1.0)).sqrt(),
            tokens: self.tokens,
            chunks: self.chunks,
        }
    }
}

impl Engine {
    /// The perplexity of the model on `text`, as llama.cpp's `llama-perplexity` measures it: the
    /// text is cut into chunks of `chunk` tokens (a rest is left out), the first token of each is
    /// replaced by BOS if the model wants one, and the tokens of the second half of each chunk are
    /// scored, so that every one of them has at least half a chunk before it.
    ///
    /// `progress` is told after each chunk, and may end the measurement there.
    ///
    /// # Errors
    /// If a chunk is shorter than [`Perplexity::MIN_CHUNK`], longer than the text, or does not fit
    /// the context.
    pub fn perplexity(
        &self,
        text: &str,
        chunk: usize,
        mut progress: impl FnMut(PerplexityProgress) -> ControlFlow<()>,
    ) -> Result<Perplexity, Error> {
        if chunk < Perplexity::MIN_CHUNK {
            return Err(Error::ChunkTooShort { chunk });
        }
        let tokens = self.open_tokens(text, false);
        let chunks = tokens.len() / chunk;
        if chunks == 0 {
            return Err(Error::TextTooShort {
                tokens: tokens.len(),
                chunk,
            });
        }
        let bos = self
            .tokenizer()
            .bos()
            .filter(|_| self.tokenizer().adds_bos());
        let mut sums = Sums::default();
        for part in tokens.chunks_exact(chunk) {
            let mut part = part.to_vec();
            if let Some(bos) = bos {
                part[0] = bos;
            }
            sums.add(&self.score(part, chunk / 2 + 1, "")?);
            if progress(PerplexityProgress {
                so_far: sums.result(),
                chunks,
            })
            .is_break()
            {
                break;
            }
        }
        Ok(sums.result())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_give_mean_and_error() {
        let mut sums = Sums::default();
        sums.add(&[-1.0, -3.0]);
        sums.add(&[-2.0, -2.0]);
        let result = sums.result();
        assert_eq!((result.nll, result.tokens, result.chunks), (2.0, 4, 2));
        assert!((result.perplexity - 2f64.exp()).abs() < 1e-12);
        assert!((result.nll_error - (0.5f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[cfg(feature = "builtin")]
    #[test]
    fn chunks_and_texts_that_are_too_short_are_told_apart() {
        let options = crate::LoadOptions {
            context: Some(64),
            ..crate::LoadOptions::default()
        };
        let engine = Engine::load(&crate::ModelSource::Builtin, &options).unwrap();
        let text = "One and two and three and four and five. ".repeat(20);
        let measure =
            |text: &str, chunk| engine.perplexity(text, chunk, |_| ControlFlow::Break(()));
        for chunk in 0..Perplexity::MIN_CHUNK {
            let error = measure(&text, chunk).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("at least 4 tokens"), "{message}");
            assert!(message.contains("larger context (--ctx)"), "{message}");
            match error {
                Error::ChunkTooShort { chunk: found } => assert_eq!(found, chunk),
                other => panic!("{other}"),
            }
        }
        let error = measure("One", 32).unwrap_err();
        assert!(
            matches!(error, Error::TextTooShort { chunk: 32, .. }),
            "{error}"
        );
        assert!(measure(&text, Perplexity::MIN_CHUNK).unwrap().tokens > 0);
    }
}
