//! The endpoints, one file each.

pub(crate) mod anthropic;
mod chat_completions;
mod completions;
mod detokenize;
mod docs;
mod embeddings;
mod health;
mod lora;
mod manage;
mod metrics;
mod models;
pub(crate) mod ollama;
mod rerank;
pub(crate) mod responses;
mod tokenize;
mod ws;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::guard::guard;
use crate::openapi;
use crate::state::App;

/// All of them, with what the OpenAPI document says of each.
fn documented() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(health::get))
        .routes(routes!(metrics::get))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
        .routes(routes!(chat_completions::post))
        .routes(routes!(completions::post))
        .routes(routes!(embeddings::post))
        .routes(routes!(rerank::post))
        .routes(routes!(rerank::post_v2))
        .routes(routes!(rerank::post_short))
        .routes(routes!(tokenize::post))
        .routes(routes!(detokenize::post))
        .merge(anthropic::routes())
        .merge(docs::routes())
        .merge(lora::routes())
        .merge(manage::routes())
        .merge(responses::routes())
        .merge(ollama::routes())
        .merge(ws::routes())
}

/// All of them, behind the guard.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .fallback(|request: Request| async move { ApiError::no_route(request.uri().path()) })
        .layer(from_fn_with_state(Arc::clone(app), guard))
        .with_state(Arc::clone(app))
}

/// A JSON answer.
pub(crate) fn json(value: &impl Serialize) -> axum::response::Response {
    use axum::response::IntoResponse;
    match serde_json::to_string(value) {
        Ok(text) => ([(hyper::header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zse::{LoadOptions, ModelSource};

    use super::*;
    use crate::config::Config;
    use crate::models::Served;

    #[test]
    fn every_route_is_in_the_document() {
        let options = LoadOptions::default();
        let models = vec![Served::on_request("builtin", ModelSource::Builtin, options)];
        let app = App::new(models, Config::default()).expect("sound names");
        // A router tells of its routes only for debugging.
        let router = format!("{:?}", router(&Arc::new(app)));
        let routes = router.split('"').filter(|text| text.starts_with('/'));
        let routes: BTreeSet<&str> = routes.collect();
        let document = documented().into_openapi();
        let paths = document.paths.paths.keys().map(String::as_str);
        assert!(routes.contains("/v1/chat/completions"), "{router}");
        // The fallback is a route within, too.
        let routes = routes
            .into_iter()
            .filter(|path| !path.contains("__private"));
        assert_eq!(routes.collect::<BTreeSet<_>>(), paths.collect());
    }
}
