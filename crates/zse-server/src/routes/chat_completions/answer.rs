//! The answer in one piece.

use serde::Serialize;
use utoipa::ToSchema;
use zse::ToolCall;

use super::Shape;
use crate::chat::{Reply, Talk};
use crate::error::ApiError;
use crate::logprobs::{self, TokenLogprob};
use crate::state::now;
use crate::usage::{self, UsageObject};

/// What all pieces of an answer have in common.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) fingerprint: String,
    pub(super) talk: Talk,
    pub(super) shape: Shape,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ChatCompletion {
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    /// Another one where the model, the device or the version is.
    system_fingerprint: String,
    choices: Vec<ChatChoice>,
    usage: UsageObject,
}

#[derive(Serialize, ToSchema)]
struct ChatChoice {
    index: usize,
    message: AnswerMessage,
    logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, ToSchema)]
struct AnswerMessage {
    /// `assistant`.
    role: &'static str,
    /// Absent where tools are called without a word.
    content: Option<String>,
    /// Always `null`.
    #[schema(value_type = Option<String>)]
    refusal: (),
    /// What a model thought that thinks first.
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

/// A call of a function.
#[derive(Serialize, ToSchema)]
struct Call {
    id: String,
    /// `function`.
    #[serde(rename = "type")]
    kind: String,
    function: CalledFunction,
}

#[derive(Serialize, ToSchema)]
struct CalledFunction {
    name: String,
    /// JSON as text.
    arguments: String,
}

/// How likely the tokens were.
#[derive(Serialize, ToSchema)]
pub(super) struct ChatLogprobs {
    content: Vec<TokenLogprob>,
    /// Always `null`.
    #[schema(value_type = Option<String>)]
    refusal: (),
}

impl ChatLogprobs {
    pub(super) fn new(content: Vec<TokenLogprob>) -> Self {
        Self {
            content,
            refusal: (),
        }
    }
}

impl From<ToolCall> for Call {
    fn from(call: ToolCall) -> Self {
        Self {
            id: call.id,
            kind: call.kind,
            function: CalledFunction {
                name: call.function.name,
                arguments: call.function.arguments,
            },
        }
    }
}

impl Answer {
    pub(super) fn new(talk: Talk, shape: Shape) -> Self {
        Self {
            id: usage::id("chatcmpl"),
            created: now(),
            fingerprint: talk.model.fingerprint(),
            talk,
            shape,
        }
    }

    /// Waits for all of it.
    pub(super) async fn whole(&mut self) -> Result<ChatCompletion, ApiError> {
        let replies = self.talk.whole().await?.into_iter().enumerate();
        Ok(ChatCompletion {
            id: self.id.clone(),
            object: "chat.completion",
            created: self.created,
            model: self.talk.model.name.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices: replies.map(|(i, reply)| self.choice(i, reply)).collect(),
            usage: self.talk.usage.object(),
        })
    }

    fn choice(&self, index: usize, reply: Reply) -> ChatChoice {
        let calls = reply.calls.len();
        let logprobs = self.shape.logprobs.then(|| {
            let tokenizer = self.talk.model.engine.tokenizer();
            ChatLogprobs::new(logprobs::content(&reply.tokens, tokenizer))
        });
        ChatChoice {
            index,
            logprobs,
            finish_reason: reply.reason().map(|r| usage::reason(r, calls)),
            message: AnswerMessage {
                role: "assistant",
                content: Some(reply.text).filter(|text| calls == 0 || !text.is_empty()),
                refusal: (),
                reasoning_content: reply.reasoning,
                tool_calls: reply.calls.into_iter().map(Call::from).collect(),
            },
        }
    }
}
