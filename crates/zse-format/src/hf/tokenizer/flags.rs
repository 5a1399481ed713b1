//! What a `tokenizer.json` puts around a text, and which special tokens swallow spaces.

use serde_json::Value;

use super::json::TokenizerJson;
use super::vocab::Tokens;
use super::{Entries, keys};

/// The special tokens that the post-processor puts around a text, by their spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Around<'a> {
    pub(super) first: Option<&'a str>,
    pub(super) last: Option<&'a str>,
    /// How many it puts between two texts, where it says so.
    pub(super) between: Option<usize>,
}

impl<'a> Around<'a> {
    pub(super) fn of(post_processor: &'a Value) -> Self {
        let members = post_processor["processors"].as_array();
        let alone = std::slice::from_ref(post_processor);
        let mut around = Self::default();
        for processor in members.map_or(alone, Vec::as_slice) {
            match processor["type"].as_str() {
                Some(kind @ ("RobertaProcessing" | "BertProcessing")) => {
                    around.between = Some(if kind == "BertProcessing" { 1 } else { 2 });
                    around.first = processor["cls"][0].as_str();
                    around.last = processor["sep"][0].as_str();
                }
                Some("TemplateProcessing") => {
                    let single = processor["single"]
                        .as_array()
                        .map_or(&[][..], Vec::as_slice);
                    let special = |piece: Option<&'a Value>| piece?["SpecialToken"]["id"].as_str();
                    if single.len() > 1 {
                        around.first = special(single.first());
                        around.last = special(single.last());
                    }
                    around.between = between(&processor["pair"]);
                }
                _ => {}
            }
        }
        around
    }
}

/// How many special tokens stand between the texts of a template.
fn between(pair: &Value) -> Option<usize> {
    let pieces = pair.as_array()?;
    let mut texts = (0..).zip(pieces).filter(|(_, p)| !p["Sequence"].is_null());
    let (first, second) = (texts.next()?.0, texts.next()?.0);
    Some(second - first - 1)
}

/// Writes which special tokens swallow the spaces beside them, also if none does: a reader then has
/// nothing to guess by the model's name.
pub(super) fn write_strips(json: &TokenizerJson<'_>, tokens: &Tokens<'_>, entries: &mut Entries) {
    let mut write = |key: &str, strips: fn(&super::json::AddedToken<'_>) -> bool| {
        let added = json.added_tokens.iter();
        let ids = added.filter(|token| strips(token)).map(|token| token.id);
        let ids: Vec<u32> = ids.filter(|&id| (id as usize) < tokens.len()).collect();
        entries.push((key.to_owned(), ids[..].into()));
    };
    write(keys::LSTRIP_TOKEN_IDS, |token| token.lstrip);
    write(keys::RSTRIP_TOKEN_IDS, |token| token.rstrip);
}
