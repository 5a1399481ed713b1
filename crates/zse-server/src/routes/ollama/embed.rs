//! `POST /api/embed`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json as object_of};

use super::{keep, options, untagged};
use crate::embed::Embed;
use crate::error::ApiError;
use crate::job;
use crate::request::{Fields, Many, Prompt};
use crate::routes::json;
use crate::state::App;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    input: Many<String>,
    /// Whether texts that are too long are cut, which Ollama does unless it is told not to.
    truncate: Option<bool>,
    dimensions: Option<usize>,
    options: Option<Map<String, Value>>,
    keep_alive: Option<Value>,
}

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
        return Ok(json(&object_of!({
            "model": body.model, "embeddings": [], "done_reason": reason,
        })));
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
        Ok(json(&object_of!({
            "model": model,
            "embeddings": found.vectors,
            "total_duration": began.elapsed().as_nanos() as u64,
            "load_duration": load.as_nanos() as u64,
            "prompt_eval_count": found.tokens,
        })))
    })
    .await
}
