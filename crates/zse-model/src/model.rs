//! A model: its hyperparameters, its program and its weights, ready for an executor.

use std::sync::Arc;

use zse_format::Checkpoint;

use crate::arch;
use crate::error::ModelError;
use crate::passes::split;
use crate::program::Program;
use crate::weights::Weights;

/// What a caller may choose before a model is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// Tokens that a sequence may grow to; `None`: the model's own context length. Some models
    /// (LongRoPE) rotate differently for long contexts.
    pub context: Option<usize>,
}

/// Facts of a model that are independent of its architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or the architecture.
    pub name: String,
    /// Layers of the decoder.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Tokens that a sequence may have.
    pub context: usize,
    /// Tokens that the model was trained for.
    pub trained_context: usize,
}

/// A program over weights. Shared by reference: executors keep an `Arc`.
pub struct Model {
    /// Facts for people and for the engine.
    pub info: ModelInfo,
    /// The forward pass.
    pub program: Program,
    /// What it multiplies by.
    pub weights: Weights,
}

impl Model {
    /// Builds the model that `checkpoint` holds.
    ///
    /// # Errors
    /// If the architecture is unknown, metadata is missing or cannot be, or a tensor is missing or
    /// misshapen.
    pub fn load(checkpoint: Arc<Checkpoint>, options: &ModelOptions) -> Result<Self, ModelError> {
        let (info, program) = arch::build(&checkpoint, options)?;
        let weights = Weights::new(checkpoint, &program)?;
        Ok(Self {
            info,
            program,
            weights,
        })
    }

    /// The model before `layer` and from there on, over the same checkpoint; `None` where
    /// [`split`](crate::passes::split) cannot.
    ///
    /// # Errors
    /// Those of [`Model::load`] that concern weights: none, for a model that was loaded.
    pub fn split(&self, layer: usize) -> Option<Result<[Self; 2], ModelError>> {
        let part = |program: Program| {
            let weights = Weights::new(Arc::clone(self.weights.checkpoint()), &program)?;
            Ok(Self {
                info: self.info.clone(),
                program,
                weights,
            })
        };
        let [front, back] = split(&self.program, layer)?;
        Some(part(front).and_then(|front| Ok([front, part(back)?])))
    }
}
