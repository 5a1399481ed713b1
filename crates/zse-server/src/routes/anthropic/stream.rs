//! The answer as a stream of typed events.

use serde_json::{Value, json};

use super::answer::{Answer, stop};
use crate::chat::{Event, Part};
use crate::sse::Events;

/// Writes blocks one after the other: a block is closed when another begins.
struct Blocks {
    events: Events,
    /// The block that is open, and its number.
    open: Option<Kind>,
    index: usize,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call(usize),
}

impl Blocks {
    fn send(&self, data: &Value) {
        self.events
            .named(data["type"].as_str().unwrap_or_default(), data);
    }

    /// Opens a block, unless it is open.
    fn begin(&mut self, kind: Kind, content: Value) {
        if self.open == Some(kind) {
            return;
        }
        self.end();
        self.open = Some(kind);
        self.send(&json!({
            "type": "content_block_start", "index": self.index, "content_block": content,
        }));
    }

    fn delta(&self, delta: Value) {
        self.send(&json!({
            "type": "content_block_delta", "index": self.index, "delta": delta,
        }));
    }

    /// Closes the block that is open.
    fn end(&mut self) {
        if self.open.take().is_some() {
            self.send(&json!({ "type": "content_block_stop", "index": self.index }));
            self.index += 1;
        }
    }

    fn part(&mut self, part: Part) {
        match part {
            Part::Text(text) => {
                self.begin(
                    Kind::Text,
                    json!({ "type": "text", "text": "", "citations": null }),
                );
                self.delta(json!({ "type": "text_delta", "text": text }));
            }
            Part::Reasoning(text) => {
                let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                self.begin(Kind::Thinking, block);
                self.delta(json!({ "type": "thinking_delta", "thinking": text }));
            }
            Part::Call { index, id, name } => {
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                self.begin(Kind::Call(index), block);
            }
            Part::Arguments { text, .. } => {
                self.delta(json!({ "type": "input_json_delta", "partial_json": text }));
            }
        }
    }
}

/// Sends every piece as soon as it is certain.
pub(super) async fn write(mut answer: Answer, events: Events) {
    let mut blocks = Blocks {
        events,
        open: None,
        index: 0,
    };
    let message = answer.message(Vec::new());
    blocks.send(&json!({ "type": "message_start", "message": message }));
    blocks.send(&json!({ "type": "ping" }));
    while let Some(event) = answer.talk.next().await {
        match event {
            Ok(Event::Parts { parts, .. }) => parts.into_iter().for_each(|p| blocks.part(p)),
            Ok(Event::Finished {
                parts,
                calls,
                finished,
                ..
            }) => {
                parts.into_iter().for_each(|p| blocks.part(p));
                blocks.end();
                let (reason, sequence) = stop(&finished.reason, calls);
                blocks.send(&json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": reason, "stop_sequence": sequence },
                    "usage": answer.usage(),
                }));
                blocks.send(&json!({ "type": "message_stop" }));
            }
            Err(error) => {
                blocks.send(&error.anthropic());
                blocks.events.failed(&error);
                return;
            }
        }
    }
}
