//! `POST /api/embed`, and `POST /api/embeddings` as clients knew it before.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json as object_of};

use super::{keep, options, untagged};
use crate::embed::{Embed, Embedder};
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

/// One text, of older clients.
#[derive(Debug, Deserialize)]
struct Old {
    model: Option<String>,
    prompt: Option<String>,
    options: Option<Map<String, Value>>,
    keep_alive: Option<Value>,
}

/// What both ask for.
struct Wanted {
    model: Option<String>,
    inputs: Vec<String>,
    truncate: bool,
    dimensions: Option<usize>,
    options: Option<Map<String, Value>>,
    keep_alive: Option<Value>,
}

/// What a request becomes.
enum Ready {
    Embed(Box<Embedder>),
    /// Without a text, the model is loaded or unloaded; which of the two.
    Nothing(&'static str),
}

impl Wanted {
    /// Checks it and loads the model.
    async fn ready(self, app: &Arc<App>, fields: Fields) -> Result<Ready, ApiError> {
        // Nothing is drawn, but what is wrong is wrong here too.
        let drawing = options::read(&fields, self.options)?;
        fields.finish(&[])?;
        let name = self.model.as_deref().map(untagged);
        let time = self.keep_alive.as_ref();
        if self.inputs.is_empty() {
            return Ok(Ready::Nothing(super::load_only(app, name, time).await?));
        }
        let embed = Embed {
            model: name.map(str::to_owned),
            inputs: self.inputs.into_iter().map(Prompt::Text).collect(),
            dimensions: self.dimensions,
            truncate: self.truncate,
        };
        let embedder = embed.ready(app).await?;
        if let Some(wanted) = drawing.context {
            options::check_context(wanted, embedder.model.engine.limits().sequence())?;
        }
        keep(app, &embedder.model, time)?;
        Ok(Ready::Embed(Box::new(embedder)))
    }
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let body: Body = fields.take()?;
    let wanted = Wanted {
        model: body.model.clone(),
        inputs: body.input.0,
        truncate: body.truncate.unwrap_or(true),
        dimensions: body.dimensions,
        options: body.options,
        keep_alive: body.keep_alive,
    };
    let embedder = match wanted.ready(&app, fields).await? {
        Ready::Embed(embedder) => embedder,
        Ready::Nothing(reason) => {
            return Ok(json(&object_of!({
                "model": body.model, "embeddings": [], "done_reason": reason,
            })));
        }
    };
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

pub(super) async fn post_old(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Old = fields.take()?;
    let prompt = body.prompt.filter(|prompt| !prompt.is_empty());
    let wanted = Wanted {
        model: body.model,
        inputs: prompt.into_iter().collect(),
        // There is no parameter that says so, and nothing is cut in silence.
        truncate: false,
        dimensions: None,
        options: body.options,
        keep_alive: body.keep_alive,
    };
    let embedder = match wanted.ready(&app, fields).await? {
        Ready::Embed(embedder) => embedder,
        Ready::Nothing(_) => return Ok(json(&object_of!({ "embedding": [] }))),
    };
    job::blocking(move |is_gone| {
        let mut found = embedder.run(is_gone)?;
        Ok(json(&object_of!({ "embedding": found.vectors.pop() })))
    })
    .await
}
