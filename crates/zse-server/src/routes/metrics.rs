//! `GET /metrics`: counts for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;

use crate::state::App;

/// Counts for Prometheus
///
/// Prometheus' text format, version 0.0.4.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Server",
    responses((status = 200, content_type = "text/plain", body = String)),
)]
pub(super) async fn get(State(app): State<Arc<App>>) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, app.metrics.render(&app.models.all())).into_response()
}
