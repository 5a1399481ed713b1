//! `/api/models/cache/*`: which models are in memory, what they may take, and their prefix caches.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::stats::PrefixStats;
use super::{ModelStatus, NoParameters, seconds};
use crate::error::ApiError;
use crate::models::Limits;
use crate::request::Fields;
use crate::routes::json;
use crate::state::App;

#[derive(Serialize, ToSchema)]
struct CacheSettings {
    /// Bytes that models may take that are not pinned.
    memory_limit: u64,
    /// How long a model stays that nobody asks for.
    idle_seconds: Option<f64>,
}

impl CacheSettings {
    fn now(app: &App) -> Self {
        let limits = app.models.limits();
        Self {
            memory_limit: limits.memory,
            idle_seconds: limits.idle.map(seconds),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct CacheStatus {
    #[serde(flatten)]
    settings: CacheSettings,
    /// Bytes that loaded models take.
    memory_used: u64,
    /// Those that are loaded.
    models: Vec<CachedModel>,
}

#[derive(Serialize, ToSchema)]
struct CachedModel {
    #[serde(flatten)]
    status: ModelStatus,
    prefix_cache: Option<PrefixStats>,
}

/// What is loaded, and the memory that it takes
#[utoipa::path(
    get,
    path = "/api/models/cache/status",
    tag = "Server",
    responses((status = 200, body = CacheStatus)),
)]
pub(super) async fn status(State(app): State<Arc<App>>, _: NoParameters) -> Response {
    let all = app.models.all();
    let loaded = all.iter().filter(|model| model.is_loaded());
    let models = loaded.map(|model| CachedModel {
        status: ModelStatus::new(model),
        prefix_cache: model.metrics().map(|m| PrefixStats::of(&m)),
    });
    json(&CacheStatus {
        settings: CacheSettings::now(&app),
        memory_used: app.models.memory(),
        models: models.collect(),
    })
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CacheClearRequest)]
struct Clear {
    /// Whether only the prefix caches of loaded models are meant.
    prefix_cache: Option<bool>,
    /// Whose prefix cache; without: everyone's.
    model: Option<String>,
}

/// What is gone.
#[derive(Default, Serialize, ToSchema)]
struct Cleared {
    /// The names of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    unloaded: Option<Vec<String>>,
    /// The names of models whose prefix caches were forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_cache_cleared: Option<Vec<String>>,
}

/// Unloads what is idle and not pinned, or forgets prefix caches
#[utoipa::path(
    post,
    path = "/api/models/cache/clear",
    tag = "Server",
    request_body = Clear,
    responses((status = 200, body = Cleared)),
)]
pub(super) async fn clear(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Clear = fields.take()?;
    fields.finish(&[])?;
    if body.prefix_cache == Some(true) {
        let cleared = app.models.clear_prefixes(body.model.as_deref())?;
        return Ok(json(&Cleared {
            prefix_cache_cleared: Some(cleared),
            ..Cleared::default()
        }));
    }
    if body.model.is_some() {
        let message = "goes with \"prefix_cache\": true; POST /api/models/unload unloads a model";
        return Err(ApiError::param("model", message));
    }
    Ok(json(&Cleared {
        unloaded: Some(app.models.clear()),
        ..Cleared::default()
    }))
}

/// The limits
#[utoipa::path(
    get,
    path = "/api/models/cache/settings",
    tag = "Server",
    responses((status = 200, body = CacheSettings)),
)]
pub(super) async fn settings(State(app): State<Arc<App>>, _: NoParameters) -> Response {
    json(&CacheSettings::now(&app))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CacheSettingsRequest)]
struct Settings {
    /// Bytes.
    memory_limit: Option<u64>,
    /// Negative: for ever.
    idle_seconds: Option<f64>,
}

/// Sets the limits that are given
#[utoipa::path(
    post,
    path = "/api/models/cache/settings",
    tag = "Server",
    request_body = Settings,
    responses((status = 200, body = CacheSettings)),
)]
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
    Ok(json(&CacheSettings::now(&app)))
}
