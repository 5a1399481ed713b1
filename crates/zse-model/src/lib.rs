//! Models as programs.
//!
//! An [architecture](arch) describes a forward pass as a [`Program`]: a short list of typed
//! operations over the weights of a checkpoint. [`passes`] mark what can run together and where
//! results can live. An [`Executor`](executor::Executor) for a device runs it; the slow, obviously
//! right [`Reference`](reference::Reference) in this crate says what the result should be, and
//! [`conformance`] holds every other executor to it. [`sampler`] defines how a token is drawn from
//! logits.
#![forbid(unsafe_code)]

mod adapter;
pub mod arch;
mod builder;
pub mod conformance;
mod error;
pub mod executor;
mod model;
pub mod nn;
pub mod passes;
pub mod program;
pub mod reference;
pub mod rope;
pub mod sampler;
mod weights;

pub use adapter::{Adapter, AdapterError, LowRank};
pub use builder::{AttentionSpec, Builder, Site, TOP};
pub use error::ModelError;
pub use model::{Model, ModelInfo, ModelOptions};
pub use program::Program;
pub use weights::{WeightView, Weights};
/// Part of a model's file, for executors that read it in place; a matrix of an adapter.
pub use zse_format::{FileBytes, LoraMatrix};
