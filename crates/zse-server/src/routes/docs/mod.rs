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
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap,
    HeaderName, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::error::ApiError;
use crate::openapi;
use crate::sse;
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
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| sse::text(&openapi::complete(super::documented().into_openapi())).into());
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
async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    serve("index.html", &headers)
}

/// A file of the page
#[utoipa::path(
    get,
    path = "/docs/{*file}",
    tag = "Server",
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, content_type = "application/octet-stream", body = String)),
)]
async fn file(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    serve(&file, &headers)
}

fn serve(name: &str, asked: &HeaderMap) -> Result<Response, ApiError> {
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
    let response = (safe, kind, found.bytes);
    if !found.gzpipped {
        return Ok(response.into_response());
    }
    if !takes_gzip(asked) {
        return Err(ApiError::only_gzip());
    }
    let packed = [(CONTENT_ENCODING, "gzip"), (VARY, "accept-encoding")];
    Ok((packed, response).into_response())
}

/// Whether a client takes gzip, by RFC 9110, section 12.5.3: one that says nothing takes anything.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let codings: Vec<&str> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .collect();
    // What one is worth to the client: 0 where it must not come.
    let weight = |name: &str| {
        codings.iter().find_map(|coding| {
            let (coding, rest) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let is_it = coding.trim().eq_ignore_ascii_case(name);
            let weight = || rest.trim().split_once('=')?.1.trim().parse::<f32>().ok();
            is_it.then(|| weight().unwrap_or(1.0))
        })
    };
    match weight("gzip").or_else(|| weight("*")) {
        Some(weight) => weight > 0.0,
        None => !headers.contains_key(ACCEPT_ENCODING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(
                ACCEPT_ENCODING,
                value.parse().unwrap(),
            )]))
        };
        assert!(takes_gzip(&HeaderMap::new()));
        for value in [
            "gzip, deflate, br",
            "br;q=1.0, GZIP;q=0.5",
            "*",
            "*;q=0, gzip",
        ] {
            assert!(takes(value), "{value}");
        }
        for value in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip; q=0.000, *",
            "*;q=0",
        ] {
            assert!(!takes(value), "{value}");
        }
    }
}
