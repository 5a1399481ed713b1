//! Prompts for what is missing between two texts.

use crate::chat::fits;
use crate::error::ApiError;
use crate::models::Model;
use crate::request::Prompt;

/// The prompt for what is missing between two texts. What spells a control token in them is text:
/// they are somebody's files.
///
/// # Errors
/// If the model has no tokens for that, or there are too many.
pub(crate) fn prompt(model: &Model, before: &Prompt, after: &str) -> Result<Vec<u32>, ApiError> {
    let limit = model.engine.limits().sequence();
    let tokens = |text: &str| {
        let tokens = model.engine.tokenizer();
        let tokens = tokens.encode_within(text, false, false, limit);
        tokens.map_err(|tokens| ApiError::too_long(tokens, limit))
    };
    let before = match before {
        Prompt::Text(text) => &tokens(text)?,
        Prompt::Tokens(tokens) => tokens,
    };
    let prompt = model.engine.gap_tokens(before, &tokens(after)?);
    let prompt = prompt.ok_or_else(|| {
        let why = format!("the model '{}' has no tokens to fill gaps with", model.name);
        ApiError::unsupported("suffix", &why)
    })?;
    fits(model, prompt.len())?;
    Ok(prompt)
}

/// Whether the model can fill gaps.
///
/// # Errors
/// If it has no tokens for that.
pub(crate) fn check(model: &Model) -> Result<(), ApiError> {
    prompt(model, &Prompt::Tokens(Vec::new()), "").map(drop)
}
