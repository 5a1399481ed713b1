//! What a request gives back.

use std::time::Duration;

/// Something that happened to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Tokens were drawn.
    Tokens {
        /// Which of the request's continuations.
        choice: u32,
        /// The tokens, those that end the generation included.
        tokens: Vec<TokenInfo>,
        /// Text that is certain to be part of the result: whole characters, and nothing that may
        /// turn out to begin a stop string. May be empty, and lag behind the tokens.
        text: String,
    },
    /// The next tokens of the prompt that are scored, in order.
    Scores(Vec<TokenInfo>),
    /// The embedding of the prompt.
    Embedding(Vec<f32>),
    /// A continuation (or the whole request, if it is none) is over. The last event of each.
    Finished(Finished),
}

/// A token that was drawn, or scored.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability under the model, before any sampler stage.
    pub logprob: f32,
    /// The most likely tokens with their log-probabilities, best first, if they were asked for.
    pub top: Vec<(u32, f32)>,
}

/// How a continuation ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Which of the request's continuations.
    pub choice: u32,
    /// Why.
    pub reason: FinishReason,
    /// Tokens.
    pub usage: Usage,
    /// Time.
    pub timings: Timings,
}

/// Why a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew this end-of-generation or stop token; or, without one, the text is all that its
    /// constraint allows, or scores or embeddings are complete.
    Stop(Option<u32>),
    /// This stop string came.
    StopString(String),
    /// As many tokens as asked for.
    Length,
    /// The sequence is as long as the context or the KV cache allows.
    ContextFull,
    /// The caller cancelled it.
    Cancelled,
    /// It failed; what went wrong.
    Failed(String),
}

impl FinishReason {
    /// OpenAI's name where there is one: `stop`, `length`, `cancelled` or `error`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stop(_) | Self::StopString(_) => "stop",
            Self::Length | Self::ContextFull => "length",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "error",
        }
    }
}

/// Tokens that a continuation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were not computed, because another request, or another
    /// continuation of this one, had computed them: OpenAI's `cached_tokens`.
    pub shared_tokens: usize,
    /// Tokens that were drawn, those that end the generation included.
    pub completion_tokens: usize,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the request to the first step that it took part in.
    pub queued: Duration,
    /// From there to the first token (or to the last score, or the embedding).
    pub prompt: Duration,
    /// From the first token to the last: `completion_tokens - 1` steps.
    pub decode: Duration,
}

impl Timings {
    /// From the request to the first token.
    pub fn time_to_first_token(&self) -> Duration {
        self.queued + self.prompt
    }
}

/// Everything that a continuation gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TokenInfo>,
    /// How it ended.
    pub finished: Finished,
}
