//! One continuation: what came since it was last asked for.

use serde::Serialize;
use utoipa::ToSchema;
use zse::{Chunk, Engine, Finished, TokenInfo, Tokenizer};

use crate::error::ApiError;
use crate::logprobs::{self, Lists, TokenLogprob};
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
    /// Computes the log-probabilities of a prompt if they are wanted. `salt` as in
    /// [`Generate::salt`](zse::Generate::salt).
    ///
    /// # Errors
    /// If the model cannot give them.
    pub(super) fn new(
        engine: &Engine,
        text: String,
        tokens: &[u32],
        wants_logprobs: bool,
        salt: &str,
    ) -> Result<Self, ApiError> {
        let scores = match wants_logprobs && tokens.len() > 1 {
            true => engine.score(tokens.to_vec(), 1, salt)?,
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

/// How log-probabilities are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As OpenAI's completions have them.
    Lists,
    /// As chats have them, and llama.cpp's server in completions, too.
    Entries,
}

/// Those of a continuation, in either form.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Logprobs {
    Lists(Lists),
    Entries { content: Vec<TokenLogprob> },
}

impl Logprobs {
    fn new(form: Form) -> Self {
        match form {
            Form::Lists => Self::Lists(Lists::default()),
            Form::Entries => Self::Entries {
                content: Vec::new(),
            },
        }
    }

    fn extend(&mut self, tokens: &[TokenInfo], tokenizer: &Tokenizer) {
        match self {
            Self::Lists(lists) => lists.extend(tokens, tokenizer),
            Self::Entries { content } => content.extend(logprobs::content(tokens, tokenizer)),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Lists(lists) => lists.is_empty(),
            Self::Entries { content } => content.is_empty(),
        }
    }

    /// What there is; what comes later goes on behind it.
    fn take(&mut self) -> Self {
        match self {
            Self::Lists(lists) => {
                let next = Lists::at(lists.offset());
                Self::Lists(std::mem::replace(lists, next))
            }
            Self::Entries { content } => Self::Entries {
                content: std::mem::take(content),
            },
        }
    }
}

/// A continuation, or a piece of it.
#[derive(Serialize, ToSchema)]
pub(super) struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<Logprobs>,
    /// `stop` or `length`.
    finish_reason: Option<&'static str>,
}

/// A continuation while it comes.
#[derive(Debug)]
pub(super) struct Choice {
    text: String,
    logprobs: Option<Logprobs>,
    reason: Option<&'static str>,
    /// The sum of the log-probabilities of its tokens, and how many these are.
    likelihood: (f64, usize),
}

impl Choice {
    pub(super) fn new(form: Option<Form>, echo: Option<&Echo>) -> Self {
        let mut logprobs = form.map(Logprobs::new);
        if let (Some(Logprobs::Lists(lists)), Some(echo)) = (&mut logprobs, echo) {
            for &(id, logprob) in &echo.logprobs {
                lists.prompt(&echo.tokenizer, id, logprob);
            }
        }
        Self {
            text: echo.map_or_else(String::new, |echo| echo.text.clone()),
            logprobs,
            reason: None,
            likelihood: (0.0, 0),
        }
    }

    pub(super) fn push(&mut self, chunk: &Chunk, tokenizer: &Tokenizer) {
        self.text.push_str(&chunk.text);
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.extend(&chunk.tokens, tokenizer);
        }
        let logprobs = chunk.tokens.iter().map(|token| f64::from(token.logprob));
        self.likelihood.0 += logprobs.sum::<f64>();
        self.likelihood.1 += chunk.tokens.len();
    }

    /// The mean log-probability of its tokens, by which the best are found.
    pub(super) fn mean_logprob(&self) -> f64 {
        self.likelihood.0 / self.likelihood.1.max(1) as f64
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
        CompletionChoice {
            index,
            text: std::mem::take(&mut self.text),
            logprobs: self.logprobs.as_mut().map(Logprobs::take),
            finish_reason: self.reason,
        }
    }
}
