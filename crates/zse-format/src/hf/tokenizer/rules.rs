//! What a `tokenizer.json` does to text before its model sees it, recognised among the rules that
//! zse-text implements.

use serde_json::Value;

use super::json::TokenizerJson;
use super::unigram::{Unigram, unigram};
use super::{Entries, TokenizerFiles, error, keys};
use crate::FormatError;
use crate::pre_tokenizer::{FAMILIES, GPT2};

/// How SentencePiece spells a space.
pub(super) const SPACE: &str = "\u{2581}";

/// Where a text is treated as if a space stood before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// At the start of the text.
    First,
    /// At the start of the text and behind special tokens.
    Always,
}

impl Prefix {
    /// What a step `Metaspace` says.
    pub(super) fn of_metaspace(step: &Value) -> Result<Self, String> {
        // Older files have a flag in the scheme's place.
        let legacy = step["add_prefix_space"].as_bool().unwrap_or(true);
        Ok(match step["prepend_scheme"].as_str() {
            Some("never") => Self::Never,
            Some("first") => Self::First,
            Some("always") => Self::Always,
            None if legacy => Self::Always,
            None => Self::Never,
            Some(_) => return Err(format!("has the pre-tokenizer {step}")),
        })
    }
}

/// The kind of a tokenizer with its rules.
#[derive(Debug)]
pub(super) enum Rules {
    /// BPE over GPT-2's byte alphabet.
    ByteLevel {
        /// The family's name in `tokenizer.ggml.pre`.
        pre: &'static str,
        ignore_merges: bool,
        nfc: bool,
    },
    /// BPE over characters, with U+2581 for spaces.
    SentencePiece {
        prefix: Prefix,
        /// No space is put before a text that begins with one.
        unless_spaced: bool,
    },
    /// Unigram over characters, with U+2581 for spaces.
    Unigram(Unigram),
    /// BERT's.
    WordPiece {
        lowercase: bool,
        strip_accents: bool,
    },
}

/// Published patterns that mean what a family's stages do, but are spelled otherwise.
const ALIASES: &[(&[&str], &str)] = &[
    (&[" ?[^(\\s|[.,!?…。，、।۔،])]+"], "bloom"),
    (&[" ?[^(\\s|[.,!?…。，、।۔،])]+", r"\p{N}"], "viking"),
    (
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        "exaone-moe",
    ),
];

impl Rules {
    /// # Errors
    /// [`FormatError::Unusable`] for rules that are not implemented, which it prints.
    pub(super) fn recognize(
        files: &TokenizerFiles<'_>,
        json: &TokenizerJson<'_>,
    ) -> Result<Self, FormatError> {
        let normalizer = Steps::of("normalizers", &json.normalizer);
        let pre_tokenizer = Steps::of("pretokenizers", &json.pre_tokenizer);
        let outcome = match json.kind() {
            "BPE" if pre_tokenizer.has("ByteLevel") => {
                byte_level(json, &normalizer, &pre_tokenizer)
            }
            "BPE" => sentence_piece(json, &normalizer, &pre_tokenizer),
            "WordPiece" => word_piece(json, &normalizer, &pre_tokenizer),
            "Unigram" => unigram(&normalizer, &pre_tokenizer).map(Self::Unigram),
            kind => Err(format!(
                "has a model of type {kind:?}; BPE, Unigram and WordPiece are supported"
            )),
        };
        outcome.map_err(|problem| error(files, "tokenizer.json", &problem, ""))
    }

    /// Writes the kind, and the flags that only `tokenizer.json` has.
    pub(super) fn write(&self, entries: &mut Entries) {
        let mut set = |key: &str, value: crate::EncodedValue| entries.push((key.to_owned(), value));
        let (model, pre) = match self {
            Self::ByteLevel { pre, .. } => ("gpt2", *pre),
            Self::SentencePiece { .. } => ("llama", "default"),
            Self::Unigram(_) => ("t5", "default"),
            Self::WordPiece { .. } => ("bert", "default"),
        };
        set("tokenizer.ggml.model", model.into());
        set("tokenizer.ggml.pre", pre.into());
        match *self {
            Self::Unigram(ref unigram) => unigram.write(entries),
            Self::ByteLevel {
                ignore_merges, nfc, ..
            } => {
                set(keys::IGNORE_MERGES, ignore_merges.into());
                set(keys::NFC, nfc.into());
            }
            Self::SentencePiece { .. } => {}
            Self::WordPiece {
                lowercase,
                strip_accents,
            } => {
                set("tokenizer.ggml.normalizer.lowercase", lowercase.into());
                set(
                    "tokenizer.ggml.normalizer.strip_accents",
                    strip_accents.into(),
                );
            }
        }
    }

    /// Writes where a space is put before a text.
    pub(super) fn write_prefix(&self, entries: &mut Entries) {
        let (prefix, unless_spaced) = match *self {
            Self::SentencePiece {
                prefix,
                unless_spaced,
            } => (prefix, unless_spaced),
            Self::Unigram(ref unigram) => (unigram.prefix, false),
            Self::ByteLevel { .. } | Self::WordPiece { .. } => return,
        };
        let key = "tokenizer.ggml.add_space_prefix".to_owned();
        entries.retain(|(other, _)| *other != key);
        entries.push((key, (prefix != Prefix::Never).into()));
        if prefix == Prefix::First {
            entries.push((keys::PREFIX_AT_START_ONLY.to_owned(), true.into()));
        }
        if unless_spaced {
            entries.push((keys::PREFIX_UNLESS_SPACED.to_owned(), true.into()));
        }
    }
}

/// The steps of a normalizer or pre-tokenizer, sequences unrolled.
pub(super) struct Steps<'a>(pub(super) Vec<&'a Value>);

impl<'a> Steps<'a> {
    /// `list` is the field that holds the members of a sequence.
    fn of(list: &str, value: &'a Value) -> Self {
        fn unroll<'a>(list: &str, value: &'a Value, steps: &mut Vec<&'a Value>) {
            match value.get(list).and_then(Value::as_array) {
                // The depth is limited by serde_json's.
                Some(members) => members
                    .iter()
                    .for_each(|member| unroll(list, member, steps)),
                None if value.is_null() => {}
                None => steps.push(value),
            }
        }
        let mut steps = Vec::new();
        unroll(list, value, &mut steps);
        Self(steps)
    }

    pub(super) fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|step| type_of(step) == kind)
    }
}

pub(super) fn type_of(step: &Value) -> &str {
    step["type"].as_str().unwrap_or_default()
}

fn byte_level(
    json: &TokenizerJson<'_>,
    normalizer: &Steps<'_>,
    pre_tokenizer: &Steps<'_>,
) -> Result<Rules, String> {
    refuse_affixes(json)?;
    for step in &normalizer.0 {
        if type_of(step) != "NFC" {
            return Err(format!("has the normalizer {step}, which is not supported"));
        }
    }
    let stages = stages(pre_tokenizer)?;
    let declared: Vec<&str> = stages.iter().map(String::as_str).collect();
    // Families over characters are told by more than their stages.
    let over_bytes = |names: &[&str]| names[0] != "gemma4";
    let family = FAMILIES
        .iter()
        .filter(|(names, _)| over_bytes(names))
        .find(|(_, stages)| *stages == declared)
        .map(|(names, _)| names[0]);
    let alias = || ALIASES.iter().find(|(stages, _)| *stages == declared);
    let pre = family.or_else(|| alias().map(|(_, name)| *name));
    Ok(Rules::ByteLevel {
        pre: pre.ok_or_else(|| {
            format!(
                "splits text by rules that are not supported yet; please report them with the \
                 model's name: {}",
                declared.join("  then  ")
            )
        })?,
        ignore_merges: json.model.ignore_merges.unwrap_or(false),
        nfc: normalizer.has("NFC"),
    })
}

/// The stages of a byte-level pre-tokenizer as [`FAMILIES`] spells them.
fn stages(pre_tokenizer: &Steps<'_>) -> Result<Vec<String>, String> {
    let mut stages = Vec::new();
    for step in &pre_tokenizer.0 {
        let unsupported = || format!("has the pre-tokenizer {step}, which is not supported");
        match type_of(step) {
            "ByteLevel" => {
                if step["add_prefix_space"].as_bool().unwrap_or(true) {
                    return Err(unsupported());
                }
                if step["use_regex"].as_bool().unwrap_or(true) {
                    stages.push(GPT2.to_owned());
                }
            }
            "Split" => {
                let behavior = step["behavior"].as_str().unwrap_or_default();
                let invert = step["invert"].as_bool().unwrap_or(false);
                // What the pattern matches is a piece: both say so where it matches all.
                if !matches!((behavior, invert), ("Isolated", false) | ("Removed", true)) {
                    return Err(unsupported());
                }
                let pattern = &step["pattern"];
                let pattern = pattern["Regex"].as_str().or(pattern["String"].as_str());
                let pattern = pattern.ok_or_else(unsupported)?;
                // Some files have the characters themselves.
                stages.push(pattern.replace('\r', r"\r").replace('\n', r"\n"));
            }
            "Digits" => stages.push(match step["individual_digits"].as_bool() {
                Some(true) => r"\p{N}".to_owned(),
                _ => r"\p{N}+".to_owned(),
            }),
            _ => return Err(unsupported()),
        }
    }
    Ok(stages)
}

fn sentence_piece(
    json: &TokenizerJson<'_>,
    normalizer: &Steps<'_>,
    pre_tokenizer: &Steps<'_>,
) -> Result<Rules, String> {
    refuse_affixes(json)?;
    let (mut prefix, mut spells_spaces) = (Prefix::Never, false);
    let mut unless_spaced = false;
    for step in &normalizer.0 {
        match type_of(step) {
            "Prepend" if step["prepend"] == SPACE => prefix = Prefix::Always,
            "Replace" if step["pattern"]["String"] == " " && step["content"] == SPACE => {
                spells_spaces = true;
            }
            _ => return Err(format!("has the normalizer {step}, which is not supported")),
        }
    }
    for step in &pre_tokenizer.0 {
        match type_of(step) {
            // Words of their own would keep merges from runs of spaces; an absent `split` asks for
            // them.
            "Metaspace"
                if step["replacement"].as_str().unwrap_or(SPACE) == SPACE
                    && step["split"] == false =>
            {
                spells_spaces = true;
                unless_spaced = true;
                prefix = Prefix::of_metaspace(step)?;
            }
            // No space is left to split at.
            "Split" if spells_spaces && step["pattern"]["String"] == " " => {}
            _ => {
                return Err(format!(
                    "has the pre-tokenizer {step}, which is not supported"
                ));
            }
        }
    }
    if !spells_spaces {
        return Err(
            "is BPE over characters without a rule for spaces, which is not supported".to_owned(),
        );
    }
    if json.model.ignore_merges == Some(true) {
        return Err("is BPE over characters with ignore_merges, which is not supported".to_owned());
    }
    Ok(Rules::SentencePiece {
        prefix,
        unless_spaced: unless_spaced && prefix != Prefix::Never,
    })
}

fn word_piece(
    json: &TokenizerJson<'_>,
    normalizer: &Steps<'_>,
    pre_tokenizer: &Steps<'_>,
) -> Result<Rules, String> {
    let model = &json.model;
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("##");
    let most = model.max_input_chars_per_word.unwrap_or(100);
    if prefix != "##" || most != 100 {
        return Err(format!(
            "has continuing_subword_prefix {prefix:?} and max_input_chars_per_word {most}; \"##\" \
             and 100 are supported"
        ));
    }
    let [bert] = normalizer.0[..] else {
        return Err("has no normalizer BertNormalizer".to_owned());
    };
    let is = |key: &str| bert[key].as_bool().unwrap_or(true);
    if type_of(bert) != "BertNormalizer" || !is("clean_text") || !is("handle_chinese_chars") {
        return Err(format!("has the normalizer {bert}, which is not supported"));
    }
    if !matches!(pre_tokenizer.0[..], [step] if type_of(step) == "BertPreTokenizer") {
        return Err("has a pre-tokenizer that is not BertPreTokenizer".to_owned());
    }
    let lowercase = is("lowercase");
    Ok(Rules::WordPiece {
        lowercase,
        strip_accents: bert["strip_accents"].as_bool().unwrap_or(lowercase),
    })
}

fn refuse_affixes(json: &TokenizerJson<'_>) -> Result<(), String> {
    let model = &json.model;
    for (name, affix) in [
        (
            "continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return Err(format!(
                "has {name} {affix:?}, which is not supported for BPE"
            ));
        }
    }
    Ok(())
}
