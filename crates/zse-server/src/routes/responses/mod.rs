//! OpenAI's `/v1/responses`: conversations of items, kept in memory for those that follow.

mod input;
mod items;
mod object;
mod output;
mod pairing;
mod request;
mod store;

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::json;
use crate::error::ApiError;
use crate::guard::Tenant;
use crate::job;
use crate::openapi::All;
use crate::request::Fields;
use crate::sampling::Sampling;
use crate::sse::Wire;
use crate::state::App;
use crate::waiting;
use object::ResponseObject;
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
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(create))
        .routes(routes!(retrieve, remove))
        .routes(routes!(items::list))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseStream)]
struct Create {
    stream: Option<bool>,
}

/// All parameters of a request.
type Request = All<(Create, Question, Sampling)>;

/// The next items of a conversation
///
/// A stream has OpenAI's typed events, from `response.created` to `response.completed`.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "OpenAI",
    request_body = inline(Request),
    responses((
        status = 200,
        content((ResponseObject = "application/json"), (String = "text/event-stream")),
    )),
)]
async fn create(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, ApiError> {
    waiting::stream(app, fields, PATH, answer).await
}

async fn answer(app: Arc<App>, mut fields: Fields) -> Result<Response, ApiError> {
    let body: Create = fields.take()?;
    let tenant = fields.tenant();
    let question: Question = fields.take()?;
    let (chat, echo) = question.chat(fields, &app.responses)?;
    let ready = chat.ready(&app).await?;
    let keeper = Arc::clone(&app);
    let keep = move |done| keeper.responses.keep(&tenant, done);
    if body.stream.unwrap_or(false) {
        job::streaming(
            &app,
            Wire::Events,
            move |_| ready.start(),
            |talk, events| async move {
                // The stream itself tells of a failure.
                let _ = Writer::new(talk, echo, Some(events)).run(keep).await;
            },
        )
        .await
    } else {
        let talk = job::blocking(move |_| ready.start()).await?;
        Ok(json(&Writer::new(talk, echo, None).run(keep).await?))
    }
}

/// A response that was stored
#[utoipa::path(
    get,
    path = "/v1/responses/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "The id of a response")),
    responses((status = 200, body = ResponseObject)),
)]
async fn retrieve(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    check(&query)?;
    let found = app.responses.find(&tenant, &id);
    let found = found.ok_or_else(|| ApiError::no_response("response_id", &id))?;
    Ok(json(&found.response))
}

/// Refuses what an address asks of a stored response, which is given as it is.
fn check(query: &[(String, String)]) -> Result<(), ApiError> {
    for (name, value) in query {
        // Clients write a list so.
        let name = name.strip_suffix("[]").unwrap_or(name);
        let why = match name {
            "stream" | "include_obfuscation" if value == "false" => continue,
            "stream" | "starting_after" | "include_obfuscation" => {
                "a stored response is given in one piece"
            }
            "include" => "a stored response has what was asked for when it was made",
            other => return Err(ApiError::unknown(other)),
        };
        return Err(ApiError::unsupported(name, why));
    }
    Ok(())
}

#[derive(Serialize, ToSchema)]
struct DeletedResponse {
    id: String,
    object: &'static str,
    deleted: bool,
}

/// Forgets a response
#[utoipa::path(
    delete,
    path = "/v1/responses/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "The id of a response")),
    responses((status = 200, body = DeletedResponse)),
)]
async fn remove(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    check(&query)?;
    match app.responses.remove(&tenant, &id) {
        true => Ok(json(&DeletedResponse {
            id,
            object: "response",
            deleted: true,
        })),
        false => Err(ApiError::no_response("response_id", &id)),
    }
}
