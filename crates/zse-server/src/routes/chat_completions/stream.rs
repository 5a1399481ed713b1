//! The answer as a stream of chunks.

use serde_json::{Value, json};

use super::answer::Answer;
use crate::chat::{Event, Part};
use crate::logprobs;
use crate::sse::Events;
use crate::usage;

/// Sends every piece as soon as it is certain. Ends with OpenAI's mark, after an error too.
pub(super) fn write(answer: &mut Answer, events: &Events) {
    for index in 0..answer.talk.n() {
        let delta = json!({ "role": "assistant", "content": "", "refusal": null });
        answer.send(events, index, delta, None);
    }
    let is_gone = || events.is_gone();
    while let Some(event) = answer.talk.next(&is_gone) {
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
                answer.parts(events, choice, parts, logprobs);
            }
            Ok(Event::Finished {
                choice,
                parts,
                calls,
                finished,
            }) => {
                answer.parts(events, choice, parts, None);
                let reason = usage::reason(&finished.reason, calls);
                answer.send(events, choice, json!({}), Some(reason));
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
        chunk["usage"] = answer.talk.usage.value();
        events.send(&chunk);
    }
    events.done();
}

impl Answer {
    /// Sends pieces of a choice. Log-probabilities go with the first piece, or alone while their
    /// text is held back.
    fn parts(&self, events: &Events, index: usize, parts: Vec<Part>, logprobs: Option<Vec<Value>>) {
        let mut logprobs = logprobs.filter(|entries| !entries.is_empty());
        for part in parts {
            let delta = match part {
                Part::Text(text) => json!({ "content": text }),
                Part::Reasoning(text) => json!({ "reasoning_content": text }),
                Part::Call { index, id, name } => json!({ "tool_calls": [{
                    "index": index,
                    "id": id,
                    "type": "function",
                    "function": { "name": name, "arguments": "" },
                }]}),
                Part::Arguments { index, text } => json!({ "tool_calls": [{
                    "index": index,
                    "function": { "arguments": text },
                }]}),
            };
            self.delta(events, index, delta, logprobs.take());
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
            "model": self.talk.model.name,
            "choices": choices,
        });
        let stream = self.shape.stream;
        if stream.continuous_usage_stats == Some(true) {
            chunk["usage"] = self.talk.usage.value();
        } else if stream.include_usage == Some(true) {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}
