//! Phi 3 and 3.5, Phi 4: queries, keys and values in one matrix, gate and up in another, LongRoPE.

use serde_json::json;

use super::rules::{Rule, rule};
use super::{Config, Family, Keys, common, rope};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "phi3",
    model_types: &["phi3"],
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
    rule("model.layers.{l}.self_attn.qkv_proj", "blk.{l}.attn_qkv"),
    rule("model.layers.{l}.self_attn.o_proj", "blk.{l}.attn_output"),
    rule(
        "model.layers.{l}.post_attention_layernorm",
        "blk.{l}.ffn_norm",
    ),
    rule("model.layers.{l}.mlp.gate_up_proj", "blk.{l}.ffn_up"),
    rule("model.layers.{l}.mlp.down_proj", "blk.{l}.ffn_down"),
];

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    c.allow_only("hidden_act", &[json!("silu")])?;
    common::decoder(c, keys)?;
    // 0 says that there is none.
    keys.set(
        "attention.sliding_window",
        c.u32("sliding_window")?.unwrap_or(0),
    )?;
    rope::describe(c, keys)
}
