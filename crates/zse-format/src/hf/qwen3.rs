//! Qwen 3: each head of queries and keys is normalised before it is rotated.

use serde_json::json;

use super::rules::{Rule, rule};
use super::{Config, Family, Keys, common, rope};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "qwen3",
    model_types: &["qwen3"],
    describe,
    rules: RULES,
    defaults: "{}",
    renames: &[],
    unused: &[],
};

const RULES: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    rule("model.norm", "output_norm"),
    rule("lm_head", "output").optional(),
    rule("model.layers.{l}.input_layernorm", "blk.{l}.attn_norm"),
    rule("model.layers.{l}.self_attn.q_proj", "blk.{l}.attn_q"),
    rule("model.layers.{l}.self_attn.k_proj", "blk.{l}.attn_k"),
    rule("model.layers.{l}.self_attn.v_proj", "blk.{l}.attn_v"),
    rule("model.layers.{l}.self_attn.o_proj", "blk.{l}.attn_output"),
    rule("model.layers.{l}.self_attn.q_norm", "blk.{l}.attn_q_norm"),
    rule("model.layers.{l}.self_attn.k_norm", "blk.{l}.attn_k_norm"),
    rule(
        "model.layers.{l}.post_attention_layernorm",
        "blk.{l}.ffn_norm",
    ),
    rule("model.layers.{l}.mlp.gate_proj", "blk.{l}.ffn_gate"),
    rule("model.layers.{l}.mlp.up_proj", "blk.{l}.ffn_up"),
    rule("model.layers.{l}.mlp.down_proj", "blk.{l}.ffn_down"),
];

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    c.allow_only("hidden_act", &[json!("silu")])?;
    c.allow_only("use_sliding_window", &[json!(false)])?;
    common::decoder(c, keys)?;
    rope::describe(c, keys)
}
