//! Llama, and what has its structure under other names: Mistral, and Mixtral's mixture of experts.

use serde_json::json;

use super::rules::{Change, Rule, rule};
use super::{Config, Family, Keys, common, rope};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "llama",
    model_types: &["llama", "mistral", "mixtral"],
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
    rule("model.layers.{l}.self_attn.q_proj", "blk.{l}.attn_q").with(Change::RotatedQueries),
    rule("model.layers.{l}.self_attn.k_proj", "blk.{l}.attn_k").with(Change::RotatedKeys),
    rule("model.layers.{l}.self_attn.v_proj", "blk.{l}.attn_v"),
    rule("model.layers.{l}.self_attn.o_proj", "blk.{l}.attn_output"),
    rule(
        "model.layers.{l}.post_attention_layernorm",
        "blk.{l}.ffn_norm",
    ),
    rule("model.layers.{l}.mlp.gate_proj", "blk.{l}.ffn_gate").optional(),
    rule("model.layers.{l}.mlp.up_proj", "blk.{l}.ffn_up").optional(),
    rule("model.layers.{l}.mlp.down_proj", "blk.{l}.ffn_down").optional(),
    rule(
        "model.layers.{l}.block_sparse_moe.gate",
        "blk.{l}.ffn_gate_inp",
    )
    .optional(),
    rule(
        "model.layers.{l}.block_sparse_moe.experts.{e}.w1",
        "blk.{l}.ffn_gate_exps",
    )
    .stacked("model.layers.{l}.block_sparse_moe.switch_mlp.gate_proj")
    .optional(),
    rule(
        "model.layers.{l}.block_sparse_moe.experts.{e}.w3",
        "blk.{l}.ffn_up_exps",
    )
    .stacked("model.layers.{l}.block_sparse_moe.switch_mlp.up_proj")
    .optional(),
    rule(
        "model.layers.{l}.block_sparse_moe.experts.{e}.w2",
        "blk.{l}.ffn_down_exps",
    )
    .stacked("model.layers.{l}.block_sparse_moe.switch_mlp.down_proj")
    .optional(),
];

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    c.allow_only("hidden_act", &[json!("silu")])?;
    common::decoder(c, keys)?;
    common::mixture(c, keys)?;
    common::window(c, keys)?;
    // Rows are put in another order, which has no place for what is not rotated.
    rope::expect_whole_heads(c)?;
    rope::describe(c, keys)
}
