//! `GET /openapi.json`, and the Swagger page at `/docs` that shows it.
//!
//! The page's files are in the binary; nothing is fetched from elsewhere. They need no key, because a
//! browser cannot send one for a page, and say nothing of this server; the document does need it, and
//! the page asks for it.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::error::ApiError;
use crate::openapi;
use crate::state::App;

/// What the page may do: run its own scripts, ask this server, and not be shown within another page.
/// Swagger UI sets styles in place, and has its images in them.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; frame-ancestors 'none'";

/// The page's own script, which stands in for that of the vendored files.
const INITIALIZER: &str = include_str!("initializer.js");

/// Its routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(document))
        .routes(routes!(redirect))
        .routes(routes!(index))
        .routes(routes!(file))
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Server",
    responses((status = 200, body = Object)),
)]
async fn document() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let document = openapi::complete(super::documented().into_openapi());
        let text = document.to_json();
        text.expect("keys are texts, and nothing else can fail")
            .into()
    });
    let headers = [(CONTENT_TYPE, "application/json")];
    (headers, DOCUMENT.clone()).into_response()
}

/// Leads to the page
#[utoipa::path(get, path = "/docs", tag = "Server", responses((status = 308)))]
async fn redirect() -> Redirect {
    // Relative, for proxies that serve this under a path of their own.
    Redirect::permanent("docs/")
}

/// A page that shows this document
#[utoipa::path(
    get,
    path = "/docs/",
    tag = "Server",
    responses((status = 200, content_type = "text/html", body = String)),
)]
async fn index() -> Result<Response, ApiError> {
    serve("index.html")
}

/// A file of the page
#[utoipa::path(
    get,
    path = "/docs/{*file}",
    tag = "Server",
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, content_type = "application/octet-stream", body = String)),
)]
async fn file(Path(file): Path<String>) -> Result<Response, ApiError> {
    serve(&file)
}

fn serve(name: &str) -> Result<Response, ApiError> {
    let safe: [(HeaderName, &str); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if name == "swagger-initializer.js" {
        let kind = [(CONTENT_TYPE, "text/javascript")];
        return Ok((safe, kind, INITIALIZER).into_response());
    }
    let found = utoipa_swagger_ui::serve(name, Arc::new(Config::default()));
    let found = found.map_err(|error| ApiError::internal(error.to_string()))?;
    let found = found.ok_or_else(|| ApiError::no_route(name))?;
    let kind = [(CONTENT_TYPE, found.content_type)];
    let packed = found.gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
    let mut response = (safe, kind, found.bytes).into_response();
    if let Some(packed) = packed {
        response = (packed, response).into_response();
    }
    Ok(response)
}
