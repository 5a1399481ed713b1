//! Conversations.

use serde_json::{Map, Value};
use zse_text::{ChatInput, Message};

/// A conversation that wants its next message.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// What was said so far.
    pub messages: Vec<Message>,
    /// Functions that the model may call, as OpenAI's API describes them.
    pub tools: Vec<Value>,
    /// Further variables of the chat template, such as `enable_thinking`.
    pub extra: Map<String, Value>,
}

impl ChatRequest {
    /// A conversation without tools.
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }

    /// What the template is given.
    pub(crate) fn input(&self) -> ChatInput<'_> {
        ChatInput {
            messages: &self.messages,
            tools: &self.tools,
            add_generation_prompt: true,
            extra: self.extra.clone(),
            ..ChatInput::default()
        }
    }
}
