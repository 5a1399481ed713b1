//! One forward pass.

use std::time::Instant;

use zse_model::executor::{Batch, Profile, Squares, TokenSource, Work};
use zse_model::passes::{BufferPlan, GroupKind, Step};
use zse_model::program::{
    Act, EmbedIndex, LinearSlot, NodeId, Op, Program, Scoring, StateId, TensorId, ValueId,
};

use super::adapters::{Adapted, Scratch};
use super::load::Weights;
use super::{CpuExecutor, Memory};
use crate::kv::{KvStore, NewRows};
use crate::ops::attention::{Attention, attention};
use crate::ops::linear::{Input, Product, Weight, products};
use crate::ops::moe::{Experts, Router, Tokens, moe_ffn, moe_route};
use crate::ops::rope::{Rotations, rope};
use crate::ops::{Ctx, elementwise, embed, norm, pooling, resize};
use crate::par::SharedSlice;
use crate::pool;

/// A forward pass in progress.
pub(super) struct Run<'a> {
    ctx: Ctx<'a>,
    batch: &'a Batch,
    program: &'a Program,
    steps: &'a [Step],
    plan: &'a BufferPlan,
    weights: &'a Weights,
    adapted: Adapted<'a>,
    rotations: &'a [Rotations],
    kv: &'a mut KvStore,
    memory: &'a mut Memory,
    /// Which value [`Memory::rounded`] is of.
    rounded: Option<ValueId>,
}

impl<'a> Run<'a> {
    /// A pass of `batch` on the threads of `step`.
    pub(super) fn new(
        executor: &'a mut CpuExecutor,
        batch: &'a Batch,
        step: &'a pool::Step<'a>,
    ) -> Self {
        let CpuExecutor {
            model,
            arch,
            weights,
            adapters,
            rotations,
            steps,
            plan,
            kv,
            memory,
            ..
        } = executor;
        for (buffer, planned) in memory.buffers.iter_mut().zip(&plan.buffers) {
            let len = batch.rows(planned.rows) * planned.cols;
            if buffer.len() < len {
                resize(buffer, len, 0.0);
            }
        }
        // The budget was checked: a batch has no more tokens than 32 bits count.
        let known = memory.identity.len() as u32;
        let columns = known..batch.tokens.len() as u32;
        memory.identity.reserve_exact(columns.len());
        memory.identity.extend(columns);
        Self {
            ctx: Ctx { arch: *arch, step },
            batch,
            program: &model.program,
            steps,
            plan,
            weights,
            adapted: Adapted::new(adapters, batch),
            rotations,
            kv,
            memory,
            rounded: None,
        }
    }

    /// Runs all steps.
    pub(super) fn steps(&mut self) {
        for step in self.steps {
            self.step(step);
        }
    }

    /// Runs all steps and takes the time of each; `work` says what it has to do.
    pub(super) fn profiled_steps(&mut self, profile: &mut Profile, work: impl Fn(&Step) -> Work) {
        profile.passes += 1;
        for (step, part) in self.steps.iter().zip(&mut profile.parts) {
            let start = Instant::now();
            self.step(step);
            part.time += start.elapsed();
            part.work.add(work(step));
        }
    }

    /// Runs all steps, and adds up the squares of what meets their weights: the inputs of a step are
    /// in their buffers until the next.
    pub(super) fn observed_steps(&mut self, squares: &mut Squares) {
        for step in self.steps {
            self.step(step);
            for node in step.nodes() {
                let hidden = self.memory.moe.hidden();
                squares.observe(self.program, self.op(*node), |v| self.value(v), hidden);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::One(node) => self.node(*node),
            Step::Group(kind, nodes) => self.group(*kind, nodes),
        }
    }

    /// `[rows, cols]` of a value.
    fn value(&self, v: ValueId) -> &[f32] {
        &self.memory.buffers[self.plan.buffer(v)][..self.len(v)]
    }

    fn len(&self, v: ValueId) -> usize {
        let value = self.program.value(v);
        self.batch.rows(value.rows) * value.cols
    }

    fn cols(&self, v: ValueId) -> usize {
        self.program.value(v).cols
    }

    fn op(&self, node: NodeId) -> &'a Op {
        &self.program.nodes[node.index()].op
    }

    /// Computes value `v` by `f`. A result's buffer is never one of its inputs'.
    fn define(&mut self, v: ValueId, f: impl FnOnce(&mut Self, &mut [f32])) {
        let (buffer, len) = (self.plan.buffer(v), self.len(v));
        let mut out = std::mem::take(&mut self.memory.buffers[buffer]);
        f(self, &mut out[..len]);
        self.memory.buffers[buffer] = out;
    }

    /// Runs a group.
    fn group(&mut self, kind: GroupKind, nodes: &[NodeId]) {
        match kind {
            GroupKind::Linears => {
                let linears = self.norm_of(nodes);
                self.linears(linears);
            }
            GroupKind::GatedUp => {
                let &[gate, up, glu] = self.norm_of(nodes) else {
                    unreachable!("a gated projection of {nodes:?}");
                };
                self.gated_up(gate, up, glu);
            }
            GroupKind::RopeKvWrite => {
                let (&Op::Rope { x, rope, .. }, &Op::KvWrite { v, state, .. }) =
                    (self.op(nodes[0]), self.op(nodes[1]))
                else {
                    unreachable!("a rotated write of {nodes:?}");
                };
                self.kv_write(x, v, state, Some(&self.rotations[rope.index()]));
            }
            GroupKind::LinearAdd => unreachable!("not claimed"),
        }
    }

    /// Runs the norm that may stand before the linears of a group; returns the rest.
    fn norm_of<'n>(&mut self, nodes: &'n [NodeId]) -> &'n [NodeId] {
        match self.op(nodes[0]) {
            Op::Linear { .. } => nodes,
            _ => {
                self.node(nodes[0]);
                &nodes[1..]
            }
        }
    }

    /// Runs one operation.
    fn node(&mut self, id: NodeId) {
        let node = &self.program.nodes[id.index()];
        match node.op {
            Op::KvWrite { k, v, state } => self.kv_write(k, v, state, None),
            Op::Linear { .. } => self.linears(&[id]),
            _ => {
                let out = node.out.expect("all other operations define a value");
                self.define(out, |run, out| run.compute(&node.op, out));
            }
        }
    }

    /// Computes the result of an operation that has one.
    fn compute(&mut self, op: &Op, out: &mut [f32]) {
        let ctx = self.ctx;
        let (program, batch) = (self.program, self.batch);
        let vector = |t: TensorId| self.weights.vector(t);
        match *op {
            Op::Embed { table, index } => {
                let ids = batch.tokens.iter().map(|&TokenSource::Id(id)| id);
                let ids: Vec<u32> = match index {
                    EmbedIndex::Token => ids.collect(),
                    EmbedIndex::Position => batch.positions.clone(),
                    EmbedIndex::Fixed(row) => vec![row; batch.tokens.len()],
                    EmbedIndex::Segment { separator } => batch.segments(separator),
                };
                embed::embed(&ctx, self.weights.matrix(table), &ids, out);
            }
            Op::Hidden { .. } => out.copy_from_slice(&batch.hidden),
            Op::RmsNorm { x, weight, eps, .. } => {
                norm::rms_norm(&ctx, self.value(x), self.cols(x), vector(weight), eps, out);
            }
            Op::LayerNorm {
                x,
                weight,
                bias,
                eps,
            } => {
                norm::layer_norm(
                    &ctx,
                    self.value(x),
                    vector(weight),
                    bias.map(vector),
                    eps,
                    out,
                );
            }
            Op::Rope {
                x,
                head_dim,
                rope: id,
            } => {
                let rotations = &self.rotations[id.index()];
                rope(&ctx, rotations, self.value(x), self.cols(x), head_dim, out);
            }
            Op::Attention {
                q,
                state,
                heads,
                scale,
                mask,
                softcap,
            } => {
                let paged = program.paged(state);
                let a = Attention {
                    q: self.value(q),
                    kv: self.kv,
                    state,
                    seqs: &batch.seqs,
                    heads,
                    kv_heads: paged.kv_heads,
                    k_dim: paged.k_dim,
                    v_dim: paged.v_dim,
                    scale,
                    mask,
                    softcap,
                };
                attention(&ctx, &a, out);
            }
            Op::Glu { gate, up, act } => {
                elementwise::glu(&ctx, act, self.value(gate), self.value(up), out);
            }
            Op::Activation { x, act } => elementwise::activation(&ctx, act, self.value(x), out),
            Op::Add { a, b } => elementwise::add(&ctx, self.value(a), self.value(b), out),
            Op::Scale { x, by } => elementwise::scale(&ctx, self.value(x), by, out),
            Op::SoftCap { x, cap } => elementwise::soft_cap(&ctx, self.value(x), cap, out),
            Op::MoeRoute {
                logits,
                top_k,
                scoring: Scoring::Softmax,
                normalize,
                scale,
            } => {
                let router = Router {
                    experts: self.cols(logits),
                    top_k,
                    normalize,
                    scale,
                };
                moe_route(&ctx, router, self.value(logits), out);
            }
            Op::MoeFfn {
                x,
                route,
                gate,
                up,
                down,
                act,
                slots,
            } => {
                let [gate, up, down] = [gate, up, down].map(|t| self.weights.matrix(t));
                let mut scratch = std::mem::take(&mut self.memory.moe);
                let tokens = Tokens {
                    x: self.value(x),
                    route: self.value(route),
                    top_k: self.cols(route) / 2,
                };
                moe_ffn(
                    &ctx,
                    &Experts {
                        gate,
                        up,
                        down,
                        act,
                    },
                    tokens,
                    &self.adapted.of_experts(slots, program.value(x).rows),
                    &mut scratch,
                    out,
                );
                self.memory.moe = scratch;
            }
            Op::GatherRows { x } => {
                let rows = batch.outputs.iter().map(|o| o.token);
                embed::gather_rows(self.value(x), self.cols(x), rows, out);
            }
            Op::Pool { x, kind } => {
                let seqs = batch.seqs.iter().map(|s| s.tokens.clone());
                pooling::pool(self.value(x), self.cols(x), kind, seqs, out);
            }
            Op::KvWrite { .. } | Op::Linear { .. } => unreachable!("run by `node`"),
        }
    }

    fn kv_write(&mut self, k: ValueId, v: ValueId, state: StateId, rotations: Option<&Rotations>) {
        let of = |id: ValueId| &self.memory.buffers[self.plan.buffer(id)];
        let new = NewRows { k: of(k), v: of(v) };
        let rotation = rotations.map(|r| |token| r.of(token));
        self.kv
            .write(&self.ctx, state, &self.batch.seqs, &new, rotation);
    }

    /// Products of one input in one region.
    fn linears(&mut self, nodes: &[NodeId]) {
        let linears: Vec<(Linear, ValueId)> = nodes
            .iter()
            .map(|n| {
                let linear = Linear::of(self.op(*n)).zip(self.program.nodes[n.index()].out);
                linear.expect("a group of linears has no others")
            })
            .collect();
        let matrices: Vec<Linear> = linears.iter().map(|(linear, _)| *linear).collect();
        self.round(&matrices);
        let mut outs: Vec<Vec<f32>> = linears
            .iter()
            .map(|(_, out)| std::mem::take(&mut self.memory.buffers[self.plan.buffer(*out)]))
            .collect();
        let shared: Vec<SharedSlice<'_, f32>> =
            outs.iter_mut().map(|out| SharedSlice::new(out)).collect();
        let parts = linears
            .iter()
            .zip(&shared)
            .map(|((linear, _), out)| self.product(linear, None, out));
        // SAFETY: each product has an `out` of its own and names each of its rows once.
        unsafe { products(&self.ctx, &parts.collect::<Vec<_>>()) };
        drop(shared);
        for ((linear, id), mut out) in linears.iter().zip(outs) {
            let len = self.len(*id);
            self.adapt(linear, |row| row as usize, &mut out[..len]);
            self.memory.buffers[self.plan.buffer(*id)] = out;
        }
    }

    /// `act(gate) * up` in one region.
    fn gated_up(&mut self, gate: NodeId, up: NodeId, glu: NodeId) {
        let (Some(gate), Some(up), &Op::Glu { act, .. }, Some(out)) = (
            Linear::of(self.op(gate)),
            Linear::of(self.op(up)),
            self.op(glu),
            self.program.nodes[glu.index()].out,
        ) else {
            unreachable!("a gated projection of {gate:?}, {up:?} and {glu:?}");
        };
        self.round(&[gate, up]);
        let rows = self.program.value(gate.x).rows;
        let adapted = self.adapted.rows(&[gate.slot, up.slot], rows);
        self.define(out, |run, out| {
            let (up_weight, shared) = (run.weight(&up), SharedSlice::new(out));
            let mut product = run.product(&gate, Some((act, up_weight)), &shared);
            let is_plain = |row: &u32| adapted.binary_search(row).is_err();
            let plain: Vec<u32>;
            if !adapted.is_empty() {
                plain = product.columns.iter().copied().filter(is_plain).collect();
                (product.columns, product.to) = (&plain, &plain);
            }
            // SAFETY: the one product names each row of `out` once.
            unsafe { products(&run.ctx, &[product]) };
            if !adapted.is_empty() {
                run.adapted_gated_up([gate, up], act, &adapted, out);
            }
        });
    }

    /// `act(gate) * up` of `rows`, to which adapters add something before the activation.
    fn adapted_gated_up(&mut self, sides: [Linear; 2], act: Act, rows: &[u32], out: &mut [f32]) {
        let mut scratch = std::mem::take(&mut self.memory.adapters);
        let cols = out.len() / self.batch.rows(self.program.value(sides[0].x).rows);
        let len = rows.len() * cols;
        let mut values = [&mut scratch.gate, &mut scratch.up].map(std::mem::take);
        for (linear, value) in sides.iter().zip(&mut values) {
            resize(value, len, 0.0);
            let in_order = &self.memory.identity[..rows.len()];
            let shared = SharedSlice::new(value);
            let product = Product {
                columns: rows,
                to: in_order,
                ..self.product(linear, None, &shared)
            };
            // SAFETY: the one product names each row of `value` once.
            unsafe { products(&self.ctx, &[product]) };
            let place = |row| rows.binary_search(&row).expect("of all adapted rows");
            self.add_adapted(linear, place, &mut scratch, value);
        }
        resize(&mut scratch.gated, len, 0.0);
        let [gate, up] = &values;
        elementwise::glu(&self.ctx, act, gate, up, &mut scratch.gated);
        for (&row, values) in rows.iter().zip(scratch.gated.chunks_exact(cols)) {
            out[row as usize * cols..][..cols].copy_from_slice(values);
        }
        [scratch.gate, scratch.up] = values;
        self.memory.adapters = scratch;
    }

    /// Adds what adapters add to the product `linear`, of which `out` has row `place(i)` for row `i`.
    fn adapt(&mut self, linear: &Linear, place: impl Fn(u32) -> usize + Sync, out: &mut [f32]) {
        if self.adapted.is_empty() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.memory.adapters);
        self.add_adapted(linear, place, &mut scratch, out);
        self.memory.adapters = scratch;
    }

    fn add_adapted(
        &self,
        linear: &Linear,
        place: impl Fn(u32) -> usize + Sync,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let x = (self.value(linear.x), self.program.value(linear.x).rows);
        self.adapted
            .add(&self.ctx, linear.slot, x, place, scratch, out);
    }

    /// Rounds the common input of `linears`, if one of them wants it rounded and it is not yet.
    fn round(&mut self, linears: &[Linear]) {
        let x = linears[0].x;
        let quantized = |l: &Linear| self.weights.matrix(l.weight).ty().is_quantized();
        if self.rounded != Some(x) && linears.iter().any(quantized) {
            let mut rounded = std::mem::take(&mut self.memory.rounded);
            rounded.round(&self.ctx, self.value(x), self.cols(x));
            self.memory.rounded = rounded;
            self.rounded = Some(x);
        }
    }

    fn weight(&self, linear: &Linear) -> Weight<'_> {
        let bias = linear.bias.map(|b| self.weights.vector(b));
        Weight {
            matrix: self.weights.matrix(linear.weight),
            expert: 0,
            bias,
        }
    }

    /// The product of all rows of the input.
    fn product<'p>(
        &'p self,
        linear: &Linear,
        gated: Option<(Act, Weight<'p>)>,
        out: &'p SharedSlice<'p, f32>,
    ) -> Product<'p> {
        let n = self.batch.rows(self.program.value(linear.x).rows);
        let all = &self.memory.identity[..n];
        let input = Input {
            x: self.value(linear.x),
            rounded: &self.memory.rounded,
        };
        Product {
            weight: self.weight(linear),
            gated,
            input,
            columns: all,
            to: all,
            out,
        }
    }
}

/// The parts of an [`Op::Linear`].
#[derive(Clone, Copy)]
struct Linear {
    x: ValueId,
    weight: TensorId,
    bias: Option<TensorId>,
    slot: LinearSlot,
}

impl Linear {
    fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Linear {
                x,
                weight,
                bias,
                slot,
            } => Some(Self {
                x,
                weight,
                bias,
                slot,
            }),
            _ => None,
        }
    }
}
