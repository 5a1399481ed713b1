//! `POST /detokenize`: the text of tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::error::ApiError;
use crate::job;
use crate::request::Fields;
use crate::state::App;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    tokens: Vec<u32>,
}

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
        // llama.cpp's server says `content`, vLLM's `prompt`.
        Ok(super::json(&json!({ "content": text, "prompt": text })))
    })
    .await
}
