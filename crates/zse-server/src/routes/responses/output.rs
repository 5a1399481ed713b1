//! The items of an answer, and the events that tell of them while they are written.

use serde_json::{Value, json};
use zse::{FinishReason, Message, Role, TokenInfo, ToolCall};

use super::object::{Failure, Incomplete, ResponseObject};
use super::pairing::Unspoken;
use super::request::Echo;
use super::store::Done;
use crate::chat::{Event, Part, Talk};
use crate::error::ApiError;
use crate::logprobs::{self, TokenLogprob};
use crate::sse::Events;
use crate::state::now;
use crate::usage;

/// Puts an answer together; tells of every step where there is a stream.
pub(super) struct Writer {
    talk: Talk,
    echo: Echo,
    events: Option<Events>,
    id: String,
    created: u64,
    sequence: u64,
    /// Items that are complete.
    items: Vec<Value>,
    open: Option<Open>,
    /// Tokens that wait for their text, if log-probabilities are wanted.
    unspoken: Unspoken,
    /// The answer as a message, for responses that go on from this one.
    message: Message,
}

/// The item that is being written.
struct Open {
    id: String,
    kind: Kind,
    text: String,
    logprobs: Vec<TokenLogprob>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    Call { id: String, name: String },
}

impl Writer {
    pub(super) fn new(talk: Talk, echo: Echo, events: Option<Events>) -> Self {
        Self {
            talk,
            echo,
            events,
            id: usage::id("resp").replace('-', "_"),
            created: now(),
            sequence: 0,
            items: Vec::new(),
            open: None,
            unspoken: Unspoken::default(),
            message: Message::new(Role::Assistant, ""),
        }
    }

    /// Writes all of it, and has it kept before its client is told of its end: from then on it may
    /// be gone on from.
    ///
    /// # Errors
    /// If the generation failed, of which a stream has told.
    pub(super) async fn run(mut self, keep: impl FnOnce(Done)) -> Result<Value, ApiError> {
        for kind in ["response.created", "response.in_progress"] {
            self.send(kind, json!({ "response": self.response("in_progress") }));
        }
        let mut reason = FinishReason::Cancelled;
        while let Some(event) = self.talk.next().await {
            match event {
                Ok(Event::Parts { parts, tokens, .. }) => self.take(parts, &tokens),
                Ok(Event::Finished {
                    parts, finished, ..
                }) => {
                    self.take(parts, &[]);
                    reason = finished.reason;
                }
                Err(error) => {
                    let mut response = self.response("failed");
                    response.error = Some(Failure {
                        code: "server_error",
                        message: error.message().to_owned(),
                    });
                    self.send("response.failed", json!({ "response": response }));
                    if let Some(events) = &self.events {
                        events.failed(&error);
                    }
                    return Err(error);
                }
            }
        }
        let (status, details) = match reason {
            FinishReason::Length | FinishReason::ContextFull => {
                let reason = "max_output_tokens";
                ("incomplete", Some(Incomplete { reason }))
            }
            _ => ("completed", None),
        };
        self.close(status);
        let response = json!(ResponseObject {
            incomplete_details: details,
            ..self.response(status)
        });
        let mut messages = std::mem::take(&mut self.echo.messages);
        messages.push(self.message.clone());
        keep(Done {
            id: self.id.clone(),
            response: response.clone(),
            items: std::mem::take(&mut self.echo.items),
            messages,
            // What nobody waited for is nothing to go on from.
            store: self.echo.store && reason != FinishReason::Cancelled,
        });
        self.send(
            &format!("response.{status}"),
            json!({ "response": response }),
        );
        Ok(response)
    }

    /// The response as far as it is written.
    fn response(&self, status: &str) -> ResponseObject {
        ResponseObject {
            id: self.id.clone(),
            object: "response",
            created_at: self.created,
            status: status.to_owned(),
            error: None,
            incomplete_details: None,
            model: self.talk.model.name.clone(),
            output: self.items.clone(),
            request: self.echo.fields.clone(),
            usage: (status != "in_progress").then(|| self.talk.usage.into()),
        }
    }

    fn take(&mut self, parts: Vec<Part>, tokens: &[TokenInfo]) {
        if self.echo.logprobs {
            self.unspoken
                .extend(tokens, self.talk.model.engine.tokenizer());
        }
        for part in parts {
            match part {
                Part::Text(text) => {
                    self.open(Kind::Message);
                    let own = self.logprobs(&text);
                    let more = json!({ "content_index": 0, "delta": text, "logprobs": own });
                    self.delta("response.output_text.delta", &text, more);
                    if let Some(open) = &mut self.open {
                        open.logprobs.extend(own);
                    }
                }
                Part::Reasoning(text) => {
                    self.open(Kind::Reasoning);
                    self.unspoken.take(&text);
                    let more = json!({ "content_index": 0, "delta": text });
                    self.delta("response.reasoning_text.delta", &text, more);
                }
                Part::Call { id, name, .. } => {
                    self.unspoken.take(&name);
                    self.open(Kind::Call { id, name });
                }
                Part::Arguments { text, .. } => {
                    self.unspoken.take(&text);
                    let more = json!({ "delta": text });
                    self.delta("response.function_call_arguments.delta", &text, more);
                }
            }
        }
    }

    /// The log-probabilities of the tokens of a text.
    fn logprobs(&mut self, text: &str) -> Vec<TokenLogprob> {
        let tokens = self.unspoken.take(text);
        logprobs::content(&tokens, self.talk.model.engine.tokenizer())
    }

    /// Begins an item, unless one of this kind is open.
    fn open(&mut self, kind: Kind) {
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            return;
        }
        self.close("completed");
        let prefix = match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
            Kind::Call { .. } => "fc",
        };
        let open = Open {
            id: usage::id(prefix).replace('-', "_"),
            kind,
            text: String::new(),
            logprobs: Vec::new(),
        };
        let item = open.item("in_progress");
        self.open = Some(open);
        self.at("response.output_item.added", json!({ "item": item }));
        if let Some(part) = self.part() {
            let added = json!({ "content_index": 0, "part": part });
            self.at("response.content_part.added", added);
        }
    }

    fn delta(&mut self, kind: &str, text: &str, more: Value) {
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
        }
        self.at(kind, more);
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str) {
        let Some(open) = &self.open else {
            return;
        };
        let text = open.text.clone();
        match &open.kind {
            Kind::Message => {
                let logprobs = open.logprobs.clone();
                let done = json!({ "content_index": 0, "text": text, "logprobs": logprobs });
                self.message.content = Some(zse::Content::Text(self.message.text() + &text));
                self.at("response.output_text.done", done);
            }
            Kind::Reasoning => {
                let done = json!({ "content_index": 0, "text": text });
                self.message.reasoning_content = Some(text);
                self.at("response.reasoning_text.done", done);
            }
            Kind::Call { id, name } => {
                let call = ToolCall::new(id, name, &*text);
                let done = json!({ "name": name, "arguments": text });
                self.message.tool_calls.push(call);
                self.at("response.function_call_arguments.done", done);
            }
        }
        if let Some(part) = self.part() {
            let done = json!({ "content_index": 0, "part": part });
            self.at("response.content_part.done", done);
        }
        let item = self.open.as_ref().map(|open| open.item(status));
        self.at("response.output_item.done", json!({ "item": item }));
        self.items.extend(item);
        self.open = None;
    }

    /// The part of the item that is open, if that has parts.
    fn part(&self) -> Option<Value> {
        self.open.as_ref().and_then(Open::part)
    }

    /// Tells of the item that is open.
    fn at(&mut self, kind: &str, mut more: Value) {
        let open = self.open.as_ref();
        if let Some(open) = open.filter(|_| !kind.contains("output_item")) {
            more["item_id"] = open.id.as_str().into();
        }
        more["output_index"] = self.items.len().into();
        self.send(kind, more);
    }

    fn send(&mut self, kind: &str, mut data: Value) {
        if let Some(events) = &self.events {
            data["type"] = kind.into();
            data["sequence_number"] = self.sequence.into();
            self.sequence += 1;
            events.named(kind, &data);
        }
    }
}

impl Open {
    fn part(&self) -> Option<Value> {
        match self.kind {
            Kind::Message => Some(json!({
                "type": "output_text", "text": self.text, "annotations": [],
                "logprobs": self.logprobs,
            })),
            Kind::Reasoning => Some(json!({ "type": "reasoning_text", "text": self.text })),
            Kind::Call { .. } => None,
        }
    }

    /// The item as far as it is written.
    fn item(&self, status: &str) -> Value {
        let content: Vec<Value> = match status {
            "in_progress" => Vec::new(),
            _ => self.part().into_iter().collect(),
        };
        match &self.kind {
            Kind::Message => json!({
                "id": self.id, "type": "message", "status": status, "role": "assistant",
                "content": content,
            }),
            Kind::Reasoning => json!({
                "id": self.id, "type": "reasoning", "status": status, "summary": [],
                "content": content,
            }),
            Kind::Call { id, name } => json!({
                "id": self.id, "type": "function_call", "status": status, "call_id": id,
                "name": name, "arguments": self.text,
            }),
        }
    }
}
