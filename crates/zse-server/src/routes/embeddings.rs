//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::job;
use crate::request::{Fields, Prompt, Prompts, Unsupported, never};
use crate::state::App;

/// Most texts of a request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    input: Prompts,
    encoding_format: Option<Encoding>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

/// How the numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// As a list.
    #[default]
    Float,
    /// As the base64 of little-endian f32.
    Base64,
}

const UNSUPPORTED: [Unsupported; 1] = [Unsupported {
    name: "dimensions",
    why: "embeddings have the length that the model gives them",
    is_default: never,
}];

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    fields.finish(&UNSUPPORTED)?;
    let model = app.model(body.model.as_deref())?.clone();
    let inputs = body.input.0;
    if !model.engine.is_embedder() {
        let message = format!(
            "the model '{}' generates text; it gives no embeddings",
            model.name
        );
        return Err(ApiError::param("model", message));
    }
    if inputs.is_empty() || inputs.len() > MAX_INPUTS {
        let message = format!("input must have from 1 to {MAX_INPUTS} texts");
        return Err(ApiError::param("input", message));
    }
    let slot = app.admit(1)?;
    let format = body.encoding_format.unwrap_or_default();
    job::blocking(move |is_gone| {
        let mut used = 0;
        let mut data = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            if is_gone() {
                break;
            }
            let tokens = match input {
                Prompt::Text(text) => model.engine.tokenizer().encode(&text, true, false),
                Prompt::Tokens(tokens) => tokens,
            };
            let limits = model.engine.limits();
            let longest = limits.sequence().min(limits.batch_tokens);
            if tokens.len() > longest {
                return Err(ApiError::too_long(tokens.len(), longest));
            }
            used += tokens.len();
            let embedding = write(&model.engine.embed_tokens(tokens)?, format);
            data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
        }
        drop(slot);
        Ok(super::json(&json!({
            "object": "list",
            "data": data,
            "model": model.name,
            "usage": { "prompt_tokens": used, "total_tokens": used },
        })))
    })
    .await
}

fn write(embedding: &[f32], format: Encoding) -> Value {
    match format {
        Encoding::Float => embedding.into(),
        Encoding::Base64 => {
            let bytes: Vec<u8> = embedding.iter().flat_map(|x| x.to_le_bytes()).collect();
            BASE64_STANDARD.encode(bytes).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_of_little_endian_floats() {
        assert_eq!(write(&[1.0, -2.0], Encoding::Base64), "AACAPwAAAMA=");
        assert_eq!(write(&[1.0, -2.0], Encoding::Float), json!([1.0, -2.0]));
    }
}
