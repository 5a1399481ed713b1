//! The reference executor: f32, one thread, one operation after another, obviously right.
//!
//! Every other executor is tested against it. It decodes all weights to f32 when it is compiled
//! and sums in f64, so it is for tests and small models. Keys and values go through the budget's
//! KV type, as they do in every executor.

mod kv;
mod ops;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::adapter::{Adapter, AdapterError};
use crate::executor::{
    AdapterId, Backend, Batch, Budget, Caps, ExecError, Executor, Flight, KvType, LoadError, Masks,
    MemoryReport, Output, Outputs, Squares, Ticket, TokenSource, finish,
};
use crate::model::Model;
use crate::program::{Act, EmbedIndex, Op, ProgramOutput, Scoring, Tensor, TensorId, ValueId};
use crate::rope;

use kv::KvStore;

/// The backend of the reference executor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn caps(&self) -> Caps {
        Caps {
            name: "reference".to_owned(),
            kv_types: KvType::ALL.to_vec(),
        }
    }

    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError> {
        self.caps().check(budget)?;
        let program = &model.program;
        budget.check(program)?;
        let numbers = |t: &Tensor| t.experts * t.rows * t.cols;
        let weights: usize = program.tensors.iter().map(numbers).sum();
        let values = program.values.iter();
        let values: usize = values.map(|v| budget.max_rows(v.rows) * v.cols).sum();
        let kept = kv::kept(budget);
        kept.check(program)?;
        Ok(MemoryReport {
            weights: 4 * weights as u64,
            mapped: model.weights.mapped_bytes(0),
            kv: kept.kv_bytes(program).expect("the budget was checked"),
            activations: 4 * values as u64,
        })
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        self.caps().check(budget)?;
        budget.check(&model.program)?;
        let weights = (0..model.program.tensors.len())
            .map(|i| {
                let id = TensorId(i as u32);
                let view = model.weights.get(id);
                let decoded = view.to_f32().map_err(LoadError::weight(view.name));
                model.weights.release(id);
                decoded
            })
            .collect::<Result<Vec<_>, _>>()?;
        let ropes = model
            .program
            .ropes
            .iter()
            .map(|r| rope::frequencies(r, r.factors.map(|f| weights[f.index()].as_slice())))
            .collect();
        let kv = KvStore::new(&model.program, budget)?;
        Ok(Box::new(ReferenceExecutor {
            model,
            weights,
            ropes,
            adapters: BTreeMap::new(),
            kv,
            flight: Flight::default(),
            logits: Vec::new(),
            values: 0,
            squares: None,
        }))
    }
}

struct ReferenceExecutor {
    model: Arc<Model>,
    /// By tensor, decoded.
    weights: Vec<Vec<f32>>,
    /// By rope: angle a position of each pair, and magnitude.
    ropes: Vec<(Vec<f32>, f32)>,
    adapters: BTreeMap<AdapterId, Adapter>,
    kv: KvStore,
    flight: Flight,
    /// `[n_outputs, vocab]` of the step in flight.
    logits: Vec<f32>,
    /// The most numbers that the values of a step were.
    values: usize,
    /// What meets the weights, if that is wanted.
    squares: Option<Squares>,
}

impl Executor for ReferenceExecutor {
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        let is_loaded = |id| self.adapters.contains_key(&id);
        batch.check_with(&self.model.program, self.kv.budget(), is_loaded)?;
        for op in &batch.kv_ops {
            self.kv.apply(op)?;
        }
        let ticket = self.flight.begin(batch);
        let result = self.forward(batch);
        match self.model.program.output {
            ProgramOutput::Logits(_) => self.logits = result,
            ProgramOutput::Hidden(v) => {
                let width = self.model.program.value(v).cols;
                let rows = result.chunks_exact(width);
                let rows = rows.map(|r| Output::Hidden(r.to_vec())).collect();
                self.flight.finish(rows);
            }
            ProgramOutput::Pooled(v) => {
                let width = self.model.program.value(v).cols;
                let rows = result
                    .chunks_exact(width)
                    .map(|r| Output::Pooled(r.to_vec()));
                self.flight.finish(rows.collect());
            }
        }
        Ok(ticket)
    }

    fn sample(&mut self, ticket: Ticket, masks: &Masks) -> Result<(), ExecError> {
        if let Some(wants) = self.flight.wants(ticket)? {
            let program = &self.model.program;
            let vocab = program.value(program.output.value()).cols;
            let rows = wants.iter().zip(self.logits.chunks_exact(vocab));
            let rows = rows
                .enumerate()
                .map(|(row, (want, logits))| finish(row, want, logits, masks.get(row)))
                .collect::<Result<_, _>>()?;
            self.flight.finish(rows);
        }
        Ok(())
    }

    fn wait(&mut self, ticket: Ticket) -> Result<Outputs, ExecError> {
        self.flight.take(ticket)
    }

    fn load_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<(), AdapterError> {
        self.adapters.insert(id, adapter.clone());
        Ok(())
    }

    fn unload_adapter(&mut self, id: AdapterId) {
        self.adapters.remove(&id);
    }

    fn memory(&self) -> MemoryReport {
        let weights: u64 = self.weights.iter().map(|w| 4 * w.len() as u64).sum();
        let adapters: u64 = self.adapters.values().map(Adapter::bytes).sum();
        MemoryReport {
            weights: weights + adapters,
            mapped: self.model.weights.mapped_bytes(0),
            kv: self.kv.bytes(),
            activations: 4 * self.values as u64,
        }
    }

    fn swapped_type(&self) -> Option<KvType> {
        Some(KvType::F32)
    }

    fn start_squares(&mut self) -> bool {
        self.squares = Some(Squares::new(&self.model.program));
        true
    }

    fn end_squares(&mut self) -> Option<Squares> {
        self.squares.take()
    }
}

impl ReferenceExecutor {
    /// Runs every node; returns the output value.
    fn forward(&mut self, batch: &Batch) -> Vec<f32> {
        let model = Arc::clone(&self.model);
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); model.program.values.len()];
        for node in &model.program.nodes {
            let result = self.run(&node.op, &values, batch);
            if let Some(mut squares) = self.squares.take() {
                let hidden = self.hidden(&node.op, &values);
                let value = |v: ValueId| values[v.index()].as_slice();
                squares.observe(&model.program, &node.op, value, &hidden);
                self.squares = Some(squares);
            }
            if let Some(out) = node.out {
                debug_assert_eq!(
                    result.len(),
                    batch.rows(model.program.value(out).rows) * model.program.value(out).cols
                );
                values[out.index()] = result;
            }
        }
        self.values = self.values.max(values.iter().map(Vec::len).sum());
        std::mem::take(&mut values[model.program.output.value().index()])
    }

    /// The matrices of a mixture.
    fn experts(&self, [gate, up, down]: [TensorId; 3], act: Act) -> ops::Experts<'_> {
        let weight = |t: TensorId| self.weights[t.index()].as_slice();
        let tensor = |t: TensorId| self.model.program.tensor(t);
        ops::Experts {
            gate: weight(gate),
            up: weight(up),
            down: weight(down),
            ff: tensor(gate).rows,
            out: tensor(down).rows,
            act,
        }
    }

    /// `[rows, top_k, ff]`: what the last matrices of a mixture meet; nothing for other operations.
    fn hidden(&self, op: &Op, values: &[Vec<f32>]) -> Vec<f32> {
        let &Op::MoeFfn {
            x,
            route,
            gate,
            up,
            down,
            act,
            ..
        } = op
        else {
            return Vec::new();
        };
        let experts = self.experts([gate, up, down], act);
        let cols = |v: ValueId| self.model.program.value(v).cols;
        let rows = values[x.index()].chunks_exact(cols(x));
        let mut hidden = Vec::new();
        for (x, route) in rows.zip(values[route.index()].chunks_exact(cols(route))) {
            for &expert in &route[..route.len() / 2] {
                hidden.extend(ops::moe_hidden(x, expert as usize, &experts, &|_, _| {}));
            }
        }
        hidden
    }

    fn run(&mut self, op: &Op, values: &[Vec<f32>], batch: &Batch) -> Vec<f32> {
        let program = &self.model.program;
        let value = |v: ValueId| values[v.index()].as_slice();
        let cols = |v: ValueId| program.value(v).cols;
        let weight = |t: TensorId| self.weights[t.index()].as_slice();
        match *op {
            Op::Embed { table, index } => {
                let ids = batch.tokens.iter().map(|&TokenSource::Id(id)| id);
                let ids: Vec<u32> = match index {
                    EmbedIndex::Token => ids.collect(),
                    EmbedIndex::Position => batch.positions.clone(),
                    EmbedIndex::Fixed(row) => vec![row; batch.tokens.len()],
                    EmbedIndex::Segment { separator } => batch.segments(separator),
                };
                let cols = program.tensor(table).cols;
                ops::embed(weight(table), cols, ids.into_iter())
            }
            Op::Hidden { .. } => batch.hidden.to_vec(),
            Op::RmsNorm {
                x,
                weight: w,
                eps,
                group,
            } => ops::rms_norm(value(x), weight(w), eps, group),
            Op::LayerNorm {
                x,
                weight: w,
                bias,
                eps,
            } => ops::layer_norm(value(x), weight(w), bias.map(weight), eps),
            Op::Linear {
                x,
                weight: w,
                bias,
                slot,
            } => {
                let mut out = ops::linear(value(x), weight(w), cols(x), bias.map(weight));
                for adapted in batch.adapted(program.value(x).rows) {
                    let Some(site) = self.adapters[&adapted.adapter].site(slot) else {
                        continue;
                    };
                    for (&row, &scale) in adapted.rows.iter().zip(&adapted.scales) {
                        let x = &value(x)[row as usize * cols(x)..][..cols(x)];
                        let out = &mut out[row as usize * site.b.rows..][..site.b.rows];
                        ops::add_low_rank(x, site, scale, out);
                    }
                }
                out
            }
            Op::Rope { x, head_dim, rope } => {
                let (frequencies, magnitude) = &self.ropes[rope.index()];
                let rotation = ops::Rotation {
                    style: program.ropes[rope.index()].style,
                    frequencies,
                    magnitude: *magnitude,
                };
                ops::rope(value(x), cols(x), head_dim, &rotation, &batch.positions)
            }
            Op::KvWrite { k, v, state } => {
                self.kv.write(state, batch, value(k), value(v));
                Vec::new()
            }
            Op::Attention {
                q,
                state,
                heads,
                scale,
                mask,
                softcap,
            } => {
                let spec = crate::AttentionSpec {
                    heads,
                    scale,
                    mask,
                    softcap,
                };
                self.kv.attend(state, batch, value(q), &spec)
            }
            Op::Glu { gate, up, act } => {
                ops::zip(value(gate), value(up), |g, u| ops::activate(act, g) * u)
            }
            Op::Activation { x, act } => ops::map(value(x), |v| ops::activate(act, v)),
            Op::Add { a, b } => ops::zip(value(a), value(b), |a, b| a + b),
            Op::Scale { x, by } => ops::map(value(x), |v| v * by),
            Op::SoftCap { x, cap } => ops::map(value(x), |v| cap * (v / cap).tanh()),
            Op::MoeRoute {
                logits,
                top_k,
                scoring: Scoring::Softmax,
                normalize,
                scale,
            } => ops::moe_route(value(logits), cols(logits), top_k, normalize, scale),
            Op::MoeFfn {
                x,
                route,
                gate,
                up,
                down,
                act,
                slots,
            } => {
                let experts = self.experts([gate, up, down], act);
                let adapted = batch.adapted(program.value(x).rows);
                let add = |row: usize, side: usize, expert, x: &[f32], out: &mut [f32]| {
                    for used in &adapted {
                        let adapter = &self.adapters[&used.adapter];
                        let place = used.rows.binary_search(&(row as u32));
                        let site = adapter.expert(slots[side], expert);
                        if let (Ok(i), Some(site)) = (place, site) {
                            ops::add_low_rank(x, site, used.scales[i], out);
                        }
                    }
                };
                let top_k = cols(route) / 2;
                ops::moe_ffn(value(x), cols(x), value(route), top_k, &experts, &add)
            }
            Op::GatherRows { x } => {
                let rows = batch.outputs.iter().map(|o| o.token as u32);
                ops::embed(value(x), cols(x), rows)
            }
            Op::Pool { x, kind } => batch
                .seqs
                .iter()
                .flat_map(|s| {
                    let rows = s.tokens.start * cols(x)..s.tokens.end * cols(x);
                    ops::pool(&value(x)[rows], cols(x), kind)
                })
                .collect(),
        }
    }
}
