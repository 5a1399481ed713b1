//! `POST /api/models/load` and `/api/models/unload`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::{keep_alive, object};
use crate::error::ApiError;
use crate::request::Fields;
use crate::routes::json;
use crate::state::App;

#[derive(Debug, Deserialize)]
struct Load {
    model: Option<String>,
    /// Whether it stays loaded whatever others need.
    pin: Option<bool>,
    /// How long it stays loaded without being asked for.
    keep_alive: Option<Value>,
}

/// Loads a model, and answers once it is there.
pub(super) async fn load(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Load = fields.take()?;
    fields.finish(&[])?;
    let keep = body.keep_alive.as_ref().map(keep_alive).transpose()?;
    // Now, and not once it is there: who unloads it meanwhile is heard.
    app.models.stay(body.model.as_deref())?;
    let model = app.model(body.model.as_deref()).await?;
    if let Some(pin) = body.pin {
        app.models.pin(&model.name, pin)?;
    }
    if let Some(keep) = keep {
        app.models.keep(&model, keep);
    }
    let name = model.name.clone();
    drop(model);
    Ok(json(&object(&app.models.status(Some(&name))?)))
}

#[derive(Debug, Deserialize)]
struct Unload {
    model: Option<String>,
}

/// Unloads a model: at once, or when its last request has ended.
pub(super) async fn unload(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Unload = fields.take()?;
    fields.finish(&[])?;
    let status = app.models.unload(body.model.as_deref())?;
    Ok(json(&object(&status)))
}
