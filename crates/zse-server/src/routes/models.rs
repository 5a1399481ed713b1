//! `GET /v1/models` and `GET /v1/models/{id}`: what is served.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::{App, Served};

fn object(model: &Served) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "zse",
        "max_model_len": model.engine.limits().sequence(),
    })
}

/// All of them.
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let data: Vec<Value> = app.models.iter().map(object).collect();
    super::json(&json!({ "object": "list", "data": data }))
}

/// One of them.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    Ok(super::json(&object(app.model(Some(&id))?)))
}
