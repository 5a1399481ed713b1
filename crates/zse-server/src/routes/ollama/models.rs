//! `/api/tags`, `/api/show`, `/api/ps` and `/api/version`: what there is.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json as object_of};

use super::untagged;
use crate::error::ApiError;
use crate::models::Details;
use crate::request::{Fields, Unsupported};
use crate::routes::json;
use crate::state::App;

/// When a model is unloaded that is kept for ever, as Ollama's clients are told.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

/// A number of 64 hexadecimal digits that tells files apart by name, size and time: their contents
/// are not read for it.
fn digest(name: &str, details: &Details) -> String {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let of = |i: u8| hasher.hash_one((i, name, details.size, details.modified));
    (0..4).map(|i| format!("{:016x}", of(i))).collect()
}

fn details(details: &Details) -> Value {
    let parameters = details.parameters as f64;
    let size = match parameters >= 1e9 {
        true => format!("{:.1}B", parameters / 1e9),
        false => format!("{:.1}M", parameters / 1e6),
    };
    object_of!({
        "parent_model": "",
        "format": "gguf",
        "family": details.architecture,
        "families": [details.architecture],
        "parameter_size": size,
        "quantization_level": details.quantization,
    })
}

/// What the lists of models have of each.
fn entry(name: &str, of: &Details) -> Value {
    let tagged = match name.contains(':') {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    };
    object_of!({
        "name": tagged,
        "model": tagged,
        "size": of.size,
        "digest": digest(name, of),
        "details": details(of),
    })
}

/// All models, by all their names.
pub(super) async fn tags(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let mut list = Vec::new();
    for model in app.models.all() {
        // A file that is broken is found out by who asks for it.
        let Ok(details) = app.models.details(Some(&model.name)).await else {
            continue;
        };
        for name in [&model.name].into_iter().chain(&model.aliases) {
            let mut entry = entry(name, &details);
            entry["modified_at"] = time(details.modified).into();
            list.push(entry);
        }
    }
    Ok(json(&object_of!({ "models": list })))
}

/// The models in memory.
pub(super) async fn ps(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let mut list = Vec::new();
    for model in app.models.all() {
        let Some(engine) = &model.engine else {
            continue;
        };
        // Its file may be gone since it was loaded.
        let Ok(details) = app.models.details(Some(&model.name)).await else {
            continue;
        };
        let mut entry = entry(&model.name, &details);
        entry["size"] = model.memory.into();
        entry["size_vram"] = 0.into();
        entry["context_length"] = engine.limits().sequence().into();
        let left = model.expires_in.unwrap_or(NEVER);
        let end = SystemTime::now().checked_add(left);
        entry["expires_at"] = time(end.unwrap_or(SystemTime::UNIX_EPOCH)).into();
        list.push(entry);
    }
    Ok(json(&object_of!({ "models": list })))
}

/// Ollama's own client sends all of its fields, and empty ones for those that it does not mean.
#[derive(Debug, Deserialize)]
struct Show {
    model: Option<String>,
    /// What older clients say instead.
    name: Option<String>,
    #[serde(rename = "verbose")]
    _verbose: Option<bool>,
}

const UNSUPPORTED: [Unsupported; 3] = [
    Unsupported {
        name: "system",
        why: "a model has its own",
        is_default: |v| v == "",
    },
    Unsupported {
        name: "template",
        why: "a model has its own",
        is_default: |v| v == "",
    },
    Unsupported {
        name: "options",
        why: "a model has its own",
        is_default: |v| v.as_object().is_some_and(Map::is_empty),
    },
];

/// What is known of a model. Lists in its metadata are `null`: vocabularies are long.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Show = fields.take()?;
    fields.finish(&UNSUPPORTED)?;
    let names = [&body.model, &body.name].into_iter().flatten();
    let name = names
        .map(|name| untagged(name))
        .find(|name| !name.is_empty());
    let of = app.models.details(name).await?;
    let template = of.template.as_deref().unwrap_or_default();
    let mut capabilities = Vec::new();
    match of.is_embedder {
        true => capabilities.push("embedding"),
        false => capabilities.push("completion"),
    }
    if template.contains("tools") {
        capabilities.push("tools");
    }
    let mut info = of.metadata.clone();
    info.insert("general.parameter_count".to_owned(), of.parameters.into());
    Ok(json(&object_of!({
        "license": of.license.as_deref().unwrap_or_default(),
        "modelfile": format!("FROM {}\n", name.unwrap_or_default()),
        "parameters": "",
        "template": template,
        "details": details(&of),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": time(of.modified),
    })))
}

/// What a client asks that only wants to know whether there is a server.
pub(super) async fn root() -> &'static str {
    "Ollama is running"
}

/// The server's own version.
pub(super) async fn version() -> Response {
    json(&object_of!({ "version": env!("CARGO_PKG_VERSION") }))
}
