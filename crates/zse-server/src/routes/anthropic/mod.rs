//! Anthropic's API: `/v1/messages` and `/v1/messages/count_tokens`.

mod answer;
mod messages;
mod request;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json as object_of;

use super::json;
use crate::error::ApiError;
use crate::job;
use crate::request::Fields;
use crate::sse::Wire;
use crate::state::App;
use answer::Answer;
use request::Question;

/// Where its paths begin, whose errors have Anthropic's shape.
pub(crate) const PATH: &str = "/v1/messages";

/// What parameters are called that have another name in OpenAI's API.
pub(crate) const NAMES: [(&str, &str); 3] = [
    ("response_format", "output_config.format"),
    (
        "parallel_tool_calls",
        "tool_choice.disable_parallel_tool_use",
    ),
    ("stop", "stop_sequences"),
];

/// Its routes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/messages", post(create))
        .route("/v1/messages/count_tokens", post(count_tokens))
}

#[derive(Debug, Deserialize)]
struct Create {
    max_tokens: usize,
    stream: Option<bool>,
}

/// The next message of a conversation.
async fn create(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response, ApiError> {
    let body: Create = fields.take()?;
    let question: Question = fields.take()?;
    let mut chat = question.chat(fields)?;
    chat.max_tokens = Some(body.max_tokens);
    let ready = chat.ready(&app).await?;
    if body.stream.unwrap_or(false) {
        let start = move || ready.start();
        job::streaming(&app, Wire::PingedEvents, start, |talk, events| {
            stream::write(&mut Answer::new(talk), events);
        })
        .await
    } else {
        job::blocking(move |is_gone| Ok(json(&Answer::new(ready.start()?).whole(is_gone)?))).await
    }
}

/// How many tokens a conversation has.
async fn count_tokens(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let question: Question = fields.take()?;
    let ready = question.chat(fields)?.ready(&app).await?;
    job::blocking(move |_| {
        let tokens = ready.tokens()?.len();
        Ok(json(&object_of!({ "input_tokens": tokens })))
    })
    .await
}
