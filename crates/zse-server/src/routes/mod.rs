//! The endpoints, one file each.

pub(crate) mod anthropic;
mod chat_completions;
mod completions;
mod detokenize;
mod embeddings;
mod health;
mod manage;
mod metrics;
mod models;
pub(crate) mod ollama;
mod rerank;
pub(crate) mod responses;
mod tokenize;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::error::ApiError;
use crate::guard::guard;
use crate::state::App;

/// All of them, behind the guard.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/health", get(health::get))
        .route("/metrics", get(metrics::get))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/v1/chat/completions", post(chat_completions::post))
        .route("/v1/completions", post(completions::post))
        .route("/v1/embeddings", post(embeddings::post))
        .route("/rerank", post(rerank::post))
        .route("/v1/rerank", post(rerank::post))
        .route("/v2/rerank", post(rerank::post))
        .route("/tokenize", post(tokenize::post))
        .route("/detokenize", post(detokenize::post))
        .merge(anthropic::routes())
        .merge(manage::routes())
        .merge(responses::routes())
        .merge(ollama::routes())
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .fallback(|request: Request| async move { ApiError::no_route(request.uri().path()) })
        .layer(from_fn_with_state(Arc::clone(app), guard))
        .with_state(Arc::clone(app))
}

/// A JSON answer.
pub(crate) fn json(value: &serde_json::Value) -> axum::response::Response {
    use axum::response::IntoResponse;
    let headers = [(hyper::header::CONTENT_TYPE, "application/json")];
    (headers, value.to_string()).into_response()
}
