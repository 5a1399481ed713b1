//! `POST /api/embed`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{keep, options, untagged};
use crate::embed::Embed;
use crate::error::ApiError;
use crate::job;
use crate::request::{Fields, Prompt, Texts};
use crate::routes::json;
use crate::state::App;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaEmbed)]
struct Body {
    model: Option<String>,
    input: Texts,
    /// Whether texts that are too long are cut, which Ollama does unless it is told not to.
    truncate: Option<bool>,
    dimensions: Option<usize>,
    #[schema(value_type = Option<options::Schema>)]
    options: Option<Map<String, Value>>,
    keep_alive: Option<Value>,
}

/// Times are in nanoseconds.
#[derive(Serialize, ToSchema)]
struct OllamaEmbeddings {
    model: Option<String>,
    embeddings: Vec<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<usize>,
    /// Where there was nothing to embed: `load` or `unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
}

/// Embeddings
#[utoipa::path(
    post,
    path = "/api/embed",
    tag = "Ollama",
    request_body = Body,
    responses((status = 200, body = OllamaEmbeddings)),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let body: Body = fields.take()?;
    // Nothing is drawn, but what is wrong is wrong here too.
    let drawing = options::read(&fields, body.options)?;
    fields.finish(&[])?;
    let inputs: Vec<Prompt> = body.input.0.into_iter().map(Prompt::Text).collect();
    let name = body.model.as_deref().map(untagged);
    if inputs.is_empty() {
        let reason = super::load_only(&app, name, body.keep_alive.as_ref()).await?;
        return Ok(json(&OllamaEmbeddings {
            model: body.model,
            embeddings: Vec::new(),
            total_duration: None,
            load_duration: None,
            prompt_eval_count: None,
            done_reason: Some(reason),
        }));
    }
    let embed = Embed {
        model: name.map(str::to_owned),
        inputs,
        dimensions: body.dimensions,
        truncate: body.truncate.unwrap_or(true),
    };
    let embedder = embed.ready(&app).await?;
    if let Some(wanted) = drawing.context {
        options::check_context(wanted, embedder.model.engine.limits().sequence())?;
    }
    keep(&app, &embedder.model, body.keep_alive.as_ref())?;
    let load = began.elapsed();
    job::blocking(move |is_gone| {
        let model = body.model.unwrap_or_else(|| embedder.model.name.clone());
        let found = embedder.run(is_gone)?;
        Ok(json(&OllamaEmbeddings {
            model: Some(model),
            embeddings: found.vectors,
            total_duration: Some(began.elapsed().as_nanos() as u64),
            load_duration: Some(load.as_nanos() as u64),
            prompt_eval_count: Some(found.tokens),
            done_reason: None,
        }))
    })
    .await
}
