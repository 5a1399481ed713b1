//! What a chat and a plain generation have in common.

use std::sync::Arc;
use std::time::Instant;

use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zse::Message;

use super::answer::{Answer, OllamaAnswer};
use super::options::{self, Drawing};
use super::{format, keep, load_only, untagged};
use crate::chat::Chat;
use crate::error::ApiError;
use crate::job;
use crate::request::Fields;
use crate::routes::json;
use crate::sampling::check_top;
use crate::sse::Wire;
use crate::state::App;

/// The parameters of both.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaRequest, example = json!({ "model": "builtin", "stream": false }))]
pub(super) struct Common {
    model: Option<String>,
    /// `json`, or a JSON schema.
    format: Option<Value>,
    #[schema(value_type = Option<options::Schema>)]
    options: Option<Map<String, Value>>,
    /// True unless it is false.
    stream: Option<bool>,
    /// Seconds, or a time such as `5m`; negative: for ever.
    keep_alive: Option<Value>,
    /// True, false or an effort.
    think: Option<Value>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
}

/// What is to be answered.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// Whether the answer is a message.
    pub(super) is_chat: bool,
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<Value>,
    /// A text to continue instead of messages.
    pub(super) raw: Option<String>,
    /// What stands behind that text: what is missing between them is wanted.
    pub(super) suffix: Option<String>,
}

impl Common {
    /// How tokens are to be drawn.
    pub(super) fn drawing(&mut self, request: &Fields) -> Result<Drawing, ApiError> {
        options::read(request, self.options.take())
    }

    /// Answers a question; without one, loads or unloads the model.
    pub(super) async fn answer(
        self,
        app: &Arc<App>,
        drawing: Drawing,
        question: Question,
    ) -> Result<Response, ApiError> {
        let began = Instant::now();
        let name = self.model.as_deref().map(untagged);
        let form = format(self.format.as_ref())?;
        let top_logprobs = check_top("top_logprobs", self.top_logprobs.unwrap_or(0))?;
        let logprobs = self.logprobs.unwrap_or(false);
        if top_logprobs > 0 && !logprobs {
            let message = "top_logprobs needs logprobs to be true";
            return Err(ApiError::param("top_logprobs", message));
        }
        let effort = match &self.think {
            None => None,
            Some(Value::Bool(true)) => Some("medium"),
            Some(Value::Bool(false)) => Some("none"),
            Some(Value::String(effort)) => Some(effort.as_str()),
            Some(_) => {
                let message = "think must be true, false, or an effort such as \"low\"";
                return Err(ApiError::param("think", message));
            }
        };
        let is_chat = question.is_chat;
        let time = self.keep_alive.as_ref();
        if question.messages.is_empty() && question.raw.is_none() {
            let reason = load_only(app, name, time).await?;
            let model = self.model.as_deref().unwrap_or_default();
            return Ok(json(&OllamaAnswer::empty(model, is_chat, reason)));
        }
        let chat = Chat {
            model: name.map(str::to_owned),
            messages: question.messages,
            raw: question.raw,
            suffix: question.suffix,
            tools: question.tools,
            form,
            sampling: drawing.sampling,
            max_tokens: drawing.max_tokens,
            top_logprobs,
            effort: effort.map(|effort| ("think", effort.to_owned())),
            ..Chat::default()
        };
        let ready = chat.ready(app).await?;
        if let Some(wanted) = drawing.context {
            options::check_context(wanted, ready.model.engine.limits().sequence())?;
        }
        keep(app, &ready.model, time)?;
        let load = began.elapsed();
        let model = self.model.unwrap_or_else(|| ready.model.name.clone());
        let open = move |talk| Answer {
            model,
            is_chat,
            logprobs,
            talk,
            began,
            load,
        };
        if self.stream.unwrap_or(true) {
            job::streaming(
                app,
                Wire::Lines,
                move |_| ready.start(),
                |talk, events| open(talk).stream(events),
            )
            .await
        } else {
            let talk = job::blocking(move |_| ready.start()).await?;
            Ok(json(&open(talk).whole().await?))
        }
    }
}
