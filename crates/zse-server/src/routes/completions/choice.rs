//! One continuation: what came since it was last asked for.

use serde::Serialize;
use utoipa::ToSchema;
use zse::{Chunk, Finished, TokenInfo, Tokenizer};

use crate::logprobs::{self, Lists, PromptList, TokenLogprob};
use crate::usage;

/// A prompt that is given back before its continuation.
#[derive(Debug)]
pub(super) struct Echo {
    text: String,
    /// Its tokens, if it is known how likely they are.
    list: Option<PromptList>,
}

impl Echo {
    /// `text`, whose tokens are `prompt`; nothing is known of them.
    pub(super) fn new(text: String) -> Self {
        Self { text, list: None }
    }

    /// The same with what is known of all tokens but the first.
    pub(super) fn with_scores(
        self,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        scores: Vec<TokenInfo>,
    ) -> Self {
        // What every text begins with is no part of it, unless it spells it.
        let begins = |id: u32| self.text.as_bytes().starts_with(&tokenizer.token_bytes(id));
        let is_added = |&id: &u32| tokenizer.bos() == Some(id) && !begins(id);
        let hidden = usize::from(prompt.first().is_some_and(is_added));
        let list = PromptList::new(tokenizer, prompt, hidden, scores);
        Self {
            list: Some(list),
            ..self
        }
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
    fn new(form: Form, tokenizer: &Tokenizer, prompt: &[u32], echo: Option<&Echo>) -> Self {
        match form {
            Form::Lists => {
                let offset = echo.map_or(0, |echo| echo.text.chars().count());
                let lists = Lists::new(tokenizer, prompt, offset);
                Self::Lists(lists.with_prompt(echo.and_then(|echo| echo.list.clone())))
            }
            Form::Entries => Self::Entries {
                content: Vec::new(),
            },
        }
    }

    fn extend(&mut self, tokens: &[TokenInfo], tokenizer: &Tokenizer) {
        match self {
            Self::Lists(lists) => lists.extend(tokens),
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
            Self::Lists(lists) => Self::Lists(lists.take()),
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
    /// The continuation of `prompt`.
    pub(super) fn new(
        form: Option<Form>,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        echo: Option<&Echo>,
    ) -> Self {
        Self {
            text: echo.map_or_else(String::new, |echo| echo.text.clone()),
            logprobs: form.map(|form| Logprobs::new(form, tokenizer, prompt, echo)),
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
