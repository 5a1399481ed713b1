//! One continuation: what came since it was last asked for.

use serde::Serialize;
use utoipa::ToSchema;
use zse::{Chunk, Engine, Finished, Tokenizer};

use crate::error::ApiError;
use crate::logprobs::Lists;
use crate::usage;

/// A prompt that is given back before its continuation.
#[derive(Debug)]
pub(super) struct Echo {
    text: String,
    /// Each token with its log-probability, if those are wanted; the first has none.
    logprobs: Vec<(u32, Option<f32>)>,
    tokenizer: Tokenizer,
}

impl Echo {
    /// Computes the log-probabilities of a prompt if they are wanted.
    ///
    /// # Errors
    /// If the model cannot give them.
    pub(super) fn new(
        engine: &Engine,
        text: String,
        tokens: &[u32],
        wants_logprobs: bool,
    ) -> Result<Self, ApiError> {
        let scores = match wants_logprobs && tokens.len() > 1 {
            true => engine.score(tokens.to_vec(), 1)?,
            false => Vec::new(),
        };
        let known = [None].into_iter().chain(scores.into_iter().map(Some));
        let logprobs = match wants_logprobs {
            true => tokens.iter().copied().zip(known).collect(),
            false => Vec::new(),
        };
        Ok(Self {
            text,
            logprobs,
            tokenizer: engine.tokenizer().clone(),
        })
    }
}

/// A continuation, or a piece of it.
#[derive(Serialize, ToSchema)]
pub(super) struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<Lists>,
    /// `stop` or `length`.
    finish_reason: Option<&'static str>,
}

/// A continuation while it comes.
#[derive(Debug)]
pub(super) struct Choice {
    text: String,
    logprobs: Option<Lists>,
    reason: Option<&'static str>,
}

impl Choice {
    pub(super) fn new(wants_logprobs: bool, echo: Option<&Echo>) -> Self {
        let mut logprobs = wants_logprobs.then(Lists::default);
        if let (Some(lists), Some(echo)) = (&mut logprobs, echo) {
            for &(id, logprob) in &echo.logprobs {
                lists.prompt(&echo.tokenizer, id, logprob);
            }
        }
        Self {
            text: echo.map_or_else(String::new, |echo| echo.text.clone()),
            logprobs,
            reason: None,
        }
    }

    pub(super) fn push(&mut self, chunk: &Chunk, tokenizer: &Tokenizer) {
        self.text.push_str(&chunk.text);
        if let Some(lists) = &mut self.logprobs {
            lists.extend(&chunk.tokens, tokenizer);
        }
    }

    pub(super) fn finish(&mut self, finished: &Finished) {
        self.reason = Some(usage::reason(&finished.reason, 0));
    }

    /// Whether nothing came since it was last asked.
    pub(super) fn is_empty(&self) -> bool {
        let has_logprobs = self.logprobs.as_ref().is_some_and(|l| !l.is_empty());
        self.text.is_empty() && !has_logprobs && self.reason.is_none()
    }

    /// What came since it was last asked.
    pub(super) fn value(&mut self, index: usize) -> CompletionChoice {
        let logprobs = self.logprobs.as_mut().map(|lists| {
            let next = Lists::at(lists.offset());
            std::mem::replace(lists, next)
        });
        CompletionChoice {
            index,
            text: std::mem::take(&mut self.text),
            logprobs,
            finish_reason: self.reason,
        }
    }
}
