//! `GET /v1/models` and `GET /v1/models/{id}`: what is served.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::models::Status;
use crate::state::App;

/// A model under one of its names.
fn object(model: &Status, id: &str) -> Value {
    let mut object = json!({
        "id": id,
        "object": "model",
        "created": model.created,
        "owned_by": "zse",
        "root": model.name,
        "state": model.state.name(),
    });
    if let Some(engine) = &model.engine {
        object["max_model_len"] = engine.limits().sequence().into();
    }
    object
}

/// All of them, by all their names.
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let mut data = Vec::new();
    for model in app.models.all() {
        data.push(object(&model, &model.name));
        data.extend(model.aliases.iter().map(|alias| object(&model, alias)));
    }
    super::json(&json!({ "object": "list", "data": data }))
}

/// One of them.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    Ok(super::json(&object(&app.models.status(Some(&id))?, &id)))
}
