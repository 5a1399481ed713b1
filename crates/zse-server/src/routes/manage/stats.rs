//! `/api/stats`, `/api/stats/models` and `/api/batching`: counts as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json as object_of};
use zse::{Histogram, Metrics};

use super::{object, seconds};
use crate::models::Status;
use crate::routes::json;
use crate::state::App;

/// The mean of what was measured, in seconds.
fn mean(times: &Histogram) -> Option<f64> {
    (times.count() > 0).then(|| times.sum() / times.count() as f64)
}

/// The sum of a count over all loaded models.
fn sum(models: &[Status], count: impl Fn(&Metrics) -> u64) -> u64 {
    let metrics = models.iter().filter_map(Status::metrics);
    metrics.map(|m| count(&m)).sum()
}

/// The server as a whole.
pub(crate) fn server(app: &App) -> Value {
    let models = app.models.all();
    let loaded = models.iter().filter(|model| model.is_loaded()).count();
    object_of!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": seconds(app.started.elapsed()),
        "models": { "served": models.len(), "loaded": loaded },
        "memory": { "used": app.models.memory(), "limit": app.models.limits().memory },
        "requests": {
            "answered": app.metrics.answers(),
            "abandoned": app.metrics.abandonments(),
            "running": sum(&models, |m| m.running as u64),
            "waiting": sum(&models, |m| m.waiting as u64),
        },
        "tokens": {
            "prompt": sum(&models, |m| m.prompt_tokens),
            "generated": sum(&models, |m| m.generated_tokens),
            "found_in_prefix_cache": sum(&models, |m| m.prefix_found_tokens),
        },
    })
}

pub(super) async fn get(State(app): State<Arc<App>>) -> Response {
    json(&server(&app))
}

/// Each model. Counts of an engine begin when it is loaded.
pub(super) async fn models(State(app): State<Arc<App>>) -> Response {
    let models = app.models.all();
    let data: Vec<Value> = models
        .iter()
        .map(|model| {
            let mut object = object(model);
            object["engine"] = model.metrics().map(|m| engine(&m)).into();
            object
        })
        .collect();
    json(&object_of!({ "models": data }))
}

fn engine(m: &Metrics) -> Value {
    object_of!({
        "requests": m.requests,
        "completed": m.completed,
        "cancelled": m.cancelled,
        "failed": m.failed,
        "refused": m.refused,
        "steps": m.steps,
        "preemptions": m.preemptions,
        "prompt_tokens": m.prompt_tokens,
        "generated_tokens": m.generated_tokens,
        "prefix_cache": prefix_cache(m),
        "mean_seconds": {
            "queue": mean(&m.queue_time),
            "time_to_first_token": mean(&m.time_to_first_token),
            "time_between_tokens": mean(&m.time_between_tokens),
        },
    })
}

/// What a model keeps of earlier prompts, and how much of later ones it found there.
pub(super) fn prefix_cache(m: &Metrics) -> Value {
    object_of!({
        "blocks": m.kv_blocks_cached,
        "swapped_blocks": m.kv_blocks_swapped,
        "restored_blocks": m.kv_blocks_restored,
        "queried_tokens": m.prefix_queried_tokens,
        "found_tokens": m.prefix_found_tokens,
    })
}

/// What is computed together, and what may be.
pub(super) async fn batching(State(app): State<Arc<App>>) -> Response {
    let models = app.models.all();
    let data = models.iter().filter_map(|model| {
        let engine = model.engine.as_ref()?;
        let (m, limits) = (engine.metrics(), engine.limits());
        Some(object_of!({
            "id": model.name,
            "running": m.running,
            "waiting": m.waiting,
            "kv_blocks": { "total": m.kv_blocks, "used": m.kv_blocks_used, "cached": m.kv_blocks_cached },
            "limits": {
                "context": limits.context,
                "kv_tokens": limits.kv_tokens,
                "batch_tokens": limits.batch_tokens,
                "choices": limits.choices,
            },
        }))
    });
    json(&object_of!({
        "requests": { "admitted": app.admitted(), "limit": app.config.max_requests },
        "models": data.collect::<Vec<Value>>(),
    }))
}
