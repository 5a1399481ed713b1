//! `/api/models/warmup/{id}`: first tokens before a client waits for them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json as object_of};

use super::seconds;
use crate::error::ApiError;
use crate::models::Status;
use crate::routes::json;
use crate::state::App;

fn object(model: &Status) -> Value {
    let times = model.times;
    object_of!({
        "id": model.name,
        "state": model.state.name(),
        // A model that was loaded has computed first tokens.
        "warm": model.is_loaded(),
        "load_seconds": model.is_loaded().then(|| seconds(times.map + times.pack)),
        "warm_up_seconds": model.is_loaded().then(|| seconds(times.warm_up)),
    })
}

/// Loads a model if need be, and computes first tokens.
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let slot = app.admit(1)?;
    let model = app.model(Some(&id)).await?;
    let warm = app.models.warm_up(model, slot).await?;
    let mut object = object(&app.models.status(Some(&id))?);
    object["first_tokens_seconds"] = seconds(warm).into();
    Ok(json(&object))
}

/// Whether a model is warm.
pub(super) async fn status(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    Ok(json(&object(&app.models.status(Some(&id))?)))
}

/// Loads a model once more from nothing, and compares its first tokens cold and warm.
pub(super) async fn benchmark(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let slot = app.admit(1)?;
    let measured = app.models.cold_and_warm(&id, slot).await?;
    let (cold, warm) = (measured.cold, measured.warm);
    let whole = cold.map + cold.pack + cold.warm_up;
    Ok(json(&object_of!({
        "id": id,
        "cold": {
            "map_seconds": seconds(cold.map),
            "pack_seconds": seconds(cold.pack),
            "first_tokens_seconds": seconds(cold.warm_up),
            "total_seconds": seconds(whole),
        },
        "warm": { "first_tokens_seconds": seconds(warm) },
        "speedup": whole.as_secs_f64() / warm.as_secs_f64().max(1e-6),
    })))
}
