//! Prompts for what is missing between two texts.

use crate::error::ApiError;
use crate::models::Model;
use crate::request::Prompt;

/// The prompt for what is missing between two texts. What spells a control token in them is text:
/// they are somebody's files.
///
/// # Errors
/// If the model has no tokens for that.
pub(crate) fn prompt(model: &Model, before: &Prompt, after: &str) -> Result<Vec<u32>, ApiError> {
    let tokenizer = model.engine.tokenizer();
    let before = match before {
        Prompt::Text(text) => &tokenizer.encode(text, false, false),
        Prompt::Tokens(tokens) => tokens,
    };
    let after = tokenizer.encode(after, false, false);
    model.engine.gap_tokens(before, &after).ok_or_else(|| {
        let why = format!("the model '{}' has no tokens to fill gaps with", model.name);
        ApiError::unsupported("suffix", &why)
    })
}

/// Whether the model can fill gaps.
///
/// # Errors
/// If it has no tokens for that.
pub(crate) fn check(model: &Model) -> Result<(), ApiError> {
    prompt(model, &Prompt::Tokens(Vec::new()), "").map(drop)
}
