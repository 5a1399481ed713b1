//! Models as Hugging Face lays them out: a directory with `config.json`, safetensors files and a
//! tokenizer, read as if it were a GGUF file. Keys and tensors have the names, shapes and numbers
//! that llama.cpp's converter writes; weights stay in the files and change their form, where they
//! must, when they are asked for.
//!
//! An architecture is a `Family` in a file of its own: what `config.json` says in GGUF's keys,
//! and a table of tensors. What a model has beyond that is refused, not ignored.

mod bert;
mod common;
pub(crate) mod config;
mod described;
mod fp8;
mod gemma2;
mod gemma3;
mod llama;
pub(crate) mod modules;
mod phi3;
mod quant;
mod quantization;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod roberta;
mod rope;
pub(crate) mod rules;
mod starcoder2;
mod stored;
mod tensors;
pub mod tokenizer;
pub(crate) mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Config;
pub use config::MAX_CONFIG;
pub use described::Preview;
use described::{Described, Keys};
use quantization::Quantization;
use rules::Rule;
use stored::Stored;
use tensors::Tensors;
use tokenizer::TokenizerFiles;

use crate::FormatError;
use crate::checkpoint::Checkpoint;
use crate::safetensors::index::{self, read_file};

/// An architecture.
struct Family {
    /// Its name in GGUF, `general.architecture`.
    architecture: &'static str,
    /// Its names in `config.json`, `model_type`.
    model_types: &'static [&'static str],
    /// Sets GGUF's keys from `config.json`; refuses what is not implemented.
    describe: fn(&Config, &mut Keys) -> Result<(), FormatError>,
    rules: &'static [Rule],
    /// A JSON object of what files leave out.
    defaults: &'static str,
    /// What tensors' names may begin with, and what they should begin with instead.
    renames: &'static [(&'static str, &'static str)],
    /// What the names of tensors begin with that no computation needs.
    unused: &'static [&'static str],
}

/// All that are supported.
const FAMILIES: [&Family; 10] = [
    &llama::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3moe::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &phi3::FAMILY,
    &starcoder2::FAMILY,
    &bert::FAMILY,
    &roberta::FAMILY,
];

const CONFIG: &str = "config.json";

/// The directory of a model, if `path` is one or a file in one that a model is opened by.
pub(crate) fn directory(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    if !path.is_file() {
        return None;
    }
    let name = path.file_name()?.to_str()?;
    let is_part = name.ends_with(".safetensors") || name == index::INDEX || name == CONFIG;
    // Of `model.safetensors` the parent is the empty path, which is no directory.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    is_part.then(|| parent.unwrap_or(Path::new(".")).to_owned())
}

/// Opens the model in `directory`.
pub(crate) fn open(directory: &Path) -> Result<Checkpoint, FormatError> {
    let name = directory.display().to_string();
    let config = Config::open(&directory.join(CONFIG))?.ok_or_else(|| FormatError::Unusable {
        file: name.clone(),
        field: CONFIG.to_owned(),
        problem:
            "is missing; beside a model's safetensors files it says what they are (of a folder of \
                  GGUF files give one of the files)"
                .to_owned(),
    })?;
    let Described {
        family,
        quantization,
        counts,
        config,
        mut keys,
    } = Described::read(config, Some(directory))?;
    for (key, value) in directory_tokenizer(directory, &name)? {
        keys.set_whole(&key, value)?;
    }

    let files = index::open(directory)?;
    let mut stored = Stored::new(&name, &files, family.renames)?;
    let mut tensors = Tensors::new(counts, quantization, &mut stored);
    for rule in family.rules {
        if !keys.unused.contains(&rule.from) {
            tensors.add(rule)?;
        }
    }
    let mut tensors = tensors.finish();
    stored.expect_all_taken(&[family.unused, &keys.unused].concat())?;
    for (name, numbers) in std::mem::take(&mut keys.numbers) {
        let tensor = tensors::of_numbers(name, numbers);
        tensors.push(tensor.map_err(|problem| config.unusable(name, problem))?);
    }

    let sources = files.iter().map(|file| Arc::clone(file.source())).collect();
    Checkpoint::of_parts(keys.metadata(&name)?, sources, tensors).map_err(|duplicate| {
        FormatError::Unusable {
            file: name.clone(),
            field: format!("tensor {:?}", duplicate.tensor.name),
            problem: "is made of more than one of the files' tensors".to_owned(),
        }
    })
}

/// The tokenizer's keys; none where there is no tokenizer at all.
fn directory_tokenizer(directory: &Path, name: &str) -> Result<tokenizer::Entries, FormatError> {
    let read = |file: &str| read_file(&directory.join(file), tokenizer::most_bytes(file));
    let [tokenizer, sentence_piece] = [read("tokenizer.json")?, read("tokenizer.model")?];
    if tokenizer.is_none() && sentence_piece.is_none() {
        return Ok(Vec::new());
    }
    let [config, generation_config] = [read(CONFIG)?, read("generation_config.json")?];
    let [tokenizer_config, special_tokens_map, added_tokens] = [
        read("tokenizer_config.json")?,
        read("special_tokens_map.json")?,
        read("added_tokens.json")?,
    ];
    let [chat_template, chat_template_json] =
        [read("chat_template.jinja")?, read("chat_template.json")?];
    let more = additional_chat_templates(&directory.join("additional_chat_templates"))?;
    let more: Vec<(&str, &[u8])> = more.iter().map(|(n, text)| (&**n, &**text)).collect();
    tokenizer::metadata(&TokenizerFiles {
        directory: name,
        config: config.as_deref(),
        generation_config: generation_config.as_deref(),
        tokenizer: tokenizer.as_deref(),
        sentence_piece: sentence_piece.as_deref(),
        tokenizer_config: tokenizer_config.as_deref(),
        special_tokens_map: special_tokens_map.as_deref(),
        added_tokens: added_tokens.as_deref(),
        chat_template: chat_template.as_deref(),
        chat_template_json: chat_template_json.as_deref(),
        additional_chat_templates: &more,
    })
}

/// The files `NAME.jinja` of `folder` by NAME, in its order.
fn additional_chat_templates(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, FormatError> {
    let mut templates = Vec::new();
    // A folder that is not there has none.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(name), Some("jinja")) = (
            path.file_stem().and_then(|name| name.to_str()),
            path.extension().and_then(|extension| extension.to_str()),
        ) else {
            continue;
        };
        // One more than is allowed suffices to be refused.
        if templates.len() > tokenizer::MAX_TEMPLATES {
            break;
        }
        if let Some(text) = read_file(&path, config::MAX_CONFIG)? {
            templates.push((name.to_owned(), text));
        }
    }
    templates.sort();
    Ok(templates)
}
