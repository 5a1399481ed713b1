//! `GET /health`: whether it serves; like `/`, it never wants a key.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether it serves
///
/// It answers, so it does: models are ready before connections are taken.
#[utoipa::path(get, path = "/health", tag = "Server", responses((status = 200, body = Health)))]
pub(super) async fn get() -> Response {
    super::json(&Health { status: "ok" })
}
