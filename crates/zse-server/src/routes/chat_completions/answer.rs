//! The answer in one piece.

use serde_json::{Value, json};

use super::Shape;
use crate::chat::{Reply, Talk};
use crate::error::ApiError;
use crate::logprobs;
use crate::state::now;
use crate::usage;

/// What all pieces of an answer have in common.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) talk: Talk,
    pub(super) shape: Shape,
}

impl Answer {
    pub(super) fn new(talk: Talk, shape: Shape) -> Self {
        Self {
            id: usage::id("chatcmpl"),
            created: now(),
            talk,
            shape,
        }
    }

    /// Waits for all of it. What it gives once the client is gone does not matter.
    pub(super) fn whole(&mut self, is_gone: &dyn Fn() -> bool) -> Result<Value, ApiError> {
        let replies = self.talk.whole(is_gone)?.into_iter().enumerate();
        let choices: Vec<Value> = replies.map(|(i, reply)| self.choice(i, &reply)).collect();
        Ok(json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.talk.model.name,
            "choices": choices,
            "usage": self.talk.usage.value(),
        }))
    }

    fn choice(&self, index: usize, reply: &Reply) -> Value {
        let calls = reply.calls.len();
        let content = match calls > 0 && reply.text.is_empty() {
            true => Value::Null,
            false => reply.text.as_str().into(),
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !reply.reasoning.is_empty() {
            message["reasoning_content"] = reply.reasoning.as_str().into();
        }
        if calls > 0 {
            message["tool_calls"] = reply.calls.iter().map(|call| json!(call)).collect();
        }
        let logprobs = match self.shape.logprobs {
            true => {
                let tokenizer = self.talk.model.engine.tokenizer();
                json!({ "content": logprobs::content(&reply.tokens, tokenizer), "refusal": null })
            }
            false => Value::Null,
        };
        json!({
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": reply.reason().map(|r| usage::reason(r, calls)),
        })
    }
}
