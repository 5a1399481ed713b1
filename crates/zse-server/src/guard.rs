//! Who may ask: keys, `Host`, `Origin`; and what is counted of every request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::Extensions;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::config::Config;
use crate::error::ApiError;
use crate::routes::anthropic;
use crate::state::App;
use crate::usage;

/// The header that names a request, and its name with Anthropic's clients.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The protocol that WebSockets speak here, for clients that ask for one by name.
pub(crate) const PROTOCOL: &str = "zse";
/// What stands before a key, in base64url without padding, among the protocols that are asked for.
const KEY_PROTOCOL: &str = "zse.key.";

/// Whose request it is: each key has its own stored responses, and finds nothing in the prefix cache
/// that another asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tenant(String);

impl Tenant {
    /// Whoever has the key of this number.
    pub(crate) fn of_key(number: usize) -> Self {
        Self(format!("key {number}"))
    }

    /// What keeps its part of the prefix cache apart.
    pub(crate) fn salt(&self) -> &str {
        &self.0
    }

    /// Whose request this is, once it has passed the guard.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

/// Runs before every handler.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let path = request.uri().path().to_owned();
    // The server's own: what clients call their requests is theirs to know.
    let id = usage::id("req").replace('-', "_");
    let mut response = match check(&app.config, &request) {
        Err(error) => error.into_response(),
        // A browser asks first, and without the key.
        Ok(()) if request.method() == Method::OPTIONS && origin.is_some() => {
            preflight(request.headers())
        }
        Ok(()) => match authorize(&app.config, &request) {
            Err(error) => error.into_response(),
            Ok(tenant) => {
                request.extensions_mut().insert(tenant);
                next.run(request).await
            }
        },
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if let Some(why) = &error.internal {
            app.report(&format!("{why} (request {id})"));
        }
        // In the shape that the clients of the path read.
        *response.body_mut() = error.body_for(&path).to_string().into();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if response.status() == StatusCode::UNAUTHORIZED && is_page(&path) {
        let basic = HeaderValue::from_static("Basic realm=\"zse\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, basic);
    }
    if let Some(origin) = origin.filter(|_| response.status() != StatusCode::FORBIDDEN) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-request-id, request-id"),
        );
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    name(&mut response, &id, &path);
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    app.metrics.answered(route, response.status().as_u16());
    response
}

/// Tells a client what its request is called.
fn name(response: &mut Response, id: &str, path: &str) {
    // It is of letters and digits.
    let Ok(id) = HeaderValue::from_str(id) else {
        return;
    };
    let headers = response.headers_mut();
    if path.starts_with(anthropic::PATH) {
        headers.insert(ANTHROPIC_REQUEST_ID, id.clone());
    }
    headers.insert(REQUEST_ID, id);
}

/// Refuses requests that a web page of someone else may have caused: by a name that resolves to
/// this machine (`Host`), or across origins.
fn check(config: &Config, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let host = text(headers, header::HOST).or(request.uri().host());
    let host = host.ok_or_else(|| ApiError::forbidden("the header Host is missing"))?;
    let is_local = config.address.ip().is_loopback();
    let known = |name: &str| config.allowed_hosts.iter().any(|h| h == name);
    let is_open = !is_local && config.allowed_hosts.is_empty();
    if !(is_open || known(without_port(host)) || is_loopback(without_port(host))) {
        return Err(ApiError::forbidden(format!(
            "the name '{host}' in the header Host is not served (see --allow-host)"
        )));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    let is_same = !authority.is_empty() && authority == host;
    let is_neighbour = is_local && is_loopback(without_port(authority));
    if is_same || is_neighbour || config.allowed_origins.iter().any(|o| o == origin) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "pages of '{origin}' may not ask (see --allow-origin)"
    )))
}

/// Whether a path is for everyone: it says no more than that there is a server.
pub(crate) fn is_open(path: &str) -> bool {
    path == "/health"
}

/// Whether a path is a page for people, or a file of one. A browser asks for the password of such a page
/// itself, and sends it for all of its files, where it can set no header; it is the key.
pub(crate) fn is_page(path: &str) -> bool {
    path == "/docs" || path.starts_with("/docs/")
}

/// Whether a path is for those who run the server: it changes what is served, fetches and removes
/// files, or asks a hub.
pub(crate) fn is_for_admins(path: &str) -> bool {
    path.starts_with("/api/models/")
        || matches!(path, "/api/pull" | "/api/delete" | "/ws/downloads")
}

fn authorize(config: &Config, request: &Request) -> Result<Tenant, ApiError> {
    let path = request.uri().path();
    if config.keys().next().is_none() || is_open(path) {
        return Ok(Tenant::default());
    }
    let headers = request.headers();
    let bearer = text(headers, header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let given = bearer.or(headers.get("x-api-key").and_then(|v| v.to_str().ok()));
    let given = given.map(|key| key.as_bytes().to_vec());
    let given = given
        .or_else(|| key_of_protocols(headers))
        .or_else(|| password(headers).filter(|_| is_page(path)))
        .unwrap_or_default();
    // Every key is looked at, so that time says neither which one matches nor how far.
    let keys = config.keys().zip(1_u64..);
    let number = keys.fold(0, |found, (key, number)| {
        u64::conditional_select(&found, &number, key.as_bytes().ct_eq(&given))
    });
    match usize::try_from(number) {
        Ok(number @ 1..) if is_for_admins(path) && number <= config.api_keys.len() => {
            Err(ApiError::not_admin())
        }
        Ok(number @ 1..) => Ok(Tenant::of_key(number)),
        _ => Err(ApiError::unauthorized()),
    }
}

/// The key among the protocols that a WebSocket is asked for. A browser can set no header for one but
/// this, and an address would end in logs. Of other requests it opens none.
fn key_of_protocols(headers: &HeaderMap) -> Option<Vec<u8>> {
    text(headers, header::UPGRADE).filter(|name| name.eq_ignore_ascii_case("websocket"))?;
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let lines = lines.iter().filter_map(|line| line.to_str().ok());
    let protocols = lines.flat_map(|line| line.split(','));
    let mut keys = protocols.filter_map(|name| name.trim().strip_prefix(KEY_PROTOCOL));
    BASE64_URL_SAFE_NO_PAD.decode(keys.next()?).ok()
}

/// The password that a browser gives, of any user.
fn password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, pair) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    let pair = scheme
        .eq_ignore_ascii_case("basic")
        .then_some(pair.trim())?;
    let pair = BASE64_STANDARD.decode(pair).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// What a page of an origin that may ask may send: any header, for clients have their own (`x-stainless-*`),
/// and one that nobody reads does nothing.
fn preflight(asked: &HeaderMap) -> Response {
    let usual = "authorization, content-type, x-api-key, anthropic-version, anthropic-beta";
    let allowed = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let text = HeaderValue::from_static;
    let headers = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            text("GET, POST, DELETE, OPTIONS"),
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            allowed.unwrap_or(text(usual)),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, text("600")),
        (header::VARY, text("access-control-request-headers")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `host` of `host:port`; an address in brackets without them.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().uri("/v1/models");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn names_that_others_may_point_here_are_refused() {
        let config = Config::default();
        for host in [
            "localhost",
            "LocalHost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
        ] {
            assert!(
                check(&config, &request(&[("host", host)])).is_ok(),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil:80",
            "",
        ] {
            assert!(
                check(&config, &request(&[("host", host)])).is_err(),
                "{host}"
            );
        }
        assert!(check(&config, &request(&[])).is_err());
        let named = Config {
            allowed_hosts: vec!["my.machine".to_owned()],
            ..Config::default()
        };
        assert!(check(&named, &request(&[("host", "my.machine:8000")])).is_ok());
        let open = Config {
            address: "0.0.0.0:1".parse().unwrap(),
            ..Config::default()
        };
        assert!(check(&open, &request(&[("host", "any.example")])).is_ok());
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let config = Config {
            allowed_origins: vec!["https://chat.example".to_owned()],
            ..Config::default()
        };
        let ask = |origin| {
            check(
                &config,
                &request(&[("host", "localhost"), ("origin", origin)]),
            )
        };
        assert!(ask("http://localhost:3000").is_ok());
        assert!(ask("https://chat.example").is_ok());
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "",
        ] {
            assert!(ask(origin).is_err(), "{origin}");
        }
    }

    #[test]
    fn any_of_the_keys_opens() {
        let config = Config {
            api_keys: vec!["one".to_owned(), "two".to_owned()],
            ..Config::default()
        };
        for headers in [
            &[("authorization", "Bearer one")][..],
            &[("authorization", "bearer two")],
            &[("x-api-key", "two")],
            &[
                ("upgrade", "WebSocket"),
                ("sec-websocket-protocol", "zse, zse.key.b25l"),
            ],
            &[
                ("upgrade", "websocket"),
                ("sec-websocket-protocol", "zse"),
                ("sec-websocket-protocol", "zse.key.b25l"),
            ],
        ] {
            assert!(authorize(&config, &request(headers)).is_ok(), "{headers:?}");
        }
        for headers in [
            &[("authorization", "Bearer onetwo")][..],
            &[("authorization", "Basic one")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "on")],
            &[("sec-websocket-protocol", "zse, zse.key.b25l")],
            &[
                ("upgrade", "h2c"),
                ("sec-websocket-protocol", "zse.key.b25l"),
            ],
            &[
                ("upgrade", "websocket"),
                ("sec-websocket-protocol", "zse, zse.key.b24"),
            ],
            &[
                ("upgrade", "websocket"),
                ("sec-websocket-protocol", "zse.key.one"),
            ],
            &[("upgrade", "websocket"), ("sec-websocket-protocol", "b25l")],
        ] {
            assert!(
                authorize(&config, &request(headers)).is_err(),
                "{headers:?}"
            );
        }
        assert!(authorize(&config, &request(&[])).is_err());
    }

    #[test]
    fn the_key_is_the_password_of_the_page() {
        let config = Config {
            api_keys: vec!["one".to_owned()],
            ..Config::default()
        };
        let ask = |path: &str, pair: &str| {
            let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
            let mut request = request(&[("authorization", &basic)]);
            *request.uri_mut() = path.parse().unwrap();
            authorize(&config, &request)
        };
        for path in ["/docs", "/docs/", "/docs/swagger-ui.css"] {
            assert!(ask(path, "anyone:one").is_ok(), "{path}");
            assert!(ask(path, ":one").is_ok(), "{path}");
            for pair in ["anyone:two", "one", "one:", "one:one:"] {
                assert!(ask(path, pair).is_err(), "{path}: {pair}");
            }
        }
        for path in ["/", "/openapi.json", "/v1/models", "/documents"] {
            assert!(ask(path, "anyone:one").is_err(), "{path}");
        }
    }
}
