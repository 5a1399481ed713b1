//! The suite that holds every executor to the [`Reference`](crate::reference::Reference):
//! operations one by one and whole decoders, on random shapes with odd tails, on random weights of
//! every type, and on activations with outlier channels.
//!
//! An executor's tests call [`op_cases`] and [`decoder_cases`] with fresh seeds, [`Case::run`] each
//! on the reference and on the executor, and compare the [`nmse`]; the same cases time kernels in
//! benchmarks.

mod adapters;
mod cases;
mod decoders;
mod golden;
mod random;
mod synth;

pub use adapters::{adapter, adapter_cases};
pub use cases::op_cases;
pub use decoders::{DecoderSpec, decoder, decoder_cases};
pub use golden::{Golden, GoldenError, GoldenReport};
pub use random::Rng;
pub use synth::{Fill, Synth};

use std::sync::Arc;
use std::time::{Duration, Instant};

use zse_quant::GgmlType;

use crate::adapter::{Adapter, AdapterError};
use crate::executor::{
    AdapterId, Backend, Batch, Budget, ExecError, LoadError, Masks, Output, OutputRow, SeqSpan,
    TokenSource, Want,
};
use crate::model::Model;
use crate::program::ProgramOutput;

/// A model, batches for it, and how near an executor must come.
pub struct Case {
    /// Name that says operation, shape and type.
    pub name: String,
    /// The program with its weights.
    pub model: Arc<Model>,
    /// Blocks and KV type.
    pub budget: Budget,
    /// What sequences may use: the first is [`AdapterId`] 0.
    pub adapters: Vec<Adapter>,
    /// Run one after another; later ones may read the KV of earlier ones.
    pub batches: Vec<Batch>,
    /// Largest normalised mean squared error of the outputs.
    pub tolerance: f64,
}

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The backend refused the model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The executor refused an adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A step failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Case {
    /// All outputs of `backend`, and the time of its steps.
    ///
    /// # Errors
    /// If the backend refuses the model or fails.
    pub fn run(&self, backend: &dyn Backend) -> Result<(Vec<f32>, Duration), CaseError> {
        let mut executor = backend.compile(Arc::clone(&self.model), &self.budget)?;
        for (id, adapter) in (0..).map(AdapterId).zip(&self.adapters) {
            executor.load_adapter(id, adapter)?;
        }
        let (mut all, mut time) = (Vec::new(), Duration::ZERO);
        for batch in &self.batches {
            let start = Instant::now();
            let ticket = executor.submit(batch)?;
            executor.sample(ticket, &Masks::default())?;
            let outputs = executor.wait(ticket)?;
            time += start.elapsed();
            for row in outputs.rows {
                match row {
                    Output::Logits(v) | Output::Pooled(v) | Output::Hidden(v) => all.extend(v),
                    Output::LogProb(p) => all.push(p),
                    Output::Sampled(s) => all.push(s.token as f32),
                }
            }
        }
        Ok((all, time))
    }
}

/// `sum((a - b)^2) / sum(b^2)`; NaN where lengths differ or `a` holds a NaN that `b` does not.
pub fn nmse(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let error: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    let power: f64 = b.iter().map(|&b| f64::from(b).powi(2)).sum();
    if power == 0.0 { error } else { error / power }
}

/// The NMSE that the numeric contract allows for weights of this type: int8 activations for
/// quantized weights, none for F32 and F16, room for bf16 arithmetic for BF16.
pub fn tolerance(ty: GgmlType) -> f64 {
    match ty {
        GgmlType::F32 | GgmlType::F16 => 1e-6,
        GgmlType::Bf16 => 1e-4,
        _ => 1e-3,
    }
}

/// A batch of one part of each sequence: its ids and how many of its tokens came before, with all
/// logits wanted (or pooled embeddings). Sequence `s` of a group uses every `n`-th block from `s`
/// on, so that tables are not contiguous.
pub fn batch(model: &Model, budget: &Budget, parts: &[(&[u32], usize)]) -> Batch {
    let groups = model.program.kv_groups().len();
    let mut out = Batch::default();
    for (s, (ids, first)) in parts.iter().enumerate() {
        let start = out.tokens.len();
        out.tokens.extend(ids.iter().map(|&id| TokenSource::Id(id)));
        out.positions
            .extend((*first..first + ids.len()).map(|p| p as u32));
        let blocks = (first + ids.len()).div_ceil(budget.block_len);
        let table: Vec<u32> = (0..blocks).map(|b| (b * parts.len() + s) as u32).collect();
        out.seqs.push(SeqSpan {
            tokens: start..out.tokens.len(),
            first: *first,
            tables: vec![table; groups],
            adapters: Vec::new(),
        });
    }
    if let ProgramOutput::Logits(_) = model.program.output {
        out.outputs = (0..out.tokens.len())
            .map(|token| OutputRow {
                token,
                want: Want::Logits,
            })
            .collect();
    }
    out
}
