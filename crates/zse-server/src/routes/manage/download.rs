//! `/api/models/download`: models from the hub, fetched and served while the server runs.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zse_hub::Catalogue;

use super::keep_alive;
use crate::downloads::{Download, Then, Wanted};
use crate::error::ApiError;
use crate::request::Fields;
use crate::routes::json;
use crate::state::App;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DownloadRequest)]
struct Ask {
    /// `org/name`, `org/name:QUANT`, `org/name:FILE.gguf`, the address of a page or file, or an id of the
    /// catalogue.
    model: String,
    /// The quant, where `model` does not say it.
    quant: Option<String>,
    /// What it will be served as; what `model` says, if nothing else is said.
    name: Option<String>,
    /// Whether it is loaded once it is here.
    load: Option<bool>,
    /// Whether it stays loaded then, whatever others need.
    pin: Option<bool>,
    /// How long it stays loaded then without being asked for: seconds, or a time such as `5m`; negative:
    /// for ever.
    keep_alive: Option<Value>,
}

/// Downloads a model, and serves it once it is here
///
/// Answers at once; `/ws/downloads` tells how far it is. A model that is on this machine already is
/// served at once.
#[utoipa::path(
    post,
    path = "/api/models/download",
    tag = "Server",
    request_body = Ask,
    responses((status = 200, body = Download)),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Ask = fields.take()?;
    fields.finish(&[])?;
    let then = Then {
        load: body.load.unwrap_or(false),
        pin: body.pin.unwrap_or(false),
        keep: body.keep_alive.as_ref().map(keep_alive).transpose()?,
    };
    if !then.load && (then.pin || then.keep.is_some()) {
        let message = "pin and keep_alive are about a model that is loaded: ask for \"load\": true";
        return Err(ApiError::param("load", message));
    }
    let model = Catalogue::builtin().model(&body.model, body.quant.as_deref())?;
    let name = body.name.unwrap_or(body.model);
    let (download, _) = app.download(Wanted { name, model, then })?;
    Ok(json(&download))
}

#[derive(Serialize, ToSchema)]
struct DownloadList {
    /// The oldest first; of those that have ended, the last hundred.
    downloads: Vec<Download>,
}

/// The downloads
#[utoipa::path(
    get,
    path = "/api/models/download",
    tag = "Server",
    responses((status = 200, body = DownloadList)),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    json(&DownloadList {
        downloads: app.downloads.all(),
    })
}

fn id(path: Result<Path<u64>, PathRejection>) -> Result<u64, ApiError> {
    let Path(id) = path.map_err(|_| ApiError::param("id", "a download's id is a number"))?;
    Ok(id)
}

/// A download
#[utoipa::path(
    get,
    path = "/api/models/download/{id}",
    tag = "Server",
    params(("id" = u64, Path, description = "Of a download")),
    responses((status = 200, body = Download)),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, ApiError> {
    Ok(json(&app.downloads.get(id(path)?)?))
}

/// Cancels a download
///
/// What came is kept: the next download of the model goes on from there. One that has ended stays as
/// it is.
#[utoipa::path(
    delete,
    path = "/api/models/download/{id}",
    tag = "Server",
    params(("id" = u64, Path, description = "Of a download")),
    responses((status = 200, body = Download)),
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = id(path)?;
    app.downloads.cancel(id)?;
    Ok(json(&app.downloads.get(id)?))
}
