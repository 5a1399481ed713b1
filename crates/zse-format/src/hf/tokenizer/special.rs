//! Tokens with a part to play, and which of them are put around a text.

use serde_json::Value;

use super::flags::Around;
use super::json::TokenizerJson;
use super::piece::SentencePieceModel;
use super::vocab::Tokens;
use super::{Entries, Objects, keys};

/// Names in Hugging Face's files and in GGUF's keys (`seperator` is GGUF's spelling).
const ROLES: &[(&str, &str)] = &[
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("mask", "mask"),
];

/// Writes the ids of special tokens, and whether BOS and EOS are added.
pub(super) fn write(
    tokens: &Tokens<'_>,
    json: Option<&TokenizerJson<'_>>,
    piece: Option<&SentencePieceModel<'_>>,
    objects: &Objects,
    entries: &mut Entries,
) {
    let around = json.map(|json| Around::of(&json.post_processor));
    // BERT's [CLS] and [SEP] are its BOS and EOS.
    let spelled = |role: &str| spelling(objects, role);
    let first = around.as_ref().and_then(|around| around.first);
    let last = around.as_ref().and_then(|around| around.last);
    let bos = spelled("bos").or_else(|| spelled("cls")).or(first);
    let eos = spelled("eos").or_else(|| spelled("sep")).or(last);
    let unk = || json?.model.unk_token.as_deref();

    let mut eos_id = None;
    for &(role, key) in ROLES {
        let spelling = match role {
            "bos" => bos,
            "eos" => eos,
            "unk" => spelled("unk").or_else(unk),
            role => spelled(role),
        };
        let in_model = piece.and_then(|piece| match role {
            "bos" => piece.bos,
            "eos" => piece.eos,
            "unk" => piece.unk,
            "pad" => piece.pad,
            _ => None,
        });
        let in_model = in_model.or_else(|| json?.model.unk_id.filter(|_| role == "unk"));
        let id = spelling
            .and_then(|spelling| tokens.find(spelling))
            .or_else(|| configured(objects, role).first().copied())
            .or(in_model)
            .filter(|&id| (id as usize) < tokens.len());
        let Some(id) = id else { continue };
        if role == "eos" {
            eos_id = Some(id);
        }
        entries.push((format!("tokenizer.ggml.{key}_token_id"), id.into()));
    }

    let mut ends = configured(objects, "eos");
    ends.retain(|&id| Some(id) != eos_id && (id as usize) < tokens.len());
    ends.sort_unstable();
    ends.dedup();
    if !ends.is_empty() {
        entries.push((keys::END_TOKEN_IDS.to_owned(), ends[..].into()));
    }

    for (role, spelling, added) in [("bos", bos, first), ("eos", eos, last)] {
        let flag = objects.tokenizer_config[format!("add_{role}_token")].as_bool();
        let told = around
            .is_some()
            .then(|| added.is_some() && added == spelling);
        if let Some(add) = flag.or(told) {
            entries.push((format!("tokenizer.ggml.add_{role}_token"), add.into()));
        }
    }
    if let Some(between) = around.as_ref().and_then(|around| around.between) {
        let key = "tokenizer.ggml.add_sep_token".to_owned();
        entries.push((key, (between > 1).into()));
    }
}

/// How the files spell the token of a role.
fn spelling<'a>(objects: &'a Objects, role: &str) -> Option<&'a str> {
    let files = [&objects.tokenizer_config, &objects.special_tokens_map];
    files.iter().find_map(|file| {
        let token = &file[format!("{role}_token")];
        token.as_str().or_else(|| token["content"].as_str())
    })
}

/// The ids that the configurations give a role: `generation_config.json` wins over `config.json`.
fn configured(objects: &Objects, role: &str) -> Vec<u32> {
    let key = format!("{role}_token_id");
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let config = &objects.config;
    let files = [&objects.generation_config, config, &config["text_config"]];
    files
        .iter()
        .map(|file| match &file[&*key] {
            Value::Array(ids) => ids.iter().filter_map(id).collect(),
            value => Vec::from_iter(id(value)),
        })
        .find(|ids| !ids.is_empty())
        .unwrap_or_default()
}
