//! The architectures: one file each, found by the name that the file's metadata gives.

use std::sync::Arc;

use zse_format::{Checkpoint, Metadata};

use crate::builder::Builder;
use crate::error::ModelError;
use crate::model::{ModelInfo, ModelOptions};
use crate::program::Program;

/// An architecture: how the metadata of a file become a program.
pub struct Architecture {
    /// `general.architecture` in the file.
    pub name: &'static str,
    /// Describes the forward pass.
    build: fn(Builder, &Metadata, &ModelOptions) -> Result<(ModelInfo, Program), ModelError>,
}

/// All that are supported.
pub const ARCHITECTURES: &[Architecture] = &[];

/// Builds the program of `checkpoint` by its architecture.
pub(crate) fn build(
    checkpoint: &Arc<Checkpoint>,
    options: &ModelOptions,
) -> Result<(ModelInfo, Program), ModelError> {
    let metadata = checkpoint.metadata();
    let name = metadata.require_str("general.architecture")?;
    let Some(arch) = ARCHITECTURES.iter().find(|a| a.name == name) else {
        let known = ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ");
        return Err(ModelError::UnknownArchitecture { name: name.to_owned(), known });
    };
    (arch.build)(Builder::new("decoder", checkpoint.clone()), metadata, options)
}
