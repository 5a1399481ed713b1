//! A model on two devices, one after the other: its first layers on one, the last layers and the output on
//! the other. For models that a GPU has no room for.

use std::sync::Arc;

use super::{
    AdapterId, Backend, Batch, BlockBytes, Budget, Caps, ExecError, Executor, KvOp, KvType,
    LoadError, Masks, MemoryReport, Output, Outputs, SeqSpan, Ticket,
};
use crate::adapter::{Adapter, AdapterError};
use crate::model::Model;
use crate::program::Program;

/// Gives the last layers of a model, with the output, to one backend, and the layers before to another.
///
/// The rows of the tokens pass from one to the other once a step. The keys and values of a layer are where
/// the layer is; to the engine a block is one block all the same.
pub struct Staged {
    front: Box<dyn Backend>,
    back: Box<dyn Backend>,
    layers: Option<usize>,
}

impl Staged {
    /// `layers` layers go to `back`, at most all; `None`: as many as it has room for.
    pub fn new(front: Box<dyn Backend>, back: Box<dyn Backend>, layers: Option<usize>) -> Self {
        Self {
            front,
            back,
            layers,
        }
    }

    /// The parts of `model`: before the layers of `back`, and those.
    fn parts(&self, model: &Model, budget: &Budget) -> Result<Parts, LoadError> {
        let all = model.info.layers;
        if let Some(layers) = self.layers {
            return match layers {
                0 => Ok(Parts::Front),
                n if n >= all => Ok(Parts::Back),
                n => split(model, all - n)?.ok_or_else(|| LoadError::Unsupported {
                    device: self.caps().name,
                    what: format!("its layers cannot be shared out, {n} of {all}"),
                }),
            };
        }
        let Some(available) = self.back.available()? else {
            return Ok(Parts::Back);
        };
        let fits = |model: &Model| -> Result<bool, LoadError> {
            let plan = self.back.plan(model, budget)?;
            Ok(plan.total().saturating_sub(plan.mapped) <= available)
        };
        // A model that cannot be split is refused as a whole.
        if fits(model)? || model.split(all.saturating_sub(1)).is_none() {
            return Ok(Parts::Back);
        }
        let (mut best, mut least, mut most) = (Parts::Front, 1, all.saturating_sub(1));
        while least <= most {
            let n = least.midpoint(most);
            let Some(Parts::Both(parts)) = split(model, all - n)? else {
                break;
            };
            match fits(&parts[1])? {
                true => {
                    best = Parts::Both(parts);
                    least = n + 1;
                }
                false => most = n - 1,
            }
        }
        Ok(best)
    }
}

/// What goes where.
enum Parts {
    /// All of it to the front.
    Front,
    /// All of it to the back.
    Back,
    /// One part to each.
    Both(Box<[Model; 2]>),
}

/// `model` before `layer`, and from there on; `None` if it cannot be split.
fn split(model: &Model, layer: usize) -> Result<Option<Parts>, LoadError> {
    let parts = model.split(layer).transpose();
    let parts = parts.map_err(|error| LoadError::Device(error.to_string()))?;
    Ok(parts.map(|parts| Parts::Both(Box::new(parts))))
}

impl Backend for Staged {
    fn caps(&self) -> Caps {
        let (front, back) = (self.front.caps(), self.back.caps());
        let both = |ty: &KvType| front.kv_types.contains(ty);
        Caps {
            name: back.name,
            kv_types: back.kv_types.into_iter().filter(both).collect(),
        }
    }

    fn place(&self, model: &Model, budget: &Budget) -> Result<String, LoadError> {
        match self.parts(model, budget)? {
            Parts::Front => self.front.place(model, budget),
            Parts::Back => self.back.place(model, budget),
            Parts::Both(parts) => {
                let [front, back] = &*parts;
                Ok(format!(
                    "{}, {} of {} layers; before these {}",
                    self.back.place(back, budget)?,
                    layers(&back.program),
                    model.info.layers,
                    self.front.place(front, budget)?,
                ))
            }
        }
    }

    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError> {
        match self.parts(model, budget)? {
            Parts::Front => self.front.plan(model, budget),
            Parts::Back => self.back.plan(model, budget),
            Parts::Both(parts) => {
                let [front, back] = &*parts;
                let plans = [
                    self.front.plan(front, budget)?,
                    self.back.plan(back, budget)?,
                ];
                Ok(sum(model, plans))
            }
        }
    }

    fn available(&self) -> Result<Option<u64>, LoadError> {
        self.back.available()
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        match self.parts(&model, budget)? {
            Parts::Front => self.front.compile(model, budget),
            Parts::Back => self.back.compile(model, budget),
            Parts::Both(parts) => {
                let [front, back] = *parts;
                let groups = [&front, &back].map(|part| groups(&model.program, &part.program));
                Ok(Box::new(StagedExecutor {
                    front: self.front.compile(Arc::new(front), budget)?,
                    back: self.back.compile(Arc::new(back), budget)?,
                    groups,
                    model,
                    budget: budget.clone(),
                    swapped: Vec::new(),
                    front_bytes: 0,
                }))
            }
        }
    }
}

/// Layers that have operations in a part.
fn layers(program: &Program) -> usize {
    let mut layers: Vec<u32> = program.nodes.iter().filter_map(|n| n.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    layers.len()
}

/// The groups of `whole`, by their numbers there, that hold the states of `part`, in the order of the part's
/// own groups.
fn groups(whole: &Program, part: &Program) -> Vec<usize> {
    let all = whole.kv_groups();
    let of = |window| all.iter().position(|group| group.window == window);
    let own = part.kv_groups();
    own.iter().filter_map(|group| of(group.window)).collect()
}

/// What both take. Of a model that is part of the program each says all of it.
fn sum(model: &Model, [a, b]: [MemoryReport; 2]) -> MemoryReport {
    let mapped = match model.weights.checkpoint().is_mapped() {
        true => a.mapped.saturating_add(b.mapped),
        false => a.mapped.max(b.mapped),
    };
    MemoryReport {
        weights: a.weights.saturating_add(b.weights),
        mapped,
        kv: a.kv.saturating_add(b.kv),
        activations: a.activations.saturating_add(b.activations),
    }
}

/// A model on two devices. Its steps are those of `back`: once it has been submitted there, `front` is done.
struct StagedExecutor {
    front: Box<dyn Executor>,
    back: Box<dyn Executor>,
    /// Of each, the model's KV groups that it has.
    groups: [Vec<usize>; 2],
    model: Arc<Model>,
    budget: Budget,
    /// Blocks on their way out: where to, and both parts.
    swapped: Vec<(BlockBytes, [BlockBytes; 2])>,
    /// Bytes of a block of `front`, once one was swapped out.
    front_bytes: usize,
}

impl StagedExecutor {
    /// Puts together what was swapped out.
    fn join_swapped(&mut self) {
        for (to, [front, back]) in self.swapped.drain(..) {
            let (front, back) = (front.lock(), back.lock());
            self.front_bytes = front.len();
            *to.lock() = [&front[..], &back[..]].concat();
        }
    }

    /// The operations on blocks of both.
    fn kv_ops(&mut self, ops: &[KvOp]) -> [Vec<KvOp>; 2] {
        let mut both = [Vec::new(), Vec::new()];
        for op in ops {
            match op {
                &KvOp::Copy { group, from, to } => {
                    for (ops, groups) in both.iter_mut().zip(&self.groups) {
                        let group = groups.iter().position(|&g| g == group);
                        ops.extend(group.map(|group| KvOp::Copy { group, from, to }));
                    }
                }
                KvOp::SwapOut { from, to } => {
                    let parts = [BlockBytes::default(), BlockBytes::default()];
                    for (ops, to) in both.iter_mut().zip(parts.iter().cloned()) {
                        ops.push(KvOp::SwapOut { from: *from, to });
                    }
                    self.swapped.retain(|(known, _)| !known.is(to));
                    self.swapped.push((to.clone(), parts));
                }
                KvOp::SwapIn { from, to } => {
                    let known = self.swapped.iter().find(|(known, _)| known.is(from));
                    let parts = known.map(|(_, parts)| parts.clone()).unwrap_or_else(|| {
                        let bytes = from.lock();
                        let (front, back) = bytes.split_at(self.front_bytes.min(bytes.len()));
                        [front, back].map(|part| BlockBytes::new(part.to_vec()))
                    });
                    for (ops, from) in both.iter_mut().zip(parts) {
                        ops.push(KvOp::SwapIn { from, to: *to });
                    }
                }
            }
        }
        both
    }

    /// The sequences with the tables of a part.
    fn seqs(&self, batch: &Batch, part: usize) -> Vec<SeqSpan> {
        let tables = |seq: &SeqSpan| {
            let groups = self.groups[part].iter();
            groups.map(|&group| seq.tables[group].clone()).collect()
        };
        let seqs = batch.seqs.iter();
        seqs.map(|seq| SeqSpan {
            tables: tables(seq),
            tokens: seq.tokens.clone(),
            adapters: seq.adapters.clone(),
            ..*seq
        })
        .collect()
    }
}

impl Executor for StagedExecutor {
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        // Whether adapters are loaded, the parts know.
        batch.check_with(&self.model.program, &self.budget, |_| true)?;
        self.join_swapped();
        let [front_ops, back_ops] = self.kv_ops(&batch.kv_ops);
        let first = self.front.submit(&Batch {
            kv_ops: front_ops,
            tokens: batch.tokens.clone(),
            positions: batch.positions.clone(),
            seqs: self.seqs(batch, 0),
            ..Batch::default()
        })?;
        let rows = self.front.wait(first)?.rows;
        let hidden: Vec<f32> = rows.into_iter().flat_map(numbers).collect();
        self.back.submit(&Batch {
            kv_ops: back_ops,
            tokens: batch.tokens.clone(),
            hidden: hidden.into(),
            positions: batch.positions.clone(),
            seqs: self.seqs(batch, 1),
            outputs: batch.outputs.clone(),
        })
    }

    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError> {
        let sampled = self.back.sample(ticket, masks);
        if sampled.is_err() {
            // Nobody will wait for the step, but what it swapped out is swapped out.
            self.join_swapped();
        }
        sampled
    }

    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError> {
        let outputs = self.back.wait(ticket)?;
        self.join_swapped();
        Ok(outputs)
    }

    fn load_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<(), AdapterError> {
        self.front.load_adapter(id, adapter)?;
        let loaded = self.back.load_adapter(id, adapter);
        if loaded.is_err() {
            self.front.unload_adapter(id);
        }
        loaded
    }

    fn unload_adapter(&mut self, id: AdapterId) {
        self.front.unload_adapter(id);
        self.back.unload_adapter(id);
    }

    fn memory(&self) -> MemoryReport {
        sum(&self.model, [self.front.memory(), self.back.memory()])
    }

    fn swapped_type(&self) -> Option<KvType> {
        let of = [&self.front, &self.back].map(|part| part.swapped_type());
        of[0].filter(|_| of[0] == of[1])
    }
}

/// The numbers of a row that is handed over.
fn numbers(row: Output) -> Vec<f32> {
    match row {
        Output::Hidden(row) => row,
        // A program that ends in hidden rows gives nothing else.
        _ => Vec::new(),
    }
}
