//! Running a model of ZSE: one sequence at a time, keys and values in f32.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use zse_format::Checkpoint;
use zse_model::conformance::batch;
use zse_model::executor::{Backend, Budget, Executor, Fuse, KvType, Masks, Output};
use zse_model::{Model, ModelOptions};

/// A sequence of up to a given number of tokens, on some backend.
pub(crate) struct Engine {
    model: Arc<Model>,
    budget: Budget,
    executor: Box<dyn Executor>,
}

/// The model in the GGUF file `path`, for sequences of up to `context` tokens.
///
/// # Errors
/// If it cannot be read or built.
pub(crate) fn open(path: &Path, context: usize) -> Result<Arc<Model>> {
    let checkpoint = Arc::new(Checkpoint::open(path)?);
    Ok(Arc::new(Model::load(
        checkpoint,
        &ModelOptions {
            context: Some(context),
        },
    )?))
}

impl Engine {
    /// For sequences of up to `context` tokens, on `threads` threads.
    ///
    /// # Errors
    /// If the backend refuses the model.
    pub(crate) fn new(
        backend: &dyn Backend,
        model: Arc<Model>,
        context: usize,
        threads: usize,
    ) -> Result<Self> {
        let budget = Budget {
            kv_blocks: context.div_ceil(Budget::BLOCK_LEN),
            block_len: Budget::BLOCK_LEN,
            kv_type: KvType::F32,
            max_tokens: context,
            max_outputs: context,
            threads: Some(threads),
            memory: None,
            fuse: Fuse::All,
        };
        let executor = backend.compile(Arc::clone(&model), &budget)?;
        Ok(Self {
            model,
            budget,
            executor,
        })
    }

    /// The logits after each of `ids`, which are a sequence of their own: `[ids.len(), vocab]`.
    /// Of a model that pools, the embedding: `[width]`.
    ///
    /// # Errors
    /// If there are more tokens than the context has, or the executor fails.
    pub(crate) fn outputs(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let batch = batch(&self.model, &self.budget, &[(ids, 0)]);
        let ticket = self.executor.submit(&batch)?;
        self.executor.sample(ticket, &Masks::default())?;
        let mut all = Vec::new();
        for row in self.executor.wait(ticket)?.rows {
            match row {
                Output::Logits(v) | Output::Pooled(v) => all.extend(v),
                other => bail!("the executor gave {other:?} where logits were wanted"),
            }
        }
        Ok(all)
    }
}
