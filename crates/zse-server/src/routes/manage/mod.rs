//! `/api/models/*`, `/api/stats`, `/api/batching`: for those who run the server.

mod cache;
mod download;
mod gpu;
mod load;
mod registry;
pub(super) mod stats;
mod warmup;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use hyper::http::request::Parts;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::models::{Keep, Status};
use crate::state::App;

/// Its routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(load::load))
        .routes(routes!(load::unload))
        .routes(routes!(cache::status))
        .routes(routes!(cache::clear))
        .routes(routes!(cache::settings, cache::set))
        .routes(routes!(registry::registry))
        .routes(routes!(registry::discover))
        .routes(routes!(registry::search))
        .routes(routes!(registry::check))
        .routes(routes!(download::list, download::post))
        .routes(routes!(download::get, download::cancel))
        .routes(routes!(warmup::post))
        .routes(routes!(warmup::status))
        .routes(routes!(warmup::benchmark))
        .routes(routes!(stats::get))
        .routes(routes!(stats::models))
        .routes(routes!(gpu::get))
        .routes(routes!(stats::batching))
}

/// An address without parameters: those that there are, are refused by name.
pub(super) struct NoParameters;

impl<S: Sync> FromRequestParts<S> for NoParameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
        match query.first() {
            None => Ok(Self),
            Some((name, _)) => Err(ApiError::unknown(name)),
        }
    }
}

/// A model as these endpoints show it.
#[derive(Serialize, ToSchema)]
struct ModelStatus {
    id: String,
    aliases: Vec<String>,
    /// The names of its adapters.
    adapters: Vec<String>,
    /// `unloaded`, `loading` or `loaded`.
    state: &'static str,
    pinned: bool,
    /// Bytes that it takes.
    memory: u64,
    requests_running: usize,
    /// How often it was asked for.
    requests: u64,
    /// How often it was loaded.
    loads: u64,
    idle_seconds: f64,
    /// Until it is unloaded if nobody asks for it.
    expires_in_seconds: Option<f64>,
    load_seconds: Option<LoadSeconds>,
}

/// Where the time of loading went.
#[derive(Serialize, ToSchema)]
struct LoadSeconds {
    map: f64,
    pack: f64,
    warm_up: f64,
}

impl ModelStatus {
    fn new(model: &Status) -> Self {
        Self {
            id: model.name.clone(),
            aliases: model.aliases.clone(),
            adapters: (model.adapters.iter())
                .map(|adapter| adapter.source.name.clone())
                .collect(),
            state: model.state.name(),
            pinned: model.is_pinned,
            memory: model.memory,
            requests_running: model.users,
            requests: model.uses,
            loads: model.loads,
            idle_seconds: seconds(model.idle),
            expires_in_seconds: model.expires_in.map(seconds),
            load_seconds: model.is_loaded().then(|| LoadSeconds {
                map: seconds(model.times.map),
                pack: seconds(model.times.pack),
                warm_up: seconds(model.times.warm_up),
            }),
        }
    }
}

/// A time in seconds, to microseconds.
fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

/// How long a model is kept, as Ollama's API says it: seconds, or a time as Go writes it, such as
/// `5m` or `1h30m0s`; what is negative is for ever.
pub(super) fn keep_alive(value: &Value) -> Result<Keep, ApiError> {
    let wrong = || {
        let message = "keep_alive must be a number of seconds, or a time such as \"5m\"";
        ApiError::param("keep_alive", message)
    };
    let seconds = match value {
        Value::Number(number) => number.as_f64().ok_or_else(wrong)?,
        Value::String(text) => match text.strip_prefix('-') {
            Some(text) => -seconds_of(text).ok_or_else(wrong)?,
            None => {
                let text = text.strip_prefix('+').unwrap_or(text);
                seconds_of(text).ok_or_else(wrong)?
            }
        },
        _ => return Err(wrong()),
    };
    match seconds < 0.0 {
        true => Ok(Keep::Forever),
        false => Duration::try_from_secs_f64(seconds)
            .map(Keep::For)
            .map_err(|_| wrong()),
    }
}

/// The seconds of numbers with units, such as `1h30m0s`, or of one number without.
fn seconds_of(text: &str) -> Option<f64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    if text.chars().all(is_number) {
        return text.parse().ok();
    }
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c| !is_number(c))?);
        let end = behind.find(is_number).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = next;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_as_ollama_writes_them() {
        let minutes = |n: u64| Keep::For(Duration::from_secs(n * 60));
        for (value, expected) in [
            (json!("5m"), minutes(5)),
            (json!(60), minutes(1)),
            (json!("0.5h"), minutes(30)),
            (json!(0), minutes(0)),
            (json!("-1"), Keep::Forever),
            (json!("-1m"), Keep::Forever),
            (json!("5m0s"), minutes(5)),
            (json!("1h30m0s"), minutes(90)),
            (json!("1.5h"), minutes(90)),
            (json!("-1h0m0s"), Keep::Forever),
            (json!("100ms"), Keep::For(Duration::from_millis(100))),
            (json!("1s5us"), Keep::For(Duration::from_micros(1_000_005))),
            (json!("3\u{b5}s"), Keep::For(Duration::from_micros(3))),
            (json!("7ns"), Keep::For(Duration::from_nanos(7))),
        ] {
            assert_eq!(keep_alive(&value), Ok(expected), "{value}");
        }
        for wrong in [
            json!("m"),
            json!("5 days"),
            json!("5m30"),
            json!("--5m"),
            json!("5m-3s"),
            json!("1.2.3s"),
            json!("-"),
            json!([]),
            json!(1e300),
            json!(""),
        ] {
            assert!(keep_alive(&wrong).is_err(), "{wrong}");
        }
    }
}
