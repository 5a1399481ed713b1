//! The seam between the engine and a device: what an executor is given and what it gives back.
//!
//! A step is three calls. [`Executor::submit`] starts a forward pass over a [`Batch`],
//! [`Executor::sample`] says how tokens are drawn from it, [`Executor::wait`] hands over the
//! [`Outputs`]. The split lets the engine plan the next step, and compute grammar masks, while a
//! device works; an executor without a device of its own does everything inside `submit` and
//! `sample`.

mod batch;
mod budget;
mod check;
mod finish;
#[cfg(test)]
mod tests;

pub use batch::{
    Batch, BlockId, KvOp, Masks, Output, OutputRow, Outputs, SampleJob, Sampled, SeqSpan,
    TokenMask, TokenSource, Want,
};
pub use budget::{Budget, Fuse, KvType, MemoryReport, try_reserve};
pub use finish::finish;

use std::sync::Arc;

use crate::model::Model;
use crate::sampler::SampleError;

/// A kind of device that models can be compiled for.
pub trait Backend {
    /// What it can run.
    fn caps(&self) -> Caps;

    /// What an executor of `model` within `budget` will use: [`Executor::memory`] once it has run a
    /// batch of `max_tokens` tokens and `max_outputs` outputs. Nothing is loaded for it.
    ///
    /// # Errors
    /// If [`compile`](Self::compile) would refuse the model or the budget.
    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError>;

    /// Prepares `model` within `budget`: packs or uploads weights, allocates the KV blocks.
    ///
    /// # Errors
    /// If an operation or type is beyond [`Backend::caps`], or memory does not suffice.
    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError>;
}

/// What a [`Backend`] can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Name for people, such as `cpu (avx512-vnni)`.
    pub name: String,
    /// Types in which keys and values can be kept.
    pub kv_types: Vec<KvType>,
}

/// A model on a device, with the KV blocks of the sequences that it serves.
pub trait Executor: Send {
    /// Starts a forward pass. KV operations of the batch happen first, in their order.
    ///
    /// # Errors
    /// If the batch is malformed ([`ExecError::BadBatch`]) or the device fails.
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError>;

    /// Draws tokens for the rows of `ticket` that want one, under `masks`.
    ///
    /// # Errors
    /// If `ticket` is not the newest or the device fails.
    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError>;

    /// Waits for the results of `ticket`.
    ///
    /// # Errors
    /// If `ticket` is not the newest or the device failed.
    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError>;

    /// Bytes in use.
    fn memory(&self) -> MemoryReport;
}

/// A submitted step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Why a model cannot be compiled for a device.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The device lacks something that the program needs.
    #[error("{device} cannot run this model: {what}")]
    Unsupported {
        /// The backend's name.
        device: String,
        /// What is missing.
        what: String,
    },
    /// Memory does not suffice.
    #[error("the model needs {needed} bytes for {what}, more than {}", match available {
        Some(bytes) => format!("the {bytes} that are available"),
        None => "this machine gives".to_owned(),
    })]
    OutOfMemory {
        /// For what.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes available, where that is known.
        available: Option<u64>,
    },
    /// A weight cannot be decoded.
    #[error("tensor '{tensor}': {source}")]
    Weight {
        /// Its name.
        tensor: String,
        /// Why.
        source: zse_quant::QuantError,
    },
    /// The budget contradicts itself or the program.
    #[error("{0}")]
    Budget(String),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// A mistake of the caller: a token beyond the vocabulary, a block beyond the budget.
    #[error("malformed batch: {0}")]
    BadBatch(String),
    /// A ticket that is not the newest.
    #[error("ticket {} is not the step in flight", .0.0)]
    BadTicket(Ticket),
    /// The logits of a row are not numbers: damaged weights, or a fault of the device.
    #[error("the logits of output row {row} are not finite; the model file may be damaged")]
    NotFinite {
        /// Index into [`Batch::outputs`].
        row: usize,
    },
    /// No token can be drawn from a row.
    #[error("output row {row}: {source}")]
    Sample {
        /// Index into [`Batch::outputs`].
        row: usize,
        /// Why.
        source: SampleError,
    },
}
