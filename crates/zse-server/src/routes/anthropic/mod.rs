//! Anthropic's API: `/v1/messages` and `/v1/messages/count_tokens`.

mod answer;
mod messages;
mod request;
mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::json;
use crate::error::ApiError;
use crate::job;
use crate::openapi::All;
use crate::request::Fields;
use crate::sampling::Sampling;
use crate::sse::Wire;
use crate::state::App;
use crate::waiting;
use answer::{Answer, Message};
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
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(create))
        .routes(routes!(count_tokens))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MessageCreate)]
struct Create {
    max_tokens: usize,
    stream: Option<bool>,
}

/// All parameters of a request.
type Request = All<(Create, Question, Sampling)>;

/// The next message of a conversation
///
/// A stream has Anthropic's typed events, from `message_start` to `message_stop`.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "Anthropic",
    request_body = inline(Request),
    responses((
        status = 200,
        content((Message = "application/json"), (String = "text/event-stream")),
    )),
)]
async fn create(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, ApiError> {
    waiting::stream(app, fields, PATH, answer).await
}

async fn answer(app: Arc<App>, mut fields: Fields) -> Result<Response, ApiError> {
    let body: Create = fields.take()?;
    let question: Question = fields.take()?;
    let mut chat = question.chat(fields)?;
    chat.max_tokens = Some(body.max_tokens);
    let ready = chat.ready(&app).await?;
    if body.stream.unwrap_or(false) {
        job::streaming(
            &app,
            Wire::PingedEvents,
            move |_| ready.start(),
            |talk, events| stream::write(Answer::new(talk), events),
        )
        .await
    } else {
        let talk = job::blocking(move |_| ready.start()).await?;
        Ok(json(&Answer::new(talk).whole().await?))
    }
}

/// All parameters of a count.
type CountRequest = All<(Question, Sampling)>;

#[derive(Serialize, ToSchema)]
struct TokenCount {
    input_tokens: usize,
}

/// How many tokens a conversation has
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "Anthropic",
    request_body = inline(CountRequest),
    responses((status = 200, body = TokenCount)),
)]
async fn count_tokens(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let question: Question = fields.take()?;
    let ready = question.chat(fields)?.ready(&app).await?;
    job::blocking(move |_| {
        let input_tokens = ready.tokens()?.len();
        Ok(json(&TokenCount { input_tokens }))
    })
    .await
}
