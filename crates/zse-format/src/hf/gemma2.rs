//! Gemma 2: norms before and after each block, windows in every other layer, soft caps.

use serde_json::json;

use super::rules::{Change, Rule, rule};
use super::{Config, Family, Keys, common, rope};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "gemma2",
    model_types: &["gemma2"],
    describe,
    rules: RULES,
    defaults: "{}",
    renames: &[],
    // The same numbers as the embeddings'.
    unused: &["lm_head."],
};

/// Layers of the model whose scores are divided by another number than the head's length.
const LAYERS_27B: usize = 46;

const RULES: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    rule("model.norm", "output_norm").with(Change::PlusOne),
    rule("model.layers.{l}.input_layernorm", "blk.{l}.attn_norm").with(Change::PlusOne),
    rule("model.layers.{l}.self_attn.q_proj", "blk.{l}.attn_q"),
    rule("model.layers.{l}.self_attn.k_proj", "blk.{l}.attn_k"),
    rule("model.layers.{l}.self_attn.v_proj", "blk.{l}.attn_v"),
    rule("model.layers.{l}.self_attn.o_proj", "blk.{l}.attn_output"),
    rule(
        "model.layers.{l}.post_attention_layernorm",
        "blk.{l}.post_attention_norm",
    )
    .with(Change::PlusOne),
    rule(
        "model.layers.{l}.pre_feedforward_layernorm",
        "blk.{l}.ffn_norm",
    )
    .with(Change::PlusOne),
    rule("model.layers.{l}.mlp.gate_proj", "blk.{l}.ffn_gate"),
    rule("model.layers.{l}.mlp.up_proj", "blk.{l}.ffn_up"),
    rule("model.layers.{l}.mlp.down_proj", "blk.{l}.ffn_down"),
    rule(
        "model.layers.{l}.post_feedforward_layernorm",
        "blk.{l}.post_ffw_norm",
    )
    .with(Change::PlusOne),
];

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    c.allow_only("hidden_activation", &[json!("gelu_pytorch_tanh")])?;
    common::decoder(c, keys)?;
    common::gemma_scale(c, LAYERS_27B)?;
    common::sliding_layers(c, keys, 2)?;
    for cap in ["attn_logit_softcapping", "final_logit_softcapping"] {
        // 0 says that there is none.
        keys.set(cap, c.f64(cap)?.unwrap_or(0.0) as f32)?;
    }
    rope::describe(c, keys)
}
