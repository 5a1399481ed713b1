//! What an engine is made for, and how.

use zse_model::Model;
use zse_model::program::ProgramOutput;

/// What an engine has to know about its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Tokens that a sequence may have.
    pub context: usize,
    /// KV groups of the program.
    pub kv_groups: usize,
    /// Whether tokens see only what is before them.
    pub causal: bool,
    /// Whether the program gives one row a text, not logits.
    pub pools: bool,
    /// Whether that row is a score, not an embedding.
    pub ranks: bool,
}

impl ModelShape {
    /// The shape of `model`.
    pub fn of(model: &Model) -> Self {
        Self {
            vocab: model.info.vocab,
            context: model.info.context,
            kv_groups: model.program.kv_groups().len(),
            causal: model.program.is_causal(),
            pools: matches!(model.program.output, ProgramOutput::Pooled(_)),
            ranks: model.program.ranks(),
        }
    }
}

/// Settings of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most sequences that run at the same time; more wait.
    pub max_sequences: usize,
    /// Most requests that may wait for their first step; an [`EngineHandle`](crate::EngineHandle)
    /// refuses more. An engine on the caller's own thread takes any number.
    pub max_waiting: usize,
    /// Events that a request's channel holds; when it is full, the request pauses.
    pub channel_capacity: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 64,
            max_waiting: 1024,
            channel_capacity: 64,
        }
    }
}
