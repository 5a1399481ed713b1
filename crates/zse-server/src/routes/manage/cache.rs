//! `/api/models/cache/*`: which models are in memory, what they may take, and their prefix caches.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json as object_of};

use super::stats::prefix_cache;
use super::{object, seconds};
use crate::error::ApiError;
use crate::models::Limits;
use crate::request::Fields;
use crate::routes::json;
use crate::state::App;

fn limits(app: &App) -> Value {
    let limits = app.models.limits();
    object_of!({
        "memory_limit": limits.memory,
        "idle_seconds": limits.idle.map(seconds),
    })
}

/// What is loaded, and the memory it takes.
pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let all = app.models.all();
    let loaded = all.iter().filter(|model| model.is_loaded());
    let loaded: Vec<Value> = loaded
        .map(|model| {
            let mut object = object(model);
            object["prefix_cache"] = model.metrics().map(|m| prefix_cache(&m)).into();
            object
        })
        .collect();
    let mut status = limits(&app);
    status["memory_used"] = app.models.memory().into();
    status["models"] = loaded.into();
    json(&status)
}

#[derive(Debug, Deserialize)]
struct Clear {
    /// Whether only the prefix caches of loaded models are meant.
    prefix_cache: Option<bool>,
    /// Whose prefix cache; without: everyone's.
    model: Option<String>,
}

/// Unloads what is idle and not pinned, or forgets prefix caches.
pub(super) async fn clear(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Clear = fields.take()?;
    fields.finish(&[])?;
    if body.prefix_cache == Some(true) {
        let cleared = app.models.clear_prefixes(body.model.as_deref())?;
        return Ok(json(&object_of!({ "prefix_cache_cleared": cleared })));
    }
    if body.model.is_some() {
        let message = "goes with \"prefix_cache\": true; POST /api/models/unload unloads a model";
        return Err(ApiError::param("model", message));
    }
    let unloaded = app.models.clear();
    Ok(json(&object_of!({ "unloaded": unloaded })))
}

/// The limits.
pub(super) async fn settings(State(app): State<Arc<App>>) -> Response {
    json(&limits(&app))
}

#[derive(Debug, Deserialize)]
struct Settings {
    memory_limit: Option<u64>,
    /// Negative: for ever.
    idle_seconds: Option<f64>,
}

/// Sets the limits that are given.
pub(super) async fn set(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Settings = fields.take()?;
    fields.finish(&[])?;
    let now = app.models.limits();
    let idle = match body.idle_seconds {
        None => now.idle,
        Some(seconds) if seconds < 0.0 => None,
        Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
            ApiError::param("idle_seconds", "idle_seconds is longer than can be counted")
        })?),
    };
    app.models.set_limits(Limits {
        memory: body.memory_limit.unwrap_or(now.memory),
        idle,
    });
    Ok(json(&limits(&app)))
}
