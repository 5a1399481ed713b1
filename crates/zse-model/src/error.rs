//! Why a checkpoint cannot become a model.

use zse_format::FormatError;

use crate::program::ProgramError;

/// Why a checkpoint cannot become a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The metadata lacks a key or has one of the wrong type.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// No architecture of this name.
    #[error("architecture '{name}' is not supported; supported are: {known}")]
    UnknownArchitecture {
        /// As the file names it.
        name: String,
        /// The names of all that are.
        known: String,
    },
    /// A hyperparameter that cannot be.
    #[error("metadata '{key}' is {value}: {what}")]
    Hyperparameter {
        /// Metadata key.
        key: String,
        /// What the file says.
        value: String,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("tensor '{name}' is missing; the file is incomplete or of another architecture")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture does not know: running without it would give wrong results.
    #[error("tensor '{name}' is not known to architecture '{architecture}'")]
    UnknownTensor {
        /// Its name.
        name: String,
        /// Name of the architecture.
        architecture: String,
    },
    /// A tensor of another shape than the metadata implies.
    #[error("tensor '{name}' has shape {got}, should be {expected} by the metadata")]
    TensorShape {
        /// Its name.
        name: String,
        /// Shape in the file, row length first.
        got: String,
        /// Shape that the hyperparameters imply, row length first.
        expected: String,
    },
    /// A tensor of a type that cannot be a weight.
    #[error("tensor '{name}' has type {ty}, which cannot be used as a weight")]
    TensorType {
        /// Its name.
        name: String,
        /// Its type.
        ty: &'static str,
    },
    /// Shapes of the description do not fit one another.
    #[error("{op}{}: {what}", layer.map(|l| format!(" of layer {l}")).unwrap_or_default())]
    Shapes {
        /// The operation.
        op: &'static str,
        /// Its layer.
        layer: Option<u32>,
        /// What does not fit.
        what: String,
    },
    /// A finished program breaks a rule.
    #[error(transparent)]
    Program(#[from] ProgramError),
}
