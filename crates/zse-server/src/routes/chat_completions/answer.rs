//! The answer in one piece.

use serde_json::{Value, json};
use zse::{FinishReason, ToolCall};

use super::Shape;
use crate::error::ApiError;
use crate::job::{Piece, Running};
use crate::logprobs;
use crate::state::{Served, now};
use crate::tools::{Part, ToolReader};
use crate::usage::{self, Usage};

/// What all pieces of an answer have in common.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: Served,
    pub(super) shape: Shape,
    pub(super) usage: Usage,
}

/// A choice while it comes.
#[derive(Default)]
struct Choice {
    text: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<Value>,
    reader: ToolReader,
    reason: Option<FinishReason>,
}

impl Answer {
    pub(super) fn new(model: &Served, prompt_tokens: usize, shape: Shape) -> Self {
        Self {
            id: usage::id("chatcmpl"),
            created: now(),
            model: model.clone(),
            shape,
            usage: Usage {
                prompt: prompt_tokens,
                ..Usage::default()
            },
        }
    }

    /// Waits for all of it. What it gives once the client is gone does not matter.
    pub(super) fn whole(
        mut self,
        mut running: Running,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Value, ApiError> {
        let mut choices: Vec<Choice> = Vec::new();
        choices.resize_with(self.shape.n as usize, Choice::default);
        while let Some(piece) = running.next(is_gone) {
            match piece? {
                Piece::Chunk { chunk, .. } => {
                    let choice = &mut choices[chunk.choice as usize];
                    if self.shape.logprobs {
                        let tokenizer = self.model.engine.tokenizer();
                        let entries = logprobs::chat(&chunk.tokens, tokenizer);
                        choice.logprobs.extend(entries);
                    }
                    match self.shape.tools {
                        false => choice.text.push_str(&chunk.text),
                        true => {
                            let parts = choice.reader.push(&chunk.text);
                            choice.take(parts);
                        }
                    }
                }
                Piece::Finished { finished, .. } => {
                    let choice = &mut choices[finished.choice as usize];
                    let parts = choice.reader.finish();
                    choice.take(parts);
                    self.usage.add(&finished);
                    choice.reason = Some(finished.reason);
                }
            }
        }
        let choices: Vec<Value> = choices
            .into_iter()
            .enumerate()
            .map(|(index, choice)| choice.value(index, self.shape))
            .collect();
        Ok(json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model.name,
            "choices": choices,
            "usage": self.usage.value(),
        }))
    }
}

impl Choice {
    fn take(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Text(text) => self.text.push_str(&text),
                Part::Call(call) => self.calls.push(call),
            }
        }
    }

    fn value(self, index: usize, shape: Shape) -> Value {
        let calls = self.calls.len();
        let content = match calls > 0 && self.text.is_empty() {
            true => Value::Null,
            false => self.text.into(),
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if calls > 0 {
            message["tool_calls"] = self.calls.iter().map(|call| json!(call)).collect();
        }
        let logprobs = match shape.logprobs {
            true => json!({ "content": self.logprobs, "refusal": null }),
            false => Value::Null,
        };
        json!({
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.reason.as_ref().map(|r| usage::reason(r, calls)),
        })
    }
}
