//! Gemma 3, alone or as the text model of one that sees: five local layers to a global one, each
//! kind with a rotary embedding of its own.

use serde_json::json;

use super::rules::{Change, Rule, rule};
use super::{Config, Family, Keys, common, rope};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    describe,
    rules: RULES,
    // What configurations of models that see leave out.
    defaults: r#"{
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rms_norm_eps": 1e-6,
        "vocab_size": 262208, "max_position_embeddings": 131072, "rope_theta": 1000000.0,
        "sliding_window": 4096, "query_pre_attn_scalar": 256,
        "hidden_activation": "gelu_pytorch_tanh"
    }"#,
    renames: &[
        ("language_model.model.", "model."),
        ("model.language_model.", "model."),
        ("language_model.lm_head.", "lm_head."),
    ],
    // The same numbers as the embeddings', and what sees.
    unused: &[
        "lm_head.",
        "vision_tower.",
        "model.vision_tower.",
        "multi_modal_projector.",
        "model.multi_modal_projector.",
    ],
};

/// Layers of the model whose scores are divided by another number than the head's length.
const LAYERS_27B: usize = 62;

const RULES: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    rule("model.norm", "output_norm").with(Change::PlusOne),
    rule("model.layers.{l}.input_layernorm", "blk.{l}.attn_norm").with(Change::PlusOne),
    rule("model.layers.{l}.self_attn.q_proj", "blk.{l}.attn_q"),
    rule("model.layers.{l}.self_attn.k_proj", "blk.{l}.attn_k"),
    rule("model.layers.{l}.self_attn.v_proj", "blk.{l}.attn_v"),
    rule("model.layers.{l}.self_attn.o_proj", "blk.{l}.attn_output"),
    rule("model.layers.{l}.self_attn.q_norm", "blk.{l}.attn_q_norm").with(Change::PlusOne),
    rule("model.layers.{l}.self_attn.k_norm", "blk.{l}.attn_k_norm").with(Change::PlusOne),
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
    common::sliding_layers(c, keys, 6)?;
    c.allow_only("use_bidirectional_attention", &[json!(false)])?;
    c.allow_only("attn_logit_softcapping", &[])?;
    if let Some(cap) = c.f64("final_logit_softcapping")? {
        keys.set("final_logit_softcapping", cap as f32)?;
    }
    rope::describe_local(c, keys)?;
    rope::describe(c, keys)
}
