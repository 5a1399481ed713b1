//! `/api/stats`, `/api/stats/models` and `/api/batching`: counts as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use zse::{Histogram, Metrics};

use super::{ModelStatus, NoParameters, seconds};
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
#[derive(Serialize, ToSchema)]
pub(crate) struct Stats {
    version: &'static str,
    uptime_seconds: f64,
    models: ModelCounts,
    memory: MemoryUse,
    requests: RequestCounts,
    tokens: TokenCounts,
}

#[derive(Serialize, ToSchema)]
struct ModelCounts {
    served: usize,
    loaded: usize,
}

/// Bytes that models take, and may take.
#[derive(Serialize, ToSchema)]
struct MemoryUse {
    used: u64,
    limit: u64,
}

#[derive(Serialize, ToSchema)]
struct RequestCounts {
    answered: u64,
    /// Whose client went away.
    abandoned: u64,
    running: u64,
    waiting: u64,
}

/// Tokens of the models that are loaded, since they were.
#[derive(Serialize, ToSchema)]
struct TokenCounts {
    prompt: u64,
    generated: u64,
    found_in_prefix_cache: u64,
}

impl Stats {
    /// As they are now.
    pub(crate) fn now(app: &App) -> Self {
        let models = app.models.all();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: seconds(app.started.elapsed()),
            models: ModelCounts {
                served: models.len(),
                loaded: models.iter().filter(|model| model.is_loaded()).count(),
            },
            memory: MemoryUse {
                used: app.models.memory(),
                limit: app.models.limits().memory,
            },
            requests: RequestCounts {
                answered: app.metrics.answers(),
                abandoned: app.metrics.abandonments(),
                running: sum(&models, |m| m.running as u64),
                waiting: sum(&models, |m| m.waiting as u64),
            },
            tokens: TokenCounts {
                prompt: sum(&models, |m| m.prompt_tokens),
                generated: sum(&models, |m| m.generated_tokens),
                found_in_prefix_cache: sum(&models, |m| m.prefix_found_tokens),
            },
        }
    }
}

/// Counts of the server
#[utoipa::path(
    get,
    path = "/api/stats",
    tag = "Server",
    responses((status = 200, body = Stats)),
)]
pub(super) async fn get(State(app): State<Arc<App>>, _: NoParameters) -> Response {
    json(&Stats::now(&app))
}

#[derive(Serialize, ToSchema)]
struct ModelsStats {
    models: Vec<ModelStats>,
}

#[derive(Serialize, ToSchema)]
struct ModelStats {
    #[serde(flatten)]
    status: ModelStatus,
    /// Counts since it was loaded.
    engine: Option<EngineStats>,
}

#[derive(Serialize, ToSchema)]
struct EngineStats {
    requests: u64,
    completed: u64,
    cancelled: u64,
    failed: u64,
    refused: u64,
    steps: u64,
    preemptions: u64,
    prompt_tokens: u64,
    generated_tokens: u64,
    prefix_cache: PrefixStats,
    mean_seconds: MeanSeconds,
}

/// What a model keeps of earlier prompts, and how much of later ones it found there.
#[derive(Serialize, ToSchema)]
pub(super) struct PrefixStats {
    blocks: usize,
    swapped_blocks: usize,
    restored_blocks: u64,
    queried_tokens: u64,
    found_tokens: u64,
}

#[derive(Serialize, ToSchema)]
struct MeanSeconds {
    queue: Option<f64>,
    time_to_first_token: Option<f64>,
    time_between_tokens: Option<f64>,
}

/// Counts of each model
///
/// Those of an engine begin when it is loaded.
#[utoipa::path(
    get,
    path = "/api/stats/models",
    tag = "Server",
    responses((status = 200, body = ModelsStats)),
)]
pub(super) async fn models(State(app): State<Arc<App>>, _: NoParameters) -> Response {
    let models = app.models.all();
    let models = models.iter().map(|model| ModelStats {
        status: ModelStatus::new(model),
        engine: model.metrics().map(|m| EngineStats::of(&m)),
    });
    json(&ModelsStats {
        models: models.collect(),
    })
}

impl EngineStats {
    fn of(m: &Metrics) -> Self {
        Self {
            requests: m.requests,
            completed: m.completed,
            cancelled: m.cancelled,
            failed: m.failed,
            refused: m.refused,
            steps: m.steps,
            preemptions: m.preemptions,
            prompt_tokens: m.prompt_tokens,
            generated_tokens: m.generated_tokens,
            prefix_cache: PrefixStats::of(m),
            mean_seconds: MeanSeconds {
                queue: mean(&m.queue_time),
                time_to_first_token: mean(&m.time_to_first_token),
                time_between_tokens: mean(&m.time_between_tokens),
            },
        }
    }
}

impl PrefixStats {
    pub(super) fn of(m: &Metrics) -> Self {
        Self {
            blocks: m.kv_blocks_cached,
            swapped_blocks: m.kv_blocks_swapped,
            restored_blocks: m.kv_blocks_restored,
            queried_tokens: m.prefix_queried_tokens,
            found_tokens: m.prefix_found_tokens,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Batching {
    requests: Admissions,
    models: Vec<ModelBatching>,
}

/// Continuations that run or wait, and how many may.
#[derive(Serialize, ToSchema)]
struct Admissions {
    admitted: usize,
    limit: usize,
}

#[derive(Serialize, ToSchema)]
struct ModelBatching {
    id: String,
    running: usize,
    waiting: usize,
    kv_blocks: KvBlocks,
    limits: BatchLimits,
}

#[derive(Serialize, ToSchema)]
struct KvBlocks {
    total: usize,
    used: usize,
    /// Kept for prompts to come.
    cached: usize,
}

#[derive(Serialize, ToSchema)]
struct BatchLimits {
    /// Tokens of a sequence.
    context: usize,
    /// Tokens of all sequences.
    kv_tokens: usize,
    /// Tokens of a step.
    batch_tokens: usize,
    /// Continuations of a request.
    choices: u32,
}

/// What is computed together, and what may be
#[utoipa::path(
    get,
    path = "/api/batching",
    tag = "Server",
    responses((status = 200, body = Batching)),
)]
pub(super) async fn batching(State(app): State<Arc<App>>, _: NoParameters) -> Response {
    let models = app.models.all();
    let models = models.iter().filter_map(|model| {
        let engine = model.engine.as_ref()?;
        let (m, limits) = (engine.metrics(), engine.limits());
        Some(ModelBatching {
            id: model.name.clone(),
            running: m.running,
            waiting: m.waiting,
            kv_blocks: KvBlocks {
                total: m.kv_blocks,
                used: m.kv_blocks_used,
                cached: m.kv_blocks_cached,
            },
            limits: BatchLimits {
                context: limits.context,
                kv_tokens: limits.kv_tokens,
                batch_tokens: limits.batch_tokens,
                choices: limits.choices,
            },
        })
    });
    json(&Batching {
        requests: Admissions {
            admitted: app.admitted(),
            limit: app.config.max_requests,
        },
        models: models.collect(),
    })
}
