//! `POST /detokenize`: the text of tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::job;
use crate::request::Fields;
use crate::state::App;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DetokenizeRequest)]
struct Body {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// The same text under two names.
// llama.cpp's server says `content`, vLLM's `prompt`.
#[derive(Serialize, ToSchema)]
struct Text {
    content: String,
    prompt: String,
}

/// The text of tokens
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "Text",
    request_body = Body,
    responses((status = 200, body = Text)),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    fields.finish(&[])?;
    let model = app.model(body.model.as_deref()).await?;
    let vocab = model.engine.tokenizer().vocab_size();
    if let Some(id) = body.tokens.iter().find(|&&id| id as usize >= vocab) {
        let message = format!("token {id} does not exist, the vocabulary has {vocab}");
        return Err(ApiError::param("tokens", message));
    }
    job::blocking(move |_| {
        let text = model.engine.tokenizer().decode(&body.tokens, false);
        Ok(super::json(&Text {
            content: text.clone(),
            prompt: text,
        }))
    })
    .await
}
