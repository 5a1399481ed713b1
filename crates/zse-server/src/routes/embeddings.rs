//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::embed::Embed;
use crate::error::ApiError;
use crate::job;
use crate::request::{Fields, Prompts};
use crate::state::App;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EmbeddingRequest)]
struct Body {
    model: Option<String>,
    #[serde(rename = "input")]
    #[schema(value_type = Prompts)]
    _input: Option<Value>,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

/// How the numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// As a list.
    #[default]
    Float,
    /// As the base64 of little-endian f32.
    Base64,
}

#[derive(Serialize, ToSchema)]
struct EmbeddingList {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(Serialize, ToSchema)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Embeddings of length 1
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "OpenAI",
    request_body = Body,
    responses((status = 200, body = EmbeddingList)),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let inputs = Prompts::take(&mut fields, "input")?.0;
    let body: Body = fields.take()?;
    fields.finish(&[])?;
    let embed = Embed {
        model: body.model,
        inputs,
        dimensions: body.dimensions,
        truncate: false,
    };
    let embedder = embed.ready(&app).await?;
    let format = body.encoding_format.unwrap_or_default();
    job::blocking(move |is_gone| {
        let model = embedder.model.name.clone();
        let found = embedder.run(is_gone)?;
        let numbered = found.vectors.into_iter().enumerate();
        let data = numbered.map(|(index, vector)| Embedding {
            object: "embedding",
            index,
            embedding: write(vector, format),
        });
        Ok(super::json(&EmbeddingList {
            object: "list",
            data: data.collect(),
            model,
            usage: EmbeddingUsage {
                prompt_tokens: found.tokens,
                total_tokens: found.tokens,
            },
        }))
    })
    .await
}

fn write(embedding: Vec<f32>, format: Encoding) -> Vector {
    match format {
        Encoding::Float => Vector::Float(embedding),
        Encoding::Base64 => {
            let bytes: Vec<u8> = embedding.iter().flat_map(|x| x.to_le_bytes()).collect();
            Vector::Base64(BASE64_STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_of_little_endian_floats() {
        let vector = vec![1.0, -2.0];
        let text = Vector::Base64("AACAPwAAAMA=".to_owned());
        assert_eq!(write(vector.clone(), Encoding::Base64), text);
        assert_eq!(
            write(vector.clone(), Encoding::Float),
            Vector::Float(vector)
        );
    }
}
