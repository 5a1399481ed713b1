//! `/api/models/warmup/{id}`: first tokens before a client waits for them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::seconds;
use crate::error::ApiError;
use crate::models::Status;
use crate::request::Nothing;
use crate::routes::json;
use crate::state::App;

/// Whether a model has computed first tokens, and how long that took when it was loaded.
#[derive(Serialize, ToSchema)]
struct Warmth {
    id: String,
    /// `unloaded`, `loading` or `loaded`.
    state: &'static str,
    warm: bool,
    load_seconds: Option<f64>,
    warm_up_seconds: Option<f64>,
}

impl Warmth {
    fn of(model: &Status) -> Self {
        let times = model.times;
        Self {
            id: model.name.clone(),
            state: model.state.name(),
            // A model that was loaded has computed first tokens.
            warm: model.is_loaded(),
            load_seconds: model.is_loaded().then(|| seconds(times.map + times.pack)),
            warm_up_seconds: model.is_loaded().then(|| seconds(times.warm_up)),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Warmed {
    #[serde(flatten)]
    model: Warmth,
    /// How long they took now.
    first_tokens_seconds: f64,
}

/// Loads a model if need be, and computes first tokens
#[utoipa::path(
    post,
    path = "/api/models/warmup/{id}",
    tag = "Server",
    params(("id" = String, Path, description = "A model")),
    responses((status = 200, body = Warmed)),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _: Nothing,
) -> Result<Response, ApiError> {
    let slot = app.admit(1)?;
    let model = app.model(Some(&id)).await?;
    let warm = app.models.warm_up(model, slot).await?;
    Ok(json(&Warmed {
        model: Warmth::of(&app.models.status(Some(&id))?),
        first_tokens_seconds: seconds(warm),
    }))
}

/// Whether a model is warm
#[utoipa::path(
    get,
    path = "/api/models/warmup/{id}/status",
    tag = "Server",
    params(("id" = String, Path, description = "A model")),
    responses((status = 200, body = Warmth)),
)]
pub(super) async fn status(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    Ok(json(&Warmth::of(&app.models.status(Some(&id))?)))
}

/// How long a start takes, cold and warm.
#[derive(Serialize, ToSchema)]
struct ColdAndWarm {
    id: String,
    cold: Cold,
    warm: Warm,
    /// How much sooner a warm model has first tokens.
    speedup: f64,
}

#[derive(Serialize, ToSchema)]
struct Cold {
    map_seconds: f64,
    pack_seconds: f64,
    first_tokens_seconds: f64,
    total_seconds: f64,
}

#[derive(Serialize, ToSchema)]
struct Warm {
    first_tokens_seconds: f64,
}

/// Loads a model once more from nothing, and compares its first tokens cold and warm
#[utoipa::path(
    post,
    path = "/api/models/warmup/{id}/benchmark",
    tag = "Server",
    params(("id" = String, Path, description = "A model")),
    responses((status = 200, body = ColdAndWarm)),
)]
pub(super) async fn benchmark(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _: Nothing,
) -> Result<Response, ApiError> {
    let slot = app.admit(1)?;
    let measured = app.models.cold_and_warm(&id, slot).await?;
    let (cold, warm) = (measured.cold, measured.warm);
    let whole = cold.map + cold.pack + cold.warm_up;
    Ok(json(&ColdAndWarm {
        id,
        cold: Cold {
            map_seconds: seconds(cold.map),
            pack_seconds: seconds(cold.pack),
            first_tokens_seconds: seconds(cold.warm_up),
            total_seconds: seconds(whole),
        },
        warm: Warm {
            first_tokens_seconds: seconds(warm),
        },
        speedup: whole.as_secs_f64() / warm.as_secs_f64().max(1e-6),
    }))
}
