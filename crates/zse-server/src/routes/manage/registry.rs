//! `/api/models/registry`, `/discover`, `/search` and `/check`: models beside those that are served.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zse_hub::{Cache, Catalogue, Filter, Found, HubError, Listing, Order, Search};

use crate::error::ApiError;
use crate::job;
use crate::registry::{Registry, Verdict};
use crate::routes::json;
use crate::state::App;

/// Results of a search where no number is asked for.
const LIMIT: usize = 20;
/// Most results of a search.
const MAX_LIMIT: usize = 100;

/// Does what may take long with the registry, on a thread that may block.
async fn with_registry<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(Registry) -> Result<T, HubError> + Send + 'static,
) -> Result<T, ApiError> {
    let registry = app.registry()?.clone();
    job::blocking(move |_| Ok(work(registry)?)).await
}

/// The parameters of an address.
fn taken<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    Ok(query)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only those of a category: chat, code, reasoning, small, large, multilingual, embedding, rerank.
    category: Option<String>,
    /// Only those that are recommended.
    recommended: Option<bool>,
    /// Only those that run in so many bytes.
    memory: Option<u64>,
    /// Only those that run in what this machine, or the GPU that models run on, has available.
    fits: Option<bool>,
    /// Only those that are on this machine.
    local: Option<bool>,
    /// The quant whose memory is told; Q4_K_M if nothing is said.
    quant: Option<String>,
}

/// The catalogue, and what is on this machine
#[utoipa::path(
    get,
    path = "/api/models/registry",
    tag = "Server",
    params(Wanted),
    responses((status = 200, body = Listing)),
)]
pub(super) async fn registry(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = taken(query)?;
    let quant = query.quant.as_deref().unwrap_or(Filter::QUANT);
    let device = app.registry()?.device;
    let available = match query.fits.unwrap_or(false) {
        false => None,
        // A GPU that nothing runs on yet takes a moment to answer.
        true => Some(job::blocking(move |_| Ok(device.available())).await?),
    };
    let unknown = || ApiError::param("fits", "nobody says how much memory is available");
    let available = available
        .map(|bytes| bytes.ok_or_else(unknown))
        .transpose()?;
    let filter = Filter {
        recommended: query.recommended.unwrap_or(false),
        memory: query.memory.into_iter().chain(available).min(),
        local: query.local.unwrap_or(false),
        ..Filter::new(query.category.as_deref(), quant)?
    };
    let listing = with_registry(&app, move |registry| {
        let here = Cache::new(registry.hub.cache).list()?;
        Ok(Catalogue::builtin().list(&filter, &here))
    });
    Ok(json(&listing.await?))
}

/// What the hub has found.
#[derive(Serialize, ToSchema)]
struct FoundModels {
    models: Vec<Found>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Discovery {
    /// `trending` (if nothing is said), `downloads`, `likes` or `newest`.
    sort: Option<Order>,
    /// Repositories without GGUF files as well.
    all: Option<bool>,
    /// Most results, up to 100; 20 if nothing is said.
    limit: Option<usize>,
}

/// What is popular at the hub
#[utoipa::path(
    get,
    path = "/api/models/discover",
    tag = "Server",
    params(Discovery),
    responses((status = 200, body = FoundModels)),
)]
pub(super) async fn discover(
    State(app): State<Arc<App>>,
    query: Result<Query<Discovery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = taken(query)?;
    let order = query.sort.unwrap_or(Order::Trending);
    found(&app, None, query.all, order, query.limit).await
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Searched {
    /// Part of a name.
    q: String,
    /// `downloads` (if nothing is said), `likes`, `trending` or `newest`.
    sort: Option<Order>,
    /// Repositories without GGUF files as well.
    all: Option<bool>,
    /// Most results, up to 100; 20 if nothing is said.
    limit: Option<usize>,
}

/// Searches the hub
#[utoipa::path(
    get,
    path = "/api/models/search",
    tag = "Server",
    params(Searched),
    responses((status = 200, body = FoundModels)),
)]
pub(super) async fn search(
    State(app): State<Arc<App>>,
    query: Result<Query<Searched>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = taken(query)?;
    let order = query.sort.unwrap_or_default();
    found(&app, Some(query.q), query.all, order, query.limit).await
}

async fn found(
    app: &App,
    text: Option<String>,
    all: Option<bool>,
    order: Order,
    limit: Option<usize>,
) -> Result<Response, ApiError> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("limit must be from 1 to {MAX_LIMIT}");
        return Err(ApiError::param("limit", message));
    }
    let models = with_registry(app, move |registry| {
        zse_hub::Hub::new(registry.hub)?.search(&Search {
            text: text.as_deref(),
            gguf_only: !all.unwrap_or(false),
            order,
            limit,
        })
    });
    Ok(json(&FoundModels {
        models: models.await?,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Checked {
    /// `org/name`, `org/name:QUANT`, `org/name:FILE.gguf`, the address of a page or file, or an id of the
    /// catalogue.
    model: String,
    /// The quant, where the model does not say it.
    quant: Option<String>,
}

/// Whether a model will run, and in how much memory, before it is downloaded
#[utoipa::path(
    get,
    path = "/api/models/check",
    tag = "Server",
    params(Checked),
    responses((status = 200, body = Verdict)),
)]
pub(super) async fn check(
    State(app): State<Arc<App>>,
    query: Result<Query<Checked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Checked { model, quant } = taken(query)?;
    let model = Catalogue::builtin().model(&model, quant.as_deref())?;
    let verdict = with_registry(&app, move |registry| registry.check(&model));
    Ok(json(&verdict.await?))
}
