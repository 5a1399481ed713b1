//! BERT as an embedding model, or as a cross-encoder with a head of one number.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::config::MAX_CONFIG;
use super::rules::{Rule, rule};
use super::{Config, Family, Keys};
use crate::FormatError;
use crate::safetensors::index::{parse, read_file};

pub(super) const FAMILY: Family = Family {
    architecture: "bert",
    model_types: &["bert"],
    describe,
    rules: RULES,
    defaults: "{}",
    renames: &[("bert.", "")],
    // The head of the pretraining task, and numbers that only count.
    unused: &["cls.", "embeddings.position_ids"],
};

/// The head comes last.
pub(super) const RULES: &[Rule; 14] = &[
    rule("embeddings.word_embeddings", "token_embd"),
    rule("embeddings.position_embeddings", "position_embd"),
    rule("embeddings.token_type_embeddings", "token_types").optional(),
    rule("embeddings.LayerNorm", "token_embd_norm"),
    rule("encoder.layer.{l}.attention.self.query", "blk.{l}.attn_q"),
    rule("encoder.layer.{l}.attention.self.key", "blk.{l}.attn_k"),
    rule("encoder.layer.{l}.attention.self.value", "blk.{l}.attn_v"),
    rule(
        "encoder.layer.{l}.attention.output.dense",
        "blk.{l}.attn_output",
    ),
    rule(
        "encoder.layer.{l}.attention.output.LayerNorm",
        "blk.{l}.attn_output_norm",
    ),
    rule("encoder.layer.{l}.intermediate.dense", "blk.{l}.ffn_up"),
    rule("encoder.layer.{l}.output.dense", "blk.{l}.ffn_down"),
    rule(
        "encoder.layer.{l}.output.LayerNorm",
        "blk.{l}.layer_output_norm",
    ),
    // The head of a cross-encoder.
    rule("pooler.dense", "cls").optional(),
    rule("classifier", "cls.output").optional(),
];

/// The place of the positions among them.
pub(super) const POSITIONS: usize = 1;

/// `pooling_type` of a head that ranks, as llama.cpp's `llama_pooling_type` numbers it.
const RANK: u32 = 4;

/// What sentence-transformers' `1_Pooling/config.json` calls the others.
const POOLINGS: [(&str, u32); 3] = [
    ("pooling_mode_mean_tokens", 1),
    ("pooling_mode_cls_token", 2),
    ("pooling_mode_lasttoken", 3),
];

/// Those of it that are not implemented.
const OTHER_POOLINGS: [&str; 3] = [
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
];

/// The folder that says what becomes of the rows.
const POOLING: &str = "1_Pooling";

/// A step of a model of sentence-transformers: an entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    /// A class of Python, such as `sentence_transformers.models.Pooling`.
    #[serde(rename = "type")]
    class: String,
    /// Its folder.
    #[serde(default)]
    path: String,
}

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    // Every BERT is trained with a pooler; embeddings do without.
    if !is_head(c)? {
        keys.leave_out("pooler.dense");
    }
    describe_with(c, keys, c.require_u32("max_position_embeddings")?)
}

/// Whether the model has a head that ranks.
fn is_head(c: &Config) -> Result<bool, FormatError> {
    let classes = c.strs("architectures")?.unwrap_or_default();
    let mut classes = classes.iter();
    Ok(classes.any(|class| class.ends_with("ForSequenceClassification")))
}

/// Sets the keys of a model of so many positions.
pub(super) fn describe_with(
    c: &Config,
    keys: &mut Keys,
    positions: u32,
) -> Result<(), FormatError> {
    c.allow_only("hidden_act", &[json!("gelu")])?;
    c.allow_only("position_embedding_type", &[json!("absolute")])?;
    c.allow_only("is_decoder", &[json!(false)])?;
    keys.set("context_length", positions)?;
    for (from, to) in [
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_hidden_layers", "block_count"),
        ("num_attention_heads", "attention.head_count"),
    ] {
        keys.set(to, c.require_u32(from)?)?;
    }
    keys.set(
        "attention.layer_norm_epsilon",
        c.require_f64("layer_norm_eps")? as f32,
    )?;
    keys.set("attention.causal", false)?;
    if let Some(types) = c.u32("type_vocab_size")? {
        keys.set_whole("tokenizer.ggml.token_type_count", types)?;
    }
    if let Some(separator) = c.u32("sep_token_id")? {
        keys.set_whole("tokenizer.ggml.seperator_token_id", separator)?; // sic
    }
    if is_head(c)? {
        return keys.set("pooling_type", RANK);
    }
    match keys.directory().map(pooling).transpose()?.flatten() {
        Some(pooling) => keys.set("pooling_type", pooling),
        None => Ok(()),
    }
}

/// Refuses steps that are not implemented, whether their files are here or not: without them the model
/// would give other vectors. Whether one of the others pools.
fn has_pooling(directory: &Path) -> Result<bool, FormatError> {
    let path = directory.join("modules.json");
    let Some(text) = read_file(&path, MAX_CONFIG)? else {
        return Ok(false);
    };
    let file = path.display().to_string();
    let modules: Vec<Module> = parse(&text, &file)?;
    let mut found = false;
    for Module { class, path } in modules {
        let of_theirs = class.strip_prefix("sentence_transformers.");
        let (field, value, known) = match of_theirs.and_then(|rest| rest.rsplit('.').next()) {
            Some("Transformer" | "Normalize") => continue,
            Some("Pooling") if path == POOLING => {
                found = true;
                continue;
            }
            Some("Pooling") => ("path", path, format!("pooling is read from {POOLING}")),
            _ => {
                let known = "known are sentence-transformers' Transformer, Pooling and Normalize";
                ("type", class, known.to_owned())
            }
        };
        return Err(FormatError::Unusable {
            file,
            field: field.to_owned(),
            problem: format!("is {value:?}, which is not implemented; {known}"),
        });
    }
    Ok(found)
}

/// What becomes of the rows, where the directory says it.
fn pooling(directory: &Path) -> Result<Option<u32>, FormatError> {
    let has_pooling = has_pooling(directory)?;
    if directory.join("2_Dense").is_dir() {
        return Err(FormatError::Unusable {
            file: directory.display().to_string(),
            field: "2_Dense".to_owned(),
            problem: "is a layer after pooling, which is not implemented".to_owned(),
        });
    }
    let path = directory.join(POOLING).join("config.json");
    let c = match Config::open(&path)? {
        Some(c) => c,
        None if has_pooling => {
            return Err(FormatError::Unusable {
                file: path.display().to_string(),
                field: "the file".to_owned(),
                problem: "is missing, though modules.json names it: download it again".to_owned(),
            });
        }
        None => return Ok(None),
    };
    let mut chosen = Vec::new();
    for (key, pooling) in POOLINGS {
        if c.bool(key, false)? {
            chosen.push(pooling);
        }
    }
    for key in OTHER_POOLINGS {
        c.allow_only(key, &[json!(false)])?;
    }
    match chosen[..] {
        [pooling] => Ok(Some(pooling)),
        _ => {
            let known = POOLINGS.map(|(key, _)| key).join(", ");
            let problem = format!("must be one of {known}, but {} are true", chosen.len());
            Err(c.unusable("pooling_mode", problem))
        }
    }
}
