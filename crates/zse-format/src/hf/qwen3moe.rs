//! Qwen 3 with a mixture of experts.

use serde_json::json;

use super::rules::{Rule, rule};
use super::{Config, Family, Keys, common, rope};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "qwen3moe",
    model_types: &["qwen3_moe"],
    describe,
    rules: RULES,
    defaults: r#"{"norm_topk_prob": false}"#,
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
    rule("model.layers.{l}.mlp.gate", "blk.{l}.ffn_gate_inp"),
    rule(
        "model.layers.{l}.mlp.experts.{e}.gate_proj",
        "blk.{l}.ffn_gate_exps",
    )
    .stacked("model.layers.{l}.mlp.switch_mlp.gate_proj"),
    rule(
        "model.layers.{l}.mlp.experts.{e}.up_proj",
        "blk.{l}.ffn_up_exps",
    )
    .stacked("model.layers.{l}.mlp.switch_mlp.up_proj"),
    rule(
        "model.layers.{l}.mlp.experts.{e}.down_proj",
        "blk.{l}.ffn_down_exps",
    )
    .stacked("model.layers.{l}.mlp.switch_mlp.down_proj"),
];

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    c.allow_only("hidden_act", &[json!("silu")])?;
    c.allow_only("use_sliding_window", &[json!(false)])?;
    // All layers are mixtures, whose weights add up to one.
    c.allow_only("norm_topk_prob", &[json!(true)])?;
    c.allow_only("decoder_sparse_step", &[json!(1)])?;
    c.allow_only("mlp_only_layers", &[json!([])])?;
    common::decoder(c, keys)?;
    common::mixture(c, keys)?;
    keys.set(
        "expert_feed_forward_length",
        c.require_u32("moe_intermediate_size")?,
    )?;
    rope::describe(c, keys)
}
