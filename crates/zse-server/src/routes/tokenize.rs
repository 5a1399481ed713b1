//! `POST /tokenize`: the tokens of a text.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::job;
use crate::request::Fields;
use crate::state::App;

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    /// llama.cpp's server says `content`, vLLM's `prompt`.
    #[serde(alias = "prompt")]
    content: String,
    /// BOS and EOS, as the model asks for them.
    #[serde(alias = "add_special_tokens")]
    add_special: Option<bool>,
    /// Whether the spelling of a special token stands for the token.
    parse_special: Option<bool>,
    /// Gives the text of each token too.
    with_pieces: Option<bool>,
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    fields.finish(&[])?;
    let model = app.model(body.model.as_deref()).await?;
    job::blocking(move |_| {
        let tokenizer = model.engine.tokenizer();
        let ids = tokenizer.encode(
            &body.content,
            body.add_special.unwrap_or(false),
            body.parse_special.unwrap_or(true),
        );
        let piece = |&id: &u32| match body.with_pieces {
            Some(true) => {
                let piece = String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned();
                json!({ "id": id, "piece": piece })
            }
            _ => id.into(),
        };
        let tokens: Vec<Value> = ids.iter().map(piece).collect();
        Ok(super::json(&json!({
            "count": tokens.len(),
            "tokens": tokens,
            "max_model_len": model.engine.limits().sequence(),
        })))
    })
    .await
}
