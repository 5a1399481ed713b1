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
mod flight;
mod profile;
mod squares;
mod stages;
#[cfg(test)]
mod tests;

pub use batch::{
    AdaptedRows, AdapterId, AdapterUse, Batch, BlockBytes, BlockId, KvOp, Masks, Output, OutputRow,
    Outputs, SampleJob, Sampled, SeqSpan, TokenMask, TokenSource, Want,
};
pub use budget::{Budget, Fuse, KvType, MemoryReport, try_reserve};
pub use finish::finish;
pub use flight::Flight;
pub use profile::{Profile, ProfilePart, Work};
pub use squares::{Squares, WeightSquares};
pub use stages::Staged;

use std::sync::Arc;

use zse_quant::QuantError;

use crate::adapter::{Adapter, AdapterError};
use crate::model::Model;
use crate::sampler::SampleError;

/// A kind of device that models can be compiled for.
pub trait Backend {
    /// Its name, and what does not depend on a model; whether it can run a model's operations,
    /// [`compile`](Self::compile) says.
    fn caps(&self) -> Caps;

    /// What an executor of `model` within `budget` will use: [`Executor::memory`] once it has run a
    /// batch of `max_tokens` tokens and `max_outputs` outputs. Nothing is loaded for it.
    ///
    /// # Errors
    /// If [`compile`](Self::compile) would refuse the model or the budget.
    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError>;

    /// Where `model` will run, for people: its name, unless more than one device shares the model.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    fn place(&self, model: &Model, budget: &Budget) -> Result<String, LoadError> {
        let _ = (model, budget);
        Ok(self.caps().name)
    }

    /// Bytes of its own memory that a model may take now; `None` where that is the system's, of which a
    /// model need not be a part.
    ///
    /// # Errors
    /// If the device cannot be asked.
    fn available(&self) -> Result<Option<u64>, LoadError> {
        Ok(None)
    }

    /// Prepares `model` within `budget`: packs or uploads weights, allocates the KV blocks.
    ///
    /// # Errors
    /// If it cannot run an operation or a type, the budget contradicts itself, or memory does not
    /// suffice.
    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError>;
}

/// What a [`Backend`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Name for people, such as `cpu (avx512)`.
    pub name: String,
    /// Types in which keys and values can be kept.
    pub kv_types: Vec<KvType>,
}

impl Caps {
    /// Checks that keys and values can be kept as `budget` asks.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] if they cannot.
    pub fn check(&self, budget: &Budget) -> Result<(), LoadError> {
        if self.kv_types.contains(&budget.kv_type) {
            return Ok(());
        }
        Err(LoadError::Unsupported {
            device: self.name.clone(),
            what: format!("keys and values cannot be {}", budget.kv_type),
        })
    }
}

/// A model on a device, with the KV blocks of the sequences that it serves.
///
/// One step is in flight at a time: from its `submit` to its `wait`, or to the next `submit`, which
/// drops it. A step that fails in `sample` or `wait` has written its keys and values nevertheless.
/// That does no harm: the same tokens may be submitted again at the same positions, alone or beside
/// others, and write the same over them.
pub trait Executor: Send {
    /// Starts a forward pass. KV operations of the batch happen first, in their order.
    ///
    /// # Errors
    /// If the batch is malformed ([`ExecError::BadBatch`]) or the device fails.
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError>;

    /// Draws tokens for the rows of `ticket` that want one, under `masks`. After an error the step
    /// is still in flight and may be sampled again, under other masks.
    ///
    /// # Errors
    /// If `ticket` is not in flight, the logits of a row are not finite, nothing can be drawn from
    /// a row, or the device fails.
    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError>;

    /// Waits for the results of `ticket`, which then is no longer in flight.
    ///
    /// # Errors
    /// If `ticket` is not in flight, its rows were not sampled ([`ExecError::NotSampled`]; a
    /// program that pools has none to sample), or the device failed.
    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError>;

    /// Lets sequences of the batches to come use `adapter` by `id`, which was not given before. It may
    /// be loaded and unloaded between any two steps; a step in flight goes on as it began.
    ///
    /// # Errors
    /// If the device has no kernels for adapters, or memory does not suffice.
    fn load_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<(), AdapterError> {
        let _ = (id, adapter);
        Err(AdapterError::Unsupported)
    }

    /// Gives the memory of an adapter back. Nothing happens if it is not loaded.
    fn unload_adapter(&mut self, id: AdapterId) {
        let _ = id;
    }

    /// Bytes in use.
    fn memory(&self) -> MemoryReport;

    /// What the bytes of a block that was swapped out are: numbers of this type and nothing else, so
    /// that they may be rounded to another; `None` where only the executor knows.
    fn swapped_type(&self) -> Option<KvType> {
        None
    }

    /// Takes the time of the parts of each pass from here on; false where it cannot.
    fn start_profile(&mut self) -> bool {
        false
    }

    /// What was measured since [`start_profile`](Self::start_profile); `None` if that was never
    /// called, or was refused. No more is measured.
    fn end_profile(&mut self) -> Option<Profile> {
        None
    }

    /// Sums the squares of what meets the columns of the weights in each pass from here on; false where
    /// it cannot.
    fn start_squares(&mut self) -> bool {
        false
    }

    /// What was summed since [`start_squares`](Self::start_squares); `None` if that was never called,
    /// or was refused. No more is summed.
    fn end_squares(&mut self) -> Option<Squares> {
        None
    }
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
        source: QuantError,
    },
    /// The budget contradicts itself or the program.
    #[error("{0}")]
    Budget(String),
    /// The device cannot be used, or failed; says what to do.
    #[error("{0}")]
    Device(String),
}

impl LoadError {
    /// Makes the error of weight `tensor` of what is wrong with it.
    pub fn weight(tensor: &str) -> impl FnOnce(QuantError) -> Self + use<> {
        let tensor = tensor.to_owned();
        move |source| Self::Weight { tensor, source }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// A mistake of the caller: a token beyond the vocabulary, a block beyond the budget.
    #[error("malformed batch: {0}")]
    BadBatch(String),
    /// A ticket that is not the newest, or that was waited for already.
    #[error("ticket {} is not the step in flight", .0.0)]
    BadTicket(Ticket),
    /// A step that was waited for before [`Executor::sample`] succeeded.
    #[error("ticket {} was not sampled", .0.0)]
    NotSampled(Ticket),
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
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}
