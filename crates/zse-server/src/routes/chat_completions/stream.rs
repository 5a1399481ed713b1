//! The answer as a stream of chunks.

use serde_json::{Value, json};

use super::answer::Answer;
use crate::job::{Piece, Running};
use crate::logprobs;
use crate::sse::Events;
use crate::tools::{Part, ToolReader};
use crate::usage;

/// Sends every piece as soon as it is certain. Ends with OpenAI's mark, after an error too.
pub(super) fn write(mut running: Running, mut answer: Answer, events: &Events) {
    let n = answer.shape.n as usize;
    let mut readers: Vec<ToolReader> = Vec::new();
    readers.resize_with(n, ToolReader::default);
    for index in 0..n {
        let delta = json!({ "role": "assistant", "content": "", "refusal": null });
        answer.send(events, index, delta, None);
    }
    let is_gone = || events.is_gone();
    while let Some(piece) = running.next(&is_gone) {
        match piece {
            Ok(Piece::Chunk { chunk, .. }) => {
                let index = chunk.choice as usize;
                answer.usage.completion += chunk.tokens.len();
                let logprobs = answer.shape.logprobs.then(|| {
                    let tokenizer = answer.model.engine.tokenizer();
                    logprobs::chat(&chunk.tokens, tokenizer)
                });
                let reader = &mut readers[index];
                let parts = match answer.shape.tools {
                    true => reader.push(&chunk.text),
                    false if chunk.text.is_empty() => Vec::new(),
                    false => vec![Part::Text(chunk.text)],
                };
                answer.parts(events, index, parts, reader.calls(), logprobs);
            }
            Ok(Piece::Finished { finished, .. }) => {
                let index = finished.choice as usize;
                let reader = &mut readers[index];
                let parts = reader.finish();
                answer.parts(events, index, parts, reader.calls(), None);
                let reason = usage::reason(&finished.reason, reader.calls());
                answer.send(events, index, json!({}), Some(reason));
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
        chunk["usage"] = answer.usage.value();
        events.send(&chunk);
    }
    events.done();
}

impl Answer {
    /// Sends pieces of a choice that has had `calls` calls, these included. Log-probabilities go
    /// with the first piece, or alone while their text is held back.
    fn parts(
        &self,
        events: &Events,
        index: usize,
        parts: Vec<Part>,
        calls: usize,
        logprobs: Option<Vec<Value>>,
    ) {
        let mut logprobs = logprobs.filter(|entries| !entries.is_empty());
        let new = parts.iter().filter(|p| matches!(p, Part::Call(_))).count();
        let mut number = calls - new;
        for part in parts {
            match part {
                Part::Text(text) => {
                    self.delta(events, index, json!({ "content": text }), logprobs.take());
                }
                Part::Call(call) => {
                    let head = json!({ "tool_calls": [{
                        "index": number,
                        "id": call.id,
                        "type": "function",
                        "function": { "name": call.function.name, "arguments": "" },
                    }]});
                    self.delta(events, index, head, logprobs.take());
                    let arguments = json!({ "tool_calls": [{
                        "index": number,
                        "function": { "arguments": call.function.arguments },
                    }]});
                    self.delta(events, index, arguments, None);
                    number += 1;
                }
            }
        }
        if logprobs.is_some() {
            self.delta(events, index, json!({}), logprobs);
        }
    }

    fn send(&self, events: &Events, index: usize, delta: Value, reason: Option<&str>) {
        let choice = json!({
            "index": index,
            "delta": delta,
            "logprobs": null,
            "finish_reason": reason,
        });
        events.send(&self.chunk(vec![choice]));
    }

    fn delta(&self, events: &Events, index: usize, delta: Value, logprobs: Option<Vec<Value>>) {
        let logprobs = logprobs.map(|entries| json!({ "content": entries, "refusal": null }));
        let choice = json!({
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": null,
        });
        events.send(&self.chunk(vec![choice]));
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model.name,
            "choices": choices,
        });
        let stream = self.shape.stream;
        if stream.continuous_usage_stats == Some(true) {
            chunk["usage"] = self.usage.value();
        } else if stream.include_usage == Some(true) {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}
