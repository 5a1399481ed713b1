//! What decoders have in common in `config.json`.

use super::{Config, Keys};
use crate::FormatError;

/// Key in `config.json`, key in GGUF without the architecture's name.
const SIZES: [(&str, &str); 6] = [
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("vocab_size", "vocab_size"),
];

/// Sizes, heads and the epsilon of the norms.
pub(super) fn decoder(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    for (from, to) in SIZES {
        keys.set(to, c.require_u32(from)?)?;
    }
    if let Some(heads) = c.u32("num_key_value_heads")? {
        keys.set("attention.head_count_kv", heads)?;
    }
    if let Some(dim) = c.u32("head_dim")? {
        keys.set("attention.key_length", dim)?;
        keys.set("attention.value_length", dim)?;
    }
    match c.f64("norm_epsilon")? {
        Some(eps) => keys.set("attention.layer_norm_epsilon", eps as f32),
        None => {
            let eps = c.require_f64("rms_norm_eps")?;
            keys.set("attention.layer_norm_rms_epsilon", eps as f32)
        }
    }
}

// Far above any model: what is counted by them stays small.
const MAX_LAYERS: u32 = 1 << 10;
const MAX_EXPERTS: u32 = 1 << 12;

/// Number of layers.
pub(super) fn layers(c: &Config) -> Result<usize, FormatError> {
    let key = "num_hidden_layers";
    match c.require_u32(key)? {
        n if n <= MAX_LAYERS => Ok(n as usize),
        _ => Err(c.unusable(key, format!("must be at most {MAX_LAYERS}"))),
    }
}

/// Length of a head.
pub(super) fn head_dim(c: &Config) -> Result<u32, FormatError> {
    match c.u32("head_dim")? {
        Some(dim) => Ok(dim),
        None => {
            let (width, heads) = (c.require_u32("hidden_size")?, heads(c)?);
            Ok(width / heads)
        }
    }
}

/// Query heads, at least one.
pub(super) fn heads(c: &Config) -> Result<u32, FormatError> {
    match c.require_u32("num_attention_heads")? {
        0 => Err(c.unusable("num_attention_heads", "must be at least 1".to_owned())),
        heads => Ok(heads),
    }
}

/// Key and value heads, at least one.
pub(super) fn kv_heads(c: &Config) -> Result<u32, FormatError> {
    match c.u32("num_key_value_heads")? {
        None => heads(c),
        Some(0) => Err(c.unusable("num_key_value_heads", "must be at least 1".to_owned())),
        Some(heads) => Ok(heads),
    }
}

/// Experts of a layer; 0 where the model is no mixture.
pub(super) fn experts(c: &Config) -> Result<u32, FormatError> {
    let key = match c.get("num_local_experts") {
        Some(_) => "num_local_experts",
        None => "num_experts",
    };
    match c.u32(key)?.unwrap_or(0) {
        n if n <= MAX_EXPERTS => Ok(n),
        _ => Err(c.unusable(key, format!("must be at most {MAX_EXPERTS}"))),
    }
}

/// The numbers of experts, if there are any.
pub(super) fn mixture(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    let experts = experts(c)?;
    if experts > 0 {
        keys.set("expert_count", experts)?;
        keys.set("expert_used_count", c.require_u32("num_experts_per_tok")?)?;
    }
    Ok(())
}

/// The window of all layers, if there is one.
pub(super) fn window(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    match c.u32("sliding_window")? {
        Some(window) => keys.set("attention.sliding_window", window),
        None => Ok(()),
    }
}

/// The window, and the layers that have one where these are not all but every `period`-th.
pub(super) fn sliding_layers(
    c: &Config,
    keys: &mut Keys,
    period: usize,
) -> Result<(), FormatError> {
    keys.set("attention.sliding_window", c.require_u32("sliding_window")?)?;
    let layers = layers(c)?;
    let usual = (1..=layers).map(|n| n % period != 0);
    let slide: Vec<bool> = match c.strs("layer_types")? {
        Some(types) => {
            let known = ["full_attention", "sliding_attention"];
            if types.len() != layers || types.iter().any(|t| !known.contains(t)) {
                let what = format!(
                    "must name one of {} for each of {layers} layers",
                    known.join(", ")
                );
                return Err(c.unusable("layer_types", what));
            }
            types.iter().map(|&t| t == "sliding_attention").collect()
        }
        None => match c.u32("sliding_window_pattern")? {
            None => return Ok(()),
            Some(0) => return Err(c.not_implemented("sliding_window_pattern", "a period is")),
            Some(period) => (1..=layers).map(|n| n % period as usize != 0).collect(),
        },
    };
    if usual.eq(slide.iter().copied()) {
        return Ok(());
    }
    keys.set("attention.sliding_window_pattern", slide.as_slice())
}

/// Checks that scores are divided by the root of what Gemma's models of this size use: GGUF has no
/// key for it.
pub(super) fn gemma_scale(c: &Config, layers_27b: usize) -> Result<(), FormatError> {
    let dim = match layers(c)? == layers_27b {
        true => c.require_u32("hidden_size")? / heads(c)?,
        false => head_dim(c)?,
    };
    match c.f64("query_pre_attn_scalar")? {
        Some(scalar) if scalar != f64::from(dim) => {
            let what = format!("{dim} is for a model of this size");
            Err(c.not_implemented("query_pre_attn_scalar", &what))
        }
        _ => Ok(()),
    }
}
