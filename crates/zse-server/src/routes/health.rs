//! `GET /health`: whether it serves; like `/`, it never wants a key.

use axum::response::Response;
use serde_json::json;

/// It answers, so it serves: models are ready before connections are taken.
pub(super) async fn get() -> Response {
    super::json(&json!({ "status": "ok" }))
}
