//! RoBERTa and XLM-RoBERTa: BERT with positions that begin behind that of padding.

use serde_json::json;

use super::bert;
use super::rules::{Rule, rule};
use super::{Config, Family, Keys};
use crate::FormatError;

pub(super) const FAMILY: Family = Family {
    architecture: "bert",
    model_types: &["roberta", "xlm-roberta"],
    describe,
    rules: &RULES,
    defaults: r#"{"pad_token_id": 1, "layer_norm_eps": 1e-12}"#,
    renames: &[("roberta.", "")],
    // The head of the pretraining task, and numbers that only count.
    unused: &["lm_head.", "embeddings.position_ids"],
};

/// Rows of positions that no token of a text has: up to that of padding, 1.
const BEFORE: u32 = 2;

/// Those of BERT, but for the positions and the head.
const RULES: [Rule; bert::RULES.len()] = {
    let mut rules = *bert::RULES;
    rules[bert::POSITIONS] = rules[bert::POSITIONS].behind(BEFORE as u64);
    let [.., dense, output] = &mut rules;
    *dense = rule("classifier.dense", "cls").optional();
    *output = rule("classifier.out_proj", "cls.output").optional();
    rules
};

fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    c.allow_only("pad_token_id", &[json!(1)])?;
    let rows = c.require_u32("max_position_embeddings")?;
    let Some(positions) = rows.checked_sub(BEFORE).filter(|n| *n > 0) else {
        let problem = format!("must be more than {BEFORE}");
        return Err(c.unusable("max_position_embeddings", problem));
    };
    // Every model is trained with a pooler, which no head of these uses.
    keys.leave_out("pooler.");
    bert::describe_with(c, keys, positions)
}
