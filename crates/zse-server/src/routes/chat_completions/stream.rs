//! The answer as a stream of chunks.

use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, ChatLogprobs};
use crate::chat::{Event, Part};
use crate::logprobs::{self, TokenLogprob};
use crate::sse::Events;
use crate::usage::{self, UsageObject};

#[derive(Serialize, ToSchema)]
pub(super) struct ChatCompletionChunk {
    id: String,
    /// `chat.completion.chunk`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    /// Another one where the model, the device or the version is.
    system_fingerprint: String,
    choices: Vec<ChunkChoice>,
    /// There if it was asked for; `null` in chunks that do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageObject>)]
    usage: Option<Option<UsageObject>>,
}

#[derive(Serialize, ToSchema)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    /// In the last chunk of a choice: `stop`, `length` or `tool_calls`.
    finish_reason: Option<&'static str>,
}

/// What is new.
#[derive(Default, Serialize, ToSchema)]
struct Delta {
    /// In the first chunk of a choice: `assistant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// Always `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallDelta>,
}

/// A call that begins, or more of its arguments.
#[derive(Serialize, ToSchema)]
struct CallDelta {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `function`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta,
}

#[derive(Serialize, ToSchema)]
struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// JSON as text.
    arguments: String,
}

impl From<Part> for Delta {
    fn from(part: Part) -> Self {
        match part {
            Part::Text(text) => Self {
                content: Some(text),
                ..Self::default()
            },
            Part::Reasoning(text) => Self {
                reasoning_content: Some(text),
                ..Self::default()
            },
            Part::Call { index, id, name } => Self::call(CallDelta {
                index,
                id: Some(id),
                kind: Some("function"),
                function: FunctionDelta {
                    name: Some(name),
                    arguments: String::new(),
                },
            }),
            Part::Arguments { index, text } => Self::call(CallDelta {
                index,
                id: None,
                kind: None,
                function: FunctionDelta {
                    name: None,
                    arguments: text,
                },
            }),
        }
    }
}

impl Delta {
    /// How a choice begins.
    fn first() -> Self {
        Self {
            role: Some("assistant"),
            content: Some(String::new()),
            refusal: Some(()),
            ..Self::default()
        }
    }

    fn call(call: CallDelta) -> Self {
        Self {
            tool_calls: vec![call],
            ..Self::default()
        }
    }
}

/// Sends every piece as soon as it is certain. Ends with OpenAI's mark, after an error too.
pub(super) async fn write(mut answer: Answer, events: Events) {
    for index in 0..answer.talk.n() {
        answer.send(&events, index, Delta::first(), None, None);
    }
    while let Some(event) = answer.talk.next().await {
        match event {
            Ok(Event::Parts {
                choice,
                parts,
                tokens,
            }) => {
                let logprobs = answer.shape.logprobs.then(|| {
                    let tokenizer = answer.talk.model.engine.tokenizer();
                    logprobs::content(&tokens, tokenizer)
                });
                answer.parts(&events, choice, parts, logprobs);
            }
            Ok(Event::Finished {
                choice,
                parts,
                calls,
                finished,
            }) => {
                answer.parts(&events, choice, parts, None);
                let reason = usage::reason(&finished.reason, calls);
                answer.send(&events, choice, Delta::default(), None, Some(reason));
            }
            Err(error) => {
                events.error(&error);
                events.done();
                return;
            }
        }
    }
    if answer.shape.stream.include_usage == Some(true) {
        let mut chunk = answer.chunk(Vec::new());
        chunk.usage = Some(Some(answer.talk.usage.object()));
        events.send(&chunk);
    }
    events.done();
}

impl Answer {
    /// Sends pieces of a choice. Log-probabilities go with the first piece, or alone while their
    /// text is held back.
    fn parts(
        &self,
        events: &Events,
        index: usize,
        parts: Vec<Part>,
        logprobs: Option<Vec<TokenLogprob>>,
    ) {
        let mut logprobs = logprobs.filter(|entries| !entries.is_empty());
        for part in parts {
            self.send(events, index, part.into(), logprobs.take(), None);
        }
        if logprobs.is_some() {
            self.send(events, index, Delta::default(), logprobs, None);
        }
    }

    fn send(
        &self,
        events: &Events,
        index: usize,
        delta: Delta,
        logprobs: Option<Vec<TokenLogprob>>,
        finish_reason: Option<&'static str>,
    ) {
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: logprobs.map(ChatLogprobs::new),
            finish_reason,
        };
        events.send(&self.chunk(vec![choice]));
    }

    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.talk.model.name.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage: self.shape.stream.usage(&self.talk.usage),
        }
    }
}
