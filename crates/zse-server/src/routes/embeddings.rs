//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::embed::Embed;
use crate::error::ApiError;
use crate::job;
use crate::request::{Fields, Prompts};
use crate::state::App;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    input: Prompts,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
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

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    fields.finish(&[])?;
    let embed = Embed {
        model: body.model,
        inputs: body.input.0,
        dimensions: body.dimensions,
        truncate: false,
    };
    let embedder = embed.ready(&app).await?;
    let format = body.encoding_format.unwrap_or_default();
    job::blocking(move |is_gone| {
        let model = embedder.model.name.clone();
        let found = embedder.run(is_gone)?;
        let numbered = found.vectors.iter().enumerate();
        let data: Vec<Value> = numbered
            .map(|(index, vector)| {
                let embedding = write(vector, format);
                json!({ "object": "embedding", "index": index, "embedding": embedding })
            })
            .collect();
        Ok(super::json(&json!({
            "object": "list",
            "data": data,
            "model": model,
            "usage": { "prompt_tokens": found.tokens, "total_tokens": found.tokens },
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
