//! Answers as Ollama writes them: objects of one shape, streamed one a line.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zse::{Finished, TokenInfo};

use crate::chat::{Event, Part, Talk, arguments as object_of};
use crate::error::ApiError;
use crate::logprobs::{self, TokenLogprob};
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
    /// All of it in one object.
    pub(super) async fn whole(mut self) -> Result<OllamaAnswer, ApiError> {
        let reply = self.talk.whole().await?.swap_remove(0);
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
    pub(super) async fn stream(mut self, events: Events) {
        let mut open: Option<(String, String)> = None;
        while let Some(event) = self.talk.next().await {
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
    fn object(&self, piece: &Piece) -> OllamaAnswer {
        let mut object = OllamaAnswer::new(&self.model, self.is_chat, &piece.text);
        let thinking = Some(piece.thinking.clone()).filter(|text| !text.is_empty());
        match &mut object.message {
            None => object.thinking = thinking,
            Some(message) => {
                message.thinking = thinking;
                message.tool_calls = piece.calls.iter().map(OllamaCall::new).collect();
            }
        }
        object.logprobs = self.logprobs.then(|| {
            let tokenizer = self.talk.model.engine.tokenizer();
            logprobs::content(&piece.tokens, tokenizer)
        });
        object
    }

    /// Makes an object the last.
    fn end(&self, object: &mut OllamaAnswer, finished: &Finished) {
        let timings = finished.timings;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        object.done = true;
        object.done_reason = Some(finished.reason.name());
        object.total_duration = Some(nanoseconds(self.began.elapsed()));
        object.load_duration = Some(nanoseconds(self.load));
        object.prompt_eval_count = Some(self.talk.usage.prompt);
        object.prompt_eval_duration = Some(nanoseconds(timings.prompt));
        object.eval_count = Some(self.talk.usage.completion);
        object.eval_duration = Some(nanoseconds(timings.decode));
    }
}

/// An answer, or a piece of one: of a chat with `message`, else with `response`. Times are in
/// nanoseconds.
#[derive(Serialize, ToSchema)]
pub(super) struct OllamaAnswer {
    model: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<OllamaMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenLogprob>>,
    /// `stop`, `length`, `load` or `unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_duration: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct OllamaMessage {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<OllamaCall>,
}

#[derive(Serialize, ToSchema)]
struct OllamaCall {
    function: OllamaFunction,
}

#[derive(Serialize, ToSchema)]
struct OllamaFunction {
    name: String,
    #[schema(value_type = Object)]
    arguments: Value,
}

impl OllamaCall {
    fn new((name, arguments): &(String, String)) -> Self {
        Self {
            function: OllamaFunction {
                name: name.clone(),
                arguments: object_of(arguments),
            },
        }
    }
}

impl OllamaAnswer {
    /// With this text, and nothing more.
    fn new(model: &str, is_chat: bool, text: &str) -> Self {
        let message = is_chat.then(|| OllamaMessage {
            role: "assistant",
            content: text.to_owned(),
            thinking: None,
            tool_calls: Vec::new(),
        });
        Self {
            model: model.to_owned(),
            created_at: jiff::Timestamp::now().to_string(),
            message,
            response: (!is_chat).then(|| text.to_owned()),
            done: false,
            thinking: None,
            logprobs: None,
            done_reason: None,
            total_duration: None,
            load_duration: None,
            prompt_eval_count: None,
            prompt_eval_duration: None,
            eval_count: None,
            eval_duration: None,
        }
    }

    /// The answer to a request that only loads or unloads its model.
    pub(super) fn empty(model: &str, is_chat: bool, reason: &'static str) -> Self {
        Self {
            done: true,
            done_reason: Some(reason),
            ..Self::new(model, is_chat, "")
        }
    }
}
