//! `POST /api/generate`: one question, or a text to go on with.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use zse::{Message, Role};

use super::answer::OllamaAnswer;
use super::no_images;
use super::request::{Common, Question};
use crate::error::ApiError;
use crate::openapi::All;
use crate::request::{Fields, Unsupported, never, unsupported};
use crate::state::App;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaGenerate, example = json!({ "prompt": "Tell me a story." }))]
struct Body {
    prompt: Option<String>,
    /// What stands behind the text that is asked for, and the prompt before it.
    suffix: Option<String>,
    system: Option<String>,
    /// Whether the prompt is continued as it is, without the chat template.
    raw: Option<bool>,
    /// Refused.
    images: Option<Value>,
}

const UNSUPPORTED: [Unsupported; 5] = [
    unsupported("template", "a model has its own", |v| v == ""),
    unsupported("context", "send the messages to /api/chat", |v| {
        v.as_array().is_some_and(Vec::is_empty)
    }),
    unsupported("width", "models here give text", never),
    unsupported("height", "models here give text", never),
    unsupported("steps", "models here give text", never),
];

/// All parameters of a request.
type Request = All<(Body, Common)>;

/// The answer to a question, or how a text goes on
#[utoipa::path(
    post,
    path = "/api/generate",
    tag = "Ollama",
    request_body = inline(Request),
    responses((
        status = 200,
        content((OllamaAnswer = "application/x-ndjson"), (OllamaAnswer = "application/json")),
    )),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    let mut common: Common = fields.take()?;
    let drawing = common.drawing(&fields)?;
    fields.finish(&UNSUPPORTED)?;
    no_images(body.images.as_ref(), "images")?;
    let prompt = body.prompt.filter(|prompt| !prompt.is_empty());
    let system = body.system.filter(|system| !system.is_empty());
    let mut question = Question {
        suffix: body.suffix.filter(|suffix| !suffix.is_empty()),
        ..Question::default()
    };
    let is_raw = body.raw.unwrap_or(false) || question.suffix.is_some();
    match (prompt, is_raw) {
        (None, _) if question.suffix.is_none() => {}
        (_, true) if system.is_some() => {
            let message = "system has no place in a raw prompt, or one with a suffix";
            return Err(ApiError::param("system", message));
        }
        (None, _) => question.raw = Some(String::new()),
        (Some(prompt), false) => {
            question
                .messages
                .extend(system.map(|text| Message::new(Role::System, text)));
            question.messages.push(Message::new(Role::User, prompt));
        }
        (Some(prompt), true) => question.raw = Some(prompt),
    }
    common.answer(&app, drawing, question).await
}
