//! Ollama's API: `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`, and what its clients ask of models.
//! They look at `/` first.

mod answer;
mod chat;
mod embed;
mod generate;
mod models;
mod options;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use serde_json::Value;

use super::manage::keep_alive;
use crate::chat::of_schema;
use crate::error::ApiError;
use crate::models::Model;
use crate::state::App;

/// Its paths, whose errors have Ollama's shape.
pub(crate) const PATHS: [&str; 8] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/tags",
    "/api/show",
    "/api/ps",
    "/api/version",
];

/// What parameters are called that have another name in OpenAI's API.
pub(crate) const NAMES: [(&str, &str); 1] = [("response_format", "format")];

/// Its routes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(models::root))
        .route("/api/chat", post(chat::post))
        .route("/api/generate", post(generate::post))
        .route("/api/embed", post(embed::post))
        .route("/api/embeddings", post(embed::post_old))
        .route("/api/tags", get(models::tags))
        .route("/api/show", post(models::show))
        .route("/api/ps", get(models::ps))
        .route("/api/version", get(models::version))
}

/// The name of a model without the tag that Ollama adds where there is none.
fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

/// The constraint of `format`: `json`, a schema, or nothing.
fn format(format: Option<&Value>) -> Result<Option<zse::Constraint>, ApiError> {
    match format {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => {
            Ok(Some(of_schema(serde_json::json!({ "type": "object" }))))
        }
        Some(schema @ Value::Object(_)) => Ok(Some(of_schema(schema.clone()))),
        Some(_) => {
            let message = "format must be \"json\" or a JSON schema";
            Err(ApiError::param("format", message))
        }
    }
}

/// Refuses images, which models here do not see.
fn no_images(images: Option<&Value>, name: &str) -> Result<(), ApiError> {
    match images {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(list)) if list.is_empty() => Ok(()),
        Some(_) => Err(ApiError::unsupported(name, "models here read text")),
    }
}

/// Keeps a model for as long as a request says.
fn keep(app: &App, model: &Model, time: Option<&Value>) -> Result<(), ApiError> {
    if let Some(time) = time {
        app.models.keep(model, keep_alive(time)?);
    }
    Ok(())
}

/// A request without anything to answer loads its model, or unloads it where that is not to be kept.
async fn load_only(
    app: &Arc<App>,
    name: Option<&str>,
    time: Option<&Value>,
) -> Result<&'static str, ApiError> {
    let is_unload = match time.map(keep_alive).transpose()? {
        Some(crate::models::Keep::For(time)) => time.is_zero(),
        _ => false,
    };
    if is_unload {
        app.models.let_go(name)?;
        return Ok("unload");
    }
    let model = app.model(name).await?;
    keep(app, &model, time)?;
    Ok("load")
}
