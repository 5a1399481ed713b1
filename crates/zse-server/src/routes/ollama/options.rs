//! `options`: how tokens are drawn, with Ollama's names and defaults.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::openapi::All;
use crate::request::{Fields, Unsupported, if_false};
use crate::sampling::Sampling;

/// What has another name than elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaOptions)]
pub(super) struct Options {
    num_predict: Option<i64>,
    num_ctx: Option<usize>,
}

/// All of them.
pub(super) type Schema = All<(Options, Sampling)>;

/// What `options` ask for.
pub(super) struct Drawing {
    pub(super) sampling: Sampling,
    pub(super) max_tokens: Option<usize>,
    /// Tokens that the context must have.
    pub(super) context: Option<usize>,
}

const START: &str = "it is set when the server starts";

/// What is chosen when the server starts, and what nothing here has.
const UNSUPPORTED: [Unsupported; 17] = [
    never("num_batch", START),
    never("num_gpu", START),
    never("main_gpu", START),
    never("num_thread", START),
    never("use_mmap", START),
    off("numa", START),
    off("low_vram", START),
    off("use_mlock", START),
    off("vocab_only", START),
    off("embedding_only", START),
    off("logits_all", START),
    never("f16_kv", START),
    never("num_keep", "a text is never cut here"),
    never("penalize_newline", "penalties treat all tokens alike"),
    Unsupported {
        name: "tfs_z",
        why: "Ollama gave it up, too",
        is_default: |value| value.as_f64() == Some(1.0),
    },
    never("n", "there is one answer"),
    never("draft_num_predict", "there is no draft model"),
];

const fn never(name: &'static str, why: &'static str) -> Unsupported {
    Unsupported {
        name,
        why,
        is_default: crate::request::never,
    }
}

const fn off(name: &'static str, why: &'static str) -> Unsupported {
    Unsupported {
        name,
        why,
        is_default: if_false,
    }
}

/// Reads `options`, whose absence asks for Ollama's defaults.
///
/// # Errors
/// Names the option that is wrong.
pub(super) fn read(
    request: &Fields,
    options: Option<Map<String, Value>>,
) -> Result<Drawing, ApiError> {
    let mut options = options.unwrap_or_default();
    options.retain(|_, value| !value.is_null());
    let repeat = ["repeat_penalty", "repetition_penalty"];
    let defaults = json!({ "temperature": 0.8, "top_k": 40, "top_p": 0.9, "repeat_last_n": 64 });
    for (name, value) in defaults.as_object().into_iter().flatten() {
        options.entry(name.clone()).or_insert(value.clone());
    }
    if !repeat.iter().any(|name| options.contains_key(*name)) {
        options.insert(repeat[0].to_owned(), json!(1.1));
    }
    let n = options.remove("n");
    let mut fields = request.nested(options);
    let own: Options = fields.take()?;
    let sampling = fields.sampling()?;
    fields.finish(&UNSUPPORTED)?;
    if n.is_some_and(|n| n != 1) {
        return Err(ApiError::unsupported("n", "there is one answer"));
    }
    let max_tokens = match own.num_predict {
        // As many as there is room for.
        None | Some(-2 | -1) => None,
        Some(n) => Some(usize::try_from(n).map_err(|_| {
            let message = format!("num_predict is {n}, must be at least 0, or -1 for no limit");
            ApiError::param("num_predict", message)
        })?),
    };
    Ok(Drawing {
        sampling,
        max_tokens,
        context: own.num_ctx,
    })
}

/// Refuses to promise a longer context than the model was loaded with.
///
/// # Errors
/// Says both numbers.
pub(super) fn check_context(wanted: usize, limit: usize) -> Result<(), ApiError> {
    match wanted > limit {
        true => Err(ApiError::param(
            "num_ctx",
            format!("num_ctx is {wanted}, but the model was loaded with {limit} (see --ctx)"),
        )),
        false => Ok(()),
    }
}
