//! The answer in one piece.

use serde_json::{Value, json};
use zse::FinishReason;

use crate::chat::{Reply, Talk, arguments};
use crate::error::ApiError;
use crate::usage;

/// An answer while it is written.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) talk: Talk,
}

impl Answer {
    pub(super) fn new(talk: Talk) -> Self {
        Self {
            id: usage::id("msg").replace('-', "_"),
            talk,
        }
    }

    /// Waits for all of it. What it gives once the client is gone does not matter.
    pub(super) fn whole(mut self, is_gone: &dyn Fn() -> bool) -> Result<Value, ApiError> {
        let reply = self.talk.whole(is_gone)?.swap_remove(0);
        let mut message = self.message(blocks(&reply));
        if let Some(reason) = reply.reason() {
            let (reason, sequence) = stop(reason, reply.calls.len());
            message["stop_reason"] = reason.into();
            message["stop_sequence"] = sequence;
        }
        Ok(message)
    }

    /// The message with this content, as far as it is known.
    pub(super) fn message(&self, content: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.talk.model.name,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": self.usage(),
        })
    }

    /// Tokens so far; those that the prefix cache had are counted apart.
    pub(super) fn usage(&self) -> Value {
        let usage = self.talk.usage;
        json!({
            "input_tokens": usage.prompt - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.completion,
        })
    }
}

fn blocks(reply: &Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    if !reply.reasoning.is_empty() {
        blocks.push(json!({
            "type": "thinking", "thinking": reply.reasoning, "signature": "",
        }));
    }
    if !reply.text.is_empty() {
        blocks.push(json!({ "type": "text", "text": reply.text, "citations": null }));
    }
    for call in &reply.calls {
        let input = arguments(&call.function.arguments);
        blocks.push(json!({
            "type": "tool_use", "id": call.id, "name": call.function.name, "input": input,
        }));
    }
    blocks
}

/// Anthropic's names for why an answer ended, and the text at which it did.
pub(super) fn stop(reason: &FinishReason, calls: usize) -> (&'static str, Value) {
    let name = match reason {
        FinishReason::StopString(text) => return ("stop_sequence", text.as_str().into()),
        FinishReason::Length => "max_tokens",
        FinishReason::ContextFull => "model_context_window_exceeded",
        _ if calls > 0 => "tool_use",
        _ => "end_turn",
    };
    (name, Value::Null)
}
