//! Adapters (LoRA): `/v1/load_lora_adapter` and `/v1/unload_lora_adapter` as vLLM has them,
//! `/lora-adapters` as llama.cpp's server has it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zse::AdapterSource;

use super::json;
use crate::error::ApiError;
use crate::models::{AdapterStatus, LoraScale, allowed_path};
use crate::request::{Fields, Items, Unsupported, if_false, never, unsupported};
use crate::state::App;

/// Its routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(load))
        .routes(routes!(unload))
        .routes(routes!(list, set))
}

/// What vLLM's clients may send beside.
const UNSUPPORTED: [Unsupported; 2] = [
    unsupported(
        "load_inplace",
        "unload the adapter before it is loaded again",
        if_false,
    ),
    unsupported("lora_int_id", "adapters are found by their names", never),
];

/// An adapter of a model.
#[derive(Serialize, ToSchema)]
struct Adapter {
    id: u64,
    name: String,
    path: String,
    /// How much of it is added to requests that name the model and say nothing of adapters.
    scale: f32,
    /// The model that it is loaded beside.
    model: String,
}

impl Adapter {
    fn new(model: &str, adapter: &AdapterStatus) -> Self {
        Self {
            id: adapter.id,
            name: adapter.source.name.clone(),
            path: adapter.source.path.display().to_string(),
            scale: adapter.scale,
            model: model.to_owned(),
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LoadLoraRequest)]
struct Load {
    /// What requests call it, as their `model` or `adapter`.
    lora_name: String,
    /// A directory of PEFT or a GGUF file, within a folder that the server was given for adapters.
    lora_path: String,
    /// The model that it is for; may be left out where one model is served.
    model: Option<String>,
}

/// Loads an adapter beside a model, and answers once it is there
#[utoipa::path(
    post,
    path = "/v1/load_lora_adapter",
    tag = "Server",
    request_body = Load,
    responses((status = 200, body = Adapter)),
)]
async fn load(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response, ApiError> {
    let body: Load = fields.take()?;
    fields.finish(&UNSUPPORTED)?;
    if body.lora_name.is_empty() {
        return Err(ApiError::param("lora_name", "lora_name is empty"));
    }
    let source = AdapterSource {
        path: allowed_path(&body.lora_path, &app.config.adapter_folders)?,
        name: body.lora_name,
    };
    let base = body.model.as_deref();
    let adapter = app.models.load_adapter(base, source).await?;
    let model = app.models.status(Some(&adapter.source.name))?;
    Ok(json(&Adapter::new(&model.name, &adapter)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UnloadLoraRequest)]
struct Unload {
    lora_name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LoraChanged)]
struct Changed {
    success: bool,
}

/// Forgets an adapter; requests that use it come to their end
#[utoipa::path(
    post,
    path = "/v1/unload_lora_adapter",
    tag = "Server",
    request_body = Unload,
    responses((status = 200, body = Changed)),
)]
async fn unload(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response, ApiError> {
    let body: Unload = fields.take()?;
    fields.finish(&UNSUPPORTED)?;
    app.models.unload_adapter(&body.lora_name)?;
    Ok(json(&Changed { success: true }))
}

/// The adapters of all models
#[utoipa::path(
    get,
    path = "/lora-adapters",
    tag = "Server",
    responses((status = 200, body = Vec<Adapter>)),
)]
async fn list(State(app): State<Arc<App>>) -> Response {
    let all = app.models.adapters();
    let all = all
        .iter()
        .map(|(model, adapter)| Adapter::new(model, adapter));
    json(&all.collect::<Vec<_>>())
}

/// Sets how much of each adapter is added where a request says nothing of adapters
#[utoipa::path(
    post,
    path = "/lora-adapters",
    tag = "Server",
    request_body = Vec<LoraScale>,
    responses((status = 200, body = Changed)),
)]
async fn set(
    State(app): State<Arc<App>>,
    Items(scales): Items<LoraScale>,
) -> Result<Response, ApiError> {
    app.models.set_scales(&scales)?;
    Ok(json(&Changed { success: true }))
}
