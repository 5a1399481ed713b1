//! The answer in one piece.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
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

    /// Waits for all of it.
    pub(super) async fn whole(mut self) -> Result<Message, ApiError> {
        let reply = self.talk.whole().await?.swap_remove(0);
        let mut message = self.message(blocks(&reply));
        if let Some(reason) = reply.reason() {
            let (reason, sequence) = stop(reason, reply.calls.len());
            message.stop_reason = Some(reason);
            message.stop_sequence = sequence;
        }
        Ok(message)
    }

    /// The message with this content, as far as it is known.
    pub(super) fn message(&self, content: Vec<Block>) -> Message {
        Message {
            id: self.id.clone(),
            kind: "message",
            role: "assistant",
            model: self.talk.model.name.clone(),
            content,
            stop_reason: None,
            stop_sequence: None,
            usage: self.usage(),
        }
    }

    /// Tokens so far; those that the prefix cache had are counted apart.
    pub(super) fn usage(&self) -> MessageUsage {
        let usage = self.talk.usage;
        MessageUsage {
            input_tokens: usage.prompt - usage.cached,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached,
            output_tokens: usage.completion,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Message {
    id: String,
    /// `message`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `assistant`.
    role: &'static str,
    model: String,
    content: Vec<Block>,
    /// `end_turn`, `max_tokens`, `stop_sequence`, `tool_use` or `model_context_window_exceeded`.
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
    usage: MessageUsage,
}

#[derive(Serialize, ToSchema)]
pub(super) struct MessageUsage {
    /// Without those that the prefix cache had.
    input_tokens: usize,
    cache_creation_input_tokens: usize,
    cache_read_input_tokens: usize,
    output_tokens: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Thinking {
        thinking: String,
        /// Always empty.
        signature: &'static str,
    },
    Text {
        text: String,
        /// Always `null`.
        #[schema(value_type = Option<String>)]
        citations: (),
    },
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: Value,
    },
}

fn blocks(reply: &Reply) -> Vec<Block> {
    let mut blocks = Vec::new();
    if !reply.reasoning.is_empty() {
        blocks.push(Block::Thinking {
            thinking: reply.reasoning.clone(),
            signature: "",
        });
    }
    if !reply.text.is_empty() {
        blocks.push(Block::Text {
            text: reply.text.clone(),
            citations: (),
        });
    }
    let calls = reply.calls.iter().map(|call| Block::ToolUse {
        id: call.id.clone(),
        name: call.function.name.clone(),
        input: arguments(&call.function.arguments),
    });
    blocks.extend(calls);
    blocks
}

/// Anthropic's names for why an answer ended, and the text at which it did.
pub(super) fn stop(reason: &FinishReason, calls: usize) -> (&'static str, Option<String>) {
    let name = match reason {
        FinishReason::StopString(text) => return ("stop_sequence", Some(text.clone())),
        FinishReason::Length => "max_tokens",
        FinishReason::ContextFull => "model_context_window_exceeded",
        _ if calls > 0 => "tool_use",
        _ => "end_turn",
    };
    (name, None)
}
