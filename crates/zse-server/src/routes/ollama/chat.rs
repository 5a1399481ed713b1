//! `POST /api/chat`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::no_images;
use super::request::{Common, Question};
use crate::chat::messages;
use crate::error::ApiError;
use crate::request::Fields;
use crate::state::App;

#[derive(Debug, Deserialize)]
struct Body {
    #[serde(default)]
    messages: Vec<Value>,
    #[serde(default)]
    tools: Vec<Value>,
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    let mut common: Common = fields.take()?;
    let drawing = common.drawing(&fields)?;
    fields.finish(&[])?;
    let renamed = body.messages.into_iter().enumerate();
    let renamed: Vec<Value> = renamed
        .map(|(i, m)| as_openais(i, m))
        .collect::<Result<_, _>>()?;
    let question = Question {
        is_chat: true,
        messages: match renamed.is_empty() {
            true => Vec::new(),
            false => messages::read(renamed)?,
        },
        tools: body.tools,
        ..Question::default()
    };
    common.answer(&app, drawing, question).await
}

/// A message with the field names of OpenAI's API.
fn as_openais(i: usize, mut message: Value) -> Result<Value, ApiError> {
    if let Some(fields) = message.as_object_mut() {
        no_images(
            fields.remove("images").as_ref(),
            &format!("messages[{i}].images"),
        )?;
        for (from, to) in [("thinking", "reasoning_content"), ("tool_name", "name")] {
            if let Some(value) = fields.remove(from).filter(|value| value != "") {
                fields.insert(to.to_owned(), value);
            }
        }
    }
    Ok(message)
}
