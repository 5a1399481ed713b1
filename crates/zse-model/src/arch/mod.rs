//! The architectures: one file each, found by the name that the file's metadata gives.

mod bert;
mod gemma2;
mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod starcoder2;

use std::collections::HashSet;
use std::sync::Arc;

use zse_format::Checkpoint;

use crate::builder::Builder;
use crate::error::ModelError;
use crate::model::{ModelInfo, ModelOptions};
use crate::nn::{Dims, Hyper};
use crate::program::{EmbedIndex, Op, Program};

/// Describes a model's forward pass.
type Build = fn(Builder, &Hyper<'_>, &Dims) -> Result<Program, ModelError>;

/// An architecture: how the metadata of a file become a program.
pub struct Architecture {
    /// `general.architecture` in the file.
    pub name: &'static str,
    build: Build,
}

impl Architecture {
    const fn new(name: &'static str, build: Build) -> Self {
        Self { name, build }
    }
}

/// All that are supported.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture::new("llama", llama::build),
    Architecture::new("qwen2", qwen2::build),
    Architecture::new("qwen3", qwen3::build),
    Architecture::new("qwen3moe", qwen3moe::build),
    Architecture::new("gemma2", gemma2::build),
    Architecture::new("gemma3", gemma3::build),
    Architecture::new("phi3", phi3::build),
    Architecture::new("starcoder2", starcoder2::build),
    Architecture::new("bert", bert::build),
];

/// Tensors that a program need not use: the set of LongRoPE factors that was not chosen, and
/// BERT's classification head, which is no part of an embedding.
const OPTIONAL: [&str; 6] = [
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "cls.weight",
    "cls.bias",
    "cls.output.weight",
    "cls.output.bias",
];

/// Builds the program of `checkpoint` by its architecture.
pub(crate) fn build(
    checkpoint: &Arc<Checkpoint>,
    options: &ModelOptions,
) -> Result<(ModelInfo, Program), ModelError> {
    let metadata = checkpoint.metadata();
    let name = metadata.require_str("general.architecture")?;
    let Some(arch) = ARCHITECTURES.iter().find(|a| a.name == name) else {
        let known = ARCHITECTURES
            .iter()
            .map(|a| a.name)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(ModelError::UnknownArchitecture {
            name: name.to_owned(),
            known,
        });
    };
    let h = Hyper::new(metadata, arch.name, options);
    let c = Dims::read(&h, checkpoint)?;
    let program = (arch.build)(Builder::new("decoder", checkpoint.clone()), &h, &c)?;
    refuse_unknown_tensors(checkpoint, &program, arch.name)?;
    let info = ModelInfo {
        architecture: arch.name.to_owned(),
        name: metadata
            .str("general.name")?
            .unwrap_or(arch.name)
            .to_owned(),
        layers: c.layers,
        width: c.width,
        vocab: c.vocab,
        context: positions(&program).map_or(c.context, |n| n.min(c.context)),
        trained_context: c.trained_context,
    };
    Ok((info, program))
}

/// Rows of the table of learned positions, if there is one: no sequence can be longer.
fn positions(program: &Program) -> Option<usize> {
    program.nodes.iter().find_map(|node| match node.op {
        Op::Embed {
            table,
            index: EmbedIndex::Position,
        } => Some(program.tensor(table).rows),
        _ => None,
    })
}

/// A tensor that no operation reads (a bias, a scale, another kind of block) means that the file
/// holds another model than the one described.
fn refuse_unknown_tensors(
    checkpoint: &Checkpoint,
    program: &Program,
    architecture: &str,
) -> Result<(), ModelError> {
    let known: HashSet<&str> = program
        .tensors
        .iter()
        .map(|t| t.name.as_str())
        .chain(OPTIONAL)
        .collect();
    match checkpoint.tensors().find(|t| !known.contains(t.name)) {
        None => Ok(()),
        Some(t) => Err(ModelError::UnknownTensor {
            name: t.name.to_owned(),
            architecture: architecture.to_owned(),
        }),
    }
}
