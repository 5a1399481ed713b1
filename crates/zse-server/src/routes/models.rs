//! `GET /v1/models` and `GET /v1/models/{id}`: what is served.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::models::{AdapterStatus, Status};
use crate::state::App;

/// A model under one of its names.
#[derive(Serialize, ToSchema)]
struct Model {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// Its own name, for which `id` may be another.
    root: String,
    /// Of an adapter, the model that it is loaded beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// `unloaded`, `loading` or `loaded`.
    state: &'static str,
    /// The longest sequence in tokens, once it is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<usize>,
}

#[derive(Serialize, ToSchema)]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

impl Model {
    fn new(model: &Status, id: &str) -> Self {
        let engine = model.engine.as_ref();
        Self {
            id: id.to_owned(),
            object: "model",
            created: model.created,
            owned_by: "zse",
            root: model.name.clone(),
            parent: None,
            state: model.state.name(),
            max_model_len: engine.map(|engine| engine.limits().sequence()),
        }
    }

    /// An adapter of `model`.
    fn adapter(model: &Status, adapter: &AdapterStatus) -> Self {
        let name = &adapter.source.name;
        Self {
            created: adapter.created,
            root: name.clone(),
            parent: Some(model.name.clone()),
            ..Self::new(model, name)
        }
    }
}

/// What is served, by all names
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI",
    responses((status = 200, body = ModelList)),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let mut data = Vec::new();
    for model in app.models.all() {
        data.push(Model::new(&model, &model.name));
        data.extend(model.aliases.iter().map(|alias| Model::new(&model, alias)));
        data.extend(model.adapters.iter().map(|a| Model::adapter(&model, a)));
    }
    super::json(&ModelList {
        object: "list",
        data,
    })
}

/// A model
#[utoipa::path(
    get,
    path = "/v1/models/{*id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "One of its names")),
    responses((status = 200, body = Model)),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let model = app.models.status(Some(&id))?;
    let is_own = model.name == id || model.aliases.contains(&id);
    let adapter = model.adapters.iter().find(|a| a.source.name == id);
    Ok(super::json(&match adapter.filter(|_| !is_own) {
        Some(adapter) => Model::adapter(&model, adapter),
        None => Model::new(&model, &id),
    }))
}
