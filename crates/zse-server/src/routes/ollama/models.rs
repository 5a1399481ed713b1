//! `/api/tags`, `/api/show`, `/api/ps` and `/api/version`: what there is.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zse::MemoryReport;

use super::untagged;
use crate::error::ApiError;
use crate::models::{Details, Task};
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
    digest_of((name, details.size, details.modified))
}

/// The same of anything.
pub(super) fn digest_of(what: impl Hash) -> String {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let of = |i: u8| hasher.hash_one((i, &what));
    (0..4).map(|i| format!("{:016x}", of(i))).collect()
}

#[derive(Serialize, ToSchema)]
struct OllamaDetails {
    parent_model: &'static str,
    format: &'static str,
    family: String,
    families: Vec<String>,
    /// Such as `7.2B`.
    parameter_size: String,
    quantization_level: &'static str,
}

impl OllamaDetails {
    fn new(details: &Details) -> Self {
        let parameters = details.parameters as f64;
        Self {
            parent_model: "",
            format: "gguf",
            family: details.architecture.clone(),
            families: vec![details.architecture.clone()],
            parameter_size: match parameters >= 1e9 {
                true => format!("{:.1}B", parameters / 1e9),
                false => format!("{:.1}M", parameters / 1e6),
            },
            quantization_level: details.quantization,
        }
    }
}

/// What the lists of models have of each.
#[derive(Serialize, ToSchema)]
struct OllamaModel {
    name: String,
    model: String,
    /// Bytes: of its file, or of the memory that it takes.
    size: u64,
    digest: String,
    details: OllamaDetails,
}

impl OllamaModel {
    fn new(name: &str, of: &Details) -> Self {
        let tagged = match name.contains(':') {
            true => name.to_owned(),
            false => format!("{name}:latest"),
        };
        Self {
            name: tagged.clone(),
            model: tagged,
            size: of.size,
            digest: digest(name, of),
            details: OllamaDetails::new(of),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct OllamaTags {
    models: Vec<OllamaTag>,
}

#[derive(Serialize, ToSchema)]
struct OllamaTag {
    #[serde(flatten)]
    model: OllamaModel,
    modified_at: String,
}

/// All models, by all their names
#[utoipa::path(
    get,
    path = "/api/tags",
    tag = "Ollama",
    responses((status = 200, body = OllamaTags)),
)]
pub(super) async fn tags(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let mut models = Vec::new();
    for model in app.models.all() {
        // A file that is broken is found out by who asks for it.
        let Ok(details) = app.models.details(Some(&model.name)).await else {
            continue;
        };
        let names = [&model.name].into_iter().chain(&model.aliases);
        models.extend(names.map(|name| OllamaTag {
            model: OllamaModel::new(name, &details),
            modified_at: time(details.modified),
        }));
    }
    Ok(json(&OllamaTags { models }))
}

#[derive(Serialize, ToSchema)]
struct OllamaLoaded {
    models: Vec<OllamaLoadedModel>,
}

#[derive(Serialize, ToSchema)]
struct OllamaLoadedModel {
    #[serde(flatten)]
    model: OllamaModel,
    /// Those of them on a GPU. Of a model that is shared with the CPU, by its share of the layers.
    size_vram: u64,
    /// The longest sequence in tokens.
    context_length: usize,
    expires_at: String,
}

/// Bytes that a model of this memory takes on a GPU, where it runs at `place`: such as `cuda:0 (NAME)`, or `cuda:0
/// (NAME), 20 of 32 layers; before these cpu (avx2)`.
fn on_gpu(place: &str, memory: &MemoryReport) -> u64 {
    if !place.starts_with("cuda:") {
        return 0;
    }
    // What is read from the file is in the machine's memory.
    let held = memory.total() - memory.mapped;
    let share = place.rsplit_once(" layers; ").and_then(|(shared, _)| {
        let (_, share) = shared.rsplit_once(", ")?;
        let (layers, all) = share.split_once(" of ")?;
        Some((layers.parse::<u64>().ok()?, all.parse::<u64>().ok()?))
    });
    match share {
        Some((layers, all)) if all > 0 => {
            (u128::from(held) * u128::from(layers.min(all)) / u128::from(all)) as u64
        }
        _ => held,
    }
}

/// The models in memory
#[utoipa::path(
    get,
    path = "/api/ps",
    tag = "Ollama",
    responses((status = 200, body = OllamaLoaded)),
)]
pub(super) async fn ps(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let mut models = Vec::new();
    for model in app.models.all() {
        let Some(engine) = &model.engine else {
            continue;
        };
        // Its file may be gone since it was loaded.
        let Ok(details) = app.models.details(Some(&model.name)).await else {
            continue;
        };
        let left = model.expires_in.unwrap_or(NEVER);
        let end = SystemTime::now().checked_add(left);
        models.push(OllamaLoadedModel {
            model: OllamaModel {
                size: model.memory,
                ..OllamaModel::new(&model.name, &details)
            },
            size_vram: on_gpu(engine.device(), &engine.memory()).min(model.memory),
            context_length: engine.limits().sequence(),
            expires_at: time(end.unwrap_or(SystemTime::UNIX_EPOCH)),
        });
    }
    Ok(json(&OllamaLoaded { models }))
}

/// Ollama's own client sends all of its fields, and empty ones for those that it does not mean.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaShow)]
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

#[derive(Serialize, ToSchema)]
struct OllamaModelInfo {
    license: String,
    modelfile: String,
    parameters: &'static str,
    template: String,
    details: OllamaDetails,
    /// The metadata of its file; `null` for lists: vocabularies are long.
    #[schema(value_type = Object)]
    model_info: Map<String, Value>,
    /// `completion`, `embedding`, `tools`, `thinking`, `insert`.
    capabilities: Vec<&'static str>,
    modified_at: String,
}

/// What is known of a model
#[utoipa::path(
    post,
    path = "/api/show",
    tag = "Ollama",
    request_body = Show,
    responses((status = 200, body = OllamaModelInfo)),
)]
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
    match of.task {
        Task::Embeddings => capabilities.push("embedding"),
        Task::Text => capabilities.push("completion"),
        // Ollama has no word for it.
        Task::Ranking => {}
    }
    if of.takes_tools {
        capabilities.push("tools");
    }
    if of.task == Task::Text {
        let can = app.models.abilities(name).await?;
        let more = [("insert", can.fills_gaps), ("thinking", can.thinks)];
        capabilities.extend(
            more.into_iter()
                .filter_map(|(word, can)| can.then_some(word)),
        );
    }
    let mut info = of.metadata.clone();
    info.insert("general.parameter_count".to_owned(), of.parameters.into());
    Ok(json(&OllamaModelInfo {
        license: of.license.clone().unwrap_or_default(),
        modelfile: format!("FROM {}\n", name.unwrap_or_default()),
        parameters: "",
        template: template.to_owned(),
        details: OllamaDetails::new(&of),
        model_info: info,
        capabilities,
        modified_at: time(of.modified),
    }))
}

/// Whether there is a server, as Ollama's clients ask it
#[utoipa::path(
    get,
    path = "/",
    tag = "Ollama",
    responses((status = 200, content_type = "text/plain", body = String)),
)]
pub(super) async fn root() -> &'static str {
    "Ollama is running"
}

#[derive(Serialize, ToSchema)]
struct Version {
    version: &'static str,
}

/// The server's own version
#[utoipa::path(
    get,
    path = "/api/version",
    tag = "Ollama",
    responses((status = 200, body = Version)),
)]
pub(super) async fn version() -> Response {
    json(&Version {
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_gpu_is_told() {
        let memory = MemoryReport {
            weights: 600,
            mapped: 50,
            kv: 30,
            activations: 10,
        };
        for (place, bytes) in [
            ("cpu (avx2)", 0),
            ("cuda:0 (NVIDIA H200)", 640),
            (
                "cuda:1 (NVIDIA H200, PTX), 8 of 32 layers; before these cpu (avx2)",
                160,
            ),
        ] {
            assert_eq!(on_gpu(place, &memory), bytes, "{place}");
        }
    }
}
