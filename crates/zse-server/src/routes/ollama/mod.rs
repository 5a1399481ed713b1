//! Ollama's API: `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`, and what its clients ask of models.
//! They look at `/` first.

mod answer;
mod chat;
mod embed;
mod generate;
mod models;
mod options;
mod pull;
mod request;

use std::sync::Arc;

use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::manage::keep_alive;
use crate::error::ApiError;
use crate::form::Form;
use crate::models::Model;
use crate::state::App;

/// Its paths, whose errors have Ollama's shape.
pub(crate) const PATHS: [&str; 10] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/tags",
    "/api/show",
    "/api/ps",
    "/api/version",
    "/api/pull",
    "/api/delete",
];

/// What parameters are called that have another name in OpenAI's API.
pub(crate) const NAMES: [(&str, &str); 1] = [("response_format", "format")];

/// Its routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(models::root))
        .routes(routes!(chat::post))
        .routes(routes!(generate::post))
        .routes(routes!(embed::post))
        .routes(routes!(embed::post_old))
        .routes(routes!(models::tags))
        .routes(routes!(models::show))
        .routes(routes!(models::ps))
        .routes(routes!(models::version))
        .routes(routes!(pull::pull))
        .routes(routes!(pull::delete))
}

/// The name of a model without the tag that Ollama adds where there is none.
fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

/// The form that `format` asks for: `json`, a schema, or nothing.
fn format(format: Option<&Value>) -> Result<Option<Form>, ApiError> {
    let of = |schema| Ok(Some(Form::of_schema(schema, "format")));
    match format {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => of(serde_json::json!({ "type": "object" })),
        Some(schema @ Value::Object(_)) => of(schema.clone()),
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
