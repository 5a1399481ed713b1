//! `POST /tokenize`: the tokens of a text.

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
#[schema(as = TokenizeRequest)]
struct Body {
    model: Option<String>,
    /// The text; also as `prompt`.
    // llama.cpp's server says `content`, vLLM's `prompt`.
    #[serde(alias = "prompt")]
    content: String,
    /// BOS and EOS, as the model asks for them (false); also as `add_special_tokens`.
    #[serde(alias = "add_special_tokens")]
    add_special: Option<bool>,
    /// Whether the spelling of a special token stands for the token (true).
    parse_special: Option<bool>,
    /// Gives the text of each token too (false).
    with_pieces: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct Tokens {
    count: usize,
    tokens: Vec<Token>,
    /// The longest sequence in tokens.
    max_model_len: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Token {
    Id(u32),
    WithPiece { id: u32, piece: String },
}

/// The tokens of a text
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "Text",
    request_body = Body,
    responses((status = 200, body = Tokens)),
)]
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
                Token::WithPiece { id, piece }
            }
            _ => Token::Id(id),
        };
        Ok(super::json(&Tokens {
            count: ids.len(),
            tokens: ids.iter().map(piece).collect(),
            max_model_len: model.engine.limits().sequence(),
        }))
    })
    .await
}
