//! Embeddings of a request's texts, whatever its wire format.

use std::sync::Arc;

use crate::error::ApiError;
use crate::models::Model;
use crate::request::Prompt;
use crate::state::{App, Slot};

/// Most texts of a request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

/// A request for embeddings.
pub(crate) struct Embed {
    /// The model's name; may be absent where one model is served.
    pub(crate) model: Option<String>,
    pub(crate) inputs: Vec<Prompt>,
    /// Only so many of the first numbers, made to have length 1 again.
    pub(crate) dimensions: Option<usize>,
    /// Whether a text that is too long is cut, and not refused.
    pub(crate) truncate: bool,
}

/// A request that is sound, and its loaded model.
pub(crate) struct Embedder {
    pub(crate) model: Model,
    inputs: Vec<Prompt>,
    dimensions: Option<usize>,
    truncate: bool,
    _slot: Slot,
}

/// What a request gives.
pub(crate) struct Embeddings {
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub(crate) tokens: usize,
}

impl Embed {
    /// Checks what can be checked before anything is computed, and loads the model.
    ///
    /// # Errors
    /// Names what is wrong.
    pub(crate) async fn ready(self, app: &Arc<App>) -> Result<Embedder, ApiError> {
        let slot = app.admit(1)?;
        let model = app.model(self.model.as_deref()).await?;
        if !model.engine.is_embedder() {
            let message = format!("the model '{}' gives no embeddings", model.name);
            return Err(ApiError::param("model", message));
        }
        if self.inputs.is_empty() || self.inputs.len() > MAX_INPUTS {
            let message = format!("input must have from 1 to {MAX_INPUTS} texts");
            return Err(ApiError::param("input", message));
        }
        let width = model.engine.model().info.width;
        if self.dimensions.is_some_and(|n| n == 0 || n > width) {
            let message = format!("dimensions must be from 1 to {width}, which the model gives");
            return Err(ApiError::param("dimensions", message));
        }
        Ok(Embedder {
            _slot: slot,
            model,
            inputs: self.inputs,
            dimensions: self.dimensions,
            truncate: self.truncate,
        })
    }
}

impl Embedder {
    /// Computes them, in order of the texts; ends early once `is_gone` says that nobody wants them.
    ///
    /// # Errors
    /// If a text is too long, or the model fails.
    pub(crate) fn run(self, is_gone: &dyn Fn() -> bool) -> Result<Embeddings, ApiError> {
        let engine = &self.model.engine;
        let limits = engine.limits();
        let longest = limits.sequence().min(limits.batch_tokens);
        let mut all = Embeddings {
            vectors: Vec::with_capacity(self.inputs.len()),
            tokens: 0,
        };
        for input in self.inputs {
            if is_gone() {
                break;
            }
            let tokenizer = engine.tokenizer();
            let mut tokens = match input {
                Prompt::Text(text) if self.truncate => tokenizer.encode(&text, true, false),
                Prompt::Text(text) => tokenizer
                    .encode_within(&text, true, false, longest)
                    .map_err(|tokens| ApiError::too_long(tokens, longest))?,
                Prompt::Tokens(tokens) => tokens,
            };
            if tokens.len() > longest {
                if !self.truncate {
                    return Err(ApiError::too_long(tokens.len(), longest));
                }
                tokens = cut(tokens, longest);
            }
            all.tokens += tokens.len();
            let mut vector = engine.until(is_gone).embed_tokens(tokens)?;
            if let Some(dimensions) = self.dimensions {
                vector.truncate(dimensions);
                normalize(&mut vector);
            }
            all.vectors.push(vector);
        }
        Ok(all)
    }
}

/// The first tokens of a text, and its last, which closes it.
fn cut(mut tokens: Vec<u32>, longest: usize) -> Vec<u32> {
    let last = tokens.last().copied();
    tokens.truncate(longest.saturating_sub(1));
    tokens.extend(last);
    tokens
}

/// Scales `x` to length 1.
fn normalize(x: &mut [f32]) {
    let length = x.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        x.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_keeps_its_end() {
        assert_eq!(cut(vec![1, 5, 6, 7, 2], 3), [1, 5, 2]);
        let mut x = [3.0, 4.0];
        normalize(&mut x);
        assert_eq!(x, [0.6, 0.8]);
    }
}
