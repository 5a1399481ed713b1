//! What a choice takes in memory.

use std::sync::Arc;

use zse_format::Checkpoint;
use zse_model::Model;
use zse_model::executor::{
    Batch, Budget, KvType, MemoryReport, OutputRow, SeqSpan, TokenSource, Want, Work,
};
use zse_model::passes::schedule;

use super::candidates::Candidate;
use super::{Goal, Plan};
use crate::quantize::{Mixture, types};
use crate::{Error, LoadOptions};

/// A model whose sizes are asked for.
pub(super) struct Sizes<'a> {
    checkpoint: Arc<Checkpoint>,
    options: &'a LoadOptions,
    /// With the context of `options`.
    model: Arc<Model>,
}

impl<'a> Sizes<'a> {
    pub(super) fn new(
        checkpoint: Arc<Checkpoint>,
        options: &'a LoadOptions,
    ) -> Result<Self, Error> {
        Ok(Self {
            model: options.model(Arc::clone(&checkpoint))?,
            checkpoint,
            options,
        })
    }

    pub(super) fn options(&self) -> &LoadOptions {
        self.options
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        self.checkpoint.metadata().file()
    }

    /// Whether no type of keys and values is asked for.
    pub(super) fn is_default_kv(&self) -> bool {
        self.options.kv_type == LoadOptions::default().kv_type
    }

    /// Bytes of all tensors.
    pub(super) fn weight_bytes(&self, mixture: Option<&'static Mixture>) -> u64 {
        match mixture {
            None => self.checkpoint.tensors().map(|t| t.data.len() as u64).sum(),
            Some(mixture) => types(&self.checkpoint, mixture)
                .map(|(tensor, ty)| {
                    let rows: u64 = tensor.shape[1..].iter().product();
                    let row = ty.row_bytes(tensor.shape[0] as usize).unwrap_or(0);
                    rows.saturating_mul(row as u64)
                })
                .fold(0, u64::saturating_add),
        }
    }

    /// Whether heads divide into blocks of `kv_type`.
    pub(super) fn can_keep(&self, kv_type: KvType) -> bool {
        let budget = self.options.budget(&self.model);
        let budget = Budget { kv_type, ..budget };
        budget.kv_bytes(&self.model.program).is_some()
    }

    /// The context that is wanted, and then ever shorter ones down to `least`, where none is asked
    /// for.
    pub(super) fn contexts(&self, least: usize) -> Vec<usize> {
        let wanted = self.model.info.context;
        let halves = std::iter::successors(Some(wanted / 2), |n| Some(n / 2));
        let shorter = halves.take_while(|&n| n >= least && self.options.context.is_none());
        std::iter::once(wanted).chain(shorter).collect()
    }

    /// The same with twice the context, if the model was made for that and none is asked for.
    pub(super) fn longer(&self, candidate: &Candidate) -> Option<Candidate> {
        let context = candidate
            .context
            .saturating_mul(2)
            .min(self.model.info.trained_context);
        let can_grow = self.options.context.is_none() && context > candidate.context;
        can_grow.then_some(Candidate {
            context,
            ..*candidate
        })
    }

    /// What is left when nothing fits: the file's own weights and the shortest context.
    pub(super) fn least(&self, shortest: usize) -> Candidate {
        let kv_type = match self.can_keep(KvType::Q8_0) {
            true if self.is_default_kv() => KvType::Q8_0,
            _ => self.options.kv_type,
        };
        let contexts = self.contexts(shortest);
        Candidate {
            mixture: None,
            kv_type,
            context: contexts[contexts.len() - 1],
        }
    }

    /// What `candidate` takes with all its weights in memory.
    pub(super) fn memory(&self, candidate: &Candidate) -> Result<MemoryReport, Error> {
        let own = self.within(candidate, u64::MAX)?;
        // A converted file's weights are held in the same forms.
        let scale = |bytes| self.scaled(bytes, candidate.mixture);
        Ok(MemoryReport {
            weights: scale(own.weights),
            mapped: scale(own.mapped),
            ..own
        })
    }

    /// What the file's own weights take with the context of `candidate`, where there are `limit`
    /// bytes for all of it.
    pub(super) fn within(&self, candidate: &Candidate, limit: u64) -> Result<MemoryReport, Error> {
        let options = LoadOptions {
            memory_limit: Some(limit),
            ..self.loading(candidate)
        };
        let model = options.model(Arc::clone(&self.checkpoint))?;
        options.memory(&model)
    }

    /// How `candidate` is loaded.
    fn loading(&self, candidate: &Candidate) -> LoadOptions {
        LoadOptions {
            context: Some(candidate.context),
            kv_type: candidate.kv_type,
            ..self.options.clone()
        }
    }

    /// The plan of `candidate`, which takes `memory`, with all layers in memory.
    pub(super) fn plan(
        &self,
        candidate: &Candidate,
        goal: &Goal,
        memory: MemoryReport,
        why: Vec<String>,
    ) -> Plan {
        let layers = self.model.info.layers;
        Plan {
            mixture: candidate.mixture,
            options: LoadOptions {
                memory_limit: Some(goal.memory.saturating_sub(goal.program)),
                ..self.loading(candidate)
            },
            layers,
            resident: layers,
            memory,
            program: goal.program,
            token_bytes: self.scaled(self.token_bytes(), candidate.mixture),
            why,
        }
    }

    /// Bytes of weights of the file as they would be in the types of `mixture`.
    fn scaled(&self, bytes: u64, mixture: Option<&'static Mixture>) -> u64 {
        let own = self.weight_bytes(None).max(1);
        (bytes as f64 * self.weight_bytes(mixture) as f64 / own as f64) as u64
    }

    /// Bytes that one token of a sequence at its start reads.
    fn token_bytes(&self) -> u64 {
        let batch = Batch {
            tokens: vec![TokenSource::Id(0)],
            positions: vec![0],
            seqs: vec![SeqSpan {
                tokens: 0..1,
                first: 0,
                tables: Vec::new(),
                adapters: Vec::new(),
            }],
            outputs: vec![OutputRow {
                token: 0,
                want: Want::Logits,
            }],
            ..Batch::default()
        };
        let steps = schedule(&self.model.program, &[]);
        let bytes = |step| Work::of(&self.model, step, &batch, self.options.kv_type).bytes;
        steps.iter().map(bytes).sum()
    }
}
