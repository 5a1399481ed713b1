//! Counts of tokens, and names of answers.

use serde::Serialize;
use utoipa::ToSchema;
use zse::FinishReason;

use crate::sampling::random;

/// Tokens of a request, over all its continuations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of all prompts, each once.
    pub(crate) prompt: usize,
    /// Of all continuations, those that end them included.
    pub(crate) completion: usize,
    /// Of the continuations, those that were drawn in thoughts; `None` where these are not told apart.
    pub(crate) reasoning: Option<usize>,
    /// Of the prompts, those that the engine had computed before.
    pub(crate) cached: usize,
}

impl Usage {
    /// OpenAI's object.
    pub(crate) fn object(self) -> UsageObject {
        UsageObject {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            total_tokens: self.prompt + self.completion,
            prompt_tokens_details: PromptTokens {
                cached_tokens: self.cached,
            },
            completion_tokens_details: self
                .reasoning
                .map(|reasoning_tokens| CompletionTokens { reasoning_tokens }),
        }
    }
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageObject {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokens,
    /// Of chats.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionTokens>,
}

/// Where the tokens of prompts came from.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct PromptTokens {
    /// Those that the prefix cache had.
    cached_tokens: usize,
}

/// What the tokens of continuations were for.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct CompletionTokens {
    /// Those that the model thought in.
    reasoning_tokens: usize,
}

/// An id such as `chatcmpl-0123...`.
pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}-{:016x}{:016x}", random(), random())
}

/// OpenAI's name for why a continuation ended.
pub(crate) fn reason(reason: &FinishReason, calls: usize) -> &'static str {
    match reason.name() {
        "stop" if calls > 0 => "tool_calls",
        name => name,
    }
}
