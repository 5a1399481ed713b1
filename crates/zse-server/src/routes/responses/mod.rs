//! OpenAI's `/v1/responses`: conversations of items, kept in memory for those that follow.

mod input;
mod output;
mod pairing;
mod request;
mod store;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json as object_of;

use super::json;
use crate::error::ApiError;
use crate::guard::Tenant;
use crate::job;
use crate::request::Fields;
use crate::sse::Wire;
use crate::state::App;
use output::Writer;
use request::Question;
pub(crate) use store::Store;

/// Where its paths begin.
pub(crate) const PATH: &str = "/v1/responses";

/// What parameters are called that have another name in chat completions.
pub(crate) const NAMES: [(&str, &str); 3] = [
    ("response_format.json_schema.schema", "text.format.schema"),
    ("response_format", "text.format"),
    ("messages", "input"),
];

/// Its routes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/{id}", get(retrieve).delete(remove))
}

#[derive(Debug, Deserialize)]
struct Create {
    stream: Option<bool>,
}

async fn create(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response, ApiError> {
    let body: Create = fields.take()?;
    let tenant = fields.tenant();
    let question: Question = fields.take()?;
    let (chat, echo) = question.chat(fields, &app.responses)?;
    let ready = chat.ready(&app).await?;
    let keeper = Arc::clone(&app);
    let is_stream = body.stream.unwrap_or(false);
    if is_stream {
        let start = move || ready.start();
        job::streaming(&app, Wire::Events, start, move |talk, events| {
            let writer = Writer::new(talk, echo, Some(events));
            let keep = |done| keeper.responses.keep(&tenant, done);
            if let Err(error) = writer.run(&|| events.is_gone(), keep) {
                events.failed(&error);
            }
        })
        .await
    } else {
        job::blocking(move |is_gone| {
            let keep = |done| keeper.responses.keep(&tenant, done);
            let writer = Writer::new(ready.start()?, echo, None);
            Ok(json(&writer.run(is_gone, keep)?))
        })
        .await
    }
}

/// A response that was stored.
async fn retrieve(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = app.responses.find(&tenant, &id);
    let found = found.ok_or_else(|| ApiError::no_response("response_id", &id))?;
    Ok(json(&found.response))
}

/// Forgets a response.
async fn remove(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    match app.responses.remove(&tenant, &id) {
        true => Ok(json(
            &object_of!({ "id": id, "object": "response", "deleted": true }),
        )),
        false => Err(ApiError::no_response("response_id", &id)),
    }
}
