//! Answers as Ollama writes them: objects of one shape, streamed one a line.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zse::{Finished, TokenInfo};

use crate::chat::{Event, Part, Talk, arguments as object_of};
use crate::error::ApiError;
use crate::logprobs;
use crate::sse::Events;

/// An answer while it is written.
pub(super) struct Answer {
    /// The model, as the client called it.
    pub(super) model: String,
    /// Whether it is a message, or a plain response.
    pub(super) is_chat: bool,
    pub(super) logprobs: bool,
    pub(super) talk: Talk,
    /// When the request came, and how long its model was waited for.
    pub(super) began: Instant,
    pub(super) load: Duration,
}

/// What came of a continuation.
#[derive(Debug, Default)]
struct Piece {
    text: String,
    thinking: String,
    calls: Vec<(String, String)>,
    tokens: Vec<TokenInfo>,
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.text.is_empty()
            && self.thinking.is_empty()
            && self.calls.is_empty()
            && self.tokens.is_empty()
    }
}

impl Answer {
    /// All of it in one object. What it gives once the client is gone does not matter.
    pub(super) fn whole(mut self, is_gone: &dyn Fn() -> bool) -> Result<Value, ApiError> {
        let reply = self.talk.whole(is_gone)?.swap_remove(0);
        let calls = reply.calls.into_iter();
        let piece = Piece {
            text: reply.text,
            thinking: reply.reasoning,
            calls: calls
                .map(|call| (call.function.name, call.function.arguments))
                .collect(),
            tokens: reply.tokens,
        };
        let mut object = self.object(&piece);
        if let Some(finished) = &reply.finished {
            self.end(&mut object, finished);
        }
        Ok(object)
    }

    /// A line for each piece. Calls are given whole, as Ollama does.
    pub(super) fn stream(mut self, events: &Events) {
        let is_gone = || events.is_gone();
        let mut open: Option<(String, String)> = None;
        while let Some(event) = self.talk.next(&is_gone) {
            let (parts, tokens, finished) = match event {
                Ok(Event::Parts { parts, tokens, .. }) => (parts, tokens, None),
                Ok(Event::Finished {
                    parts, finished, ..
                }) => (parts, Vec::new(), Some(finished)),
                Err(error) => {
                    events.line(&error.ollama());
                    events.failed(&error);
                    return;
                }
            };
            let mut piece = Piece::default();
            if self.logprobs {
                piece.tokens = tokens;
            }
            for part in parts {
                match part {
                    Part::Text(text) => piece.text.push_str(&text),
                    Part::Reasoning(text) => piece.thinking.push_str(&text),
                    Part::Call { name, .. } => {
                        piece.calls.extend(open.replace((name, String::new())));
                    }
                    Part::Arguments { text, .. } => {
                        if let Some((_, arguments)) = &mut open {
                            arguments.push_str(&text);
                        }
                    }
                }
            }
            if finished.is_some() {
                piece.calls.extend(open.take());
            }
            if !piece.is_empty() {
                events.line(&self.object(&piece));
            }
            if let Some(finished) = finished {
                let mut last = self.object(&Piece::default());
                self.end(&mut last, &finished);
                events.line(&last);
            }
        }
    }

    /// An object that is not the last.
    fn object(&self, piece: &Piece) -> Value {
        let mut object = head(&self.model, self.is_chat, &piece.text);
        let holder = match self.is_chat {
            true => &mut object["message"],
            false => &mut object,
        };
        if !piece.thinking.is_empty() {
            holder["thinking"] = piece.thinking.as_str().into();
        }
        if !piece.calls.is_empty() {
            let call = |(name, arguments): &(String, String)| json!({ "function": { "name": name, "arguments": object_of(arguments) } });
            holder["tool_calls"] = piece.calls.iter().map(call).collect();
        }
        if self.logprobs {
            let tokenizer = self.talk.model.engine.tokenizer();
            object["logprobs"] = logprobs::content(&piece.tokens, tokenizer).into();
        }
        object
    }

    /// Makes an object the last.
    fn end(&self, object: &mut Value, finished: &Finished) {
        let timings = finished.timings;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        object["done"] = true.into();
        object["done_reason"] = finished.reason.name().into();
        object["total_duration"] = nanoseconds(self.began.elapsed()).into();
        object["load_duration"] = nanoseconds(self.load).into();
        object["prompt_eval_count"] = self.talk.usage.prompt.into();
        object["prompt_eval_duration"] = nanoseconds(timings.prompt).into();
        object["eval_count"] = self.talk.usage.completion.into();
        object["eval_duration"] = nanoseconds(timings.decode).into();
    }
}

/// What every object has.
fn head(model: &str, is_chat: bool, text: &str) -> Value {
    let mut object = json!({
        "model": model,
        "created_at": jiff::Timestamp::now().to_string(),
    });
    match is_chat {
        true => object["message"] = json!({ "role": "assistant", "content": text }),
        false => object["response"] = text.into(),
    }
    object["done"] = false.into();
    object
}

/// The answer to a request that only loads or unloads its model.
pub(super) fn empty(model: &str, is_chat: bool, reason: &str) -> Value {
    let mut object = head(model, is_chat, "");
    object["done"] = true.into();
    object["done_reason"] = reason.into();
    object
}
