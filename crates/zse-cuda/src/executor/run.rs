//! Puts the launches of one step's operations on the stream.

use zse_model::executor::Batch;
use zse_model::passes::{GroupKind, Step};
use zse_model::program::{
    EmbedIndex, NodeId, Op, Program, ProgramOutput, Scoring, StateId, TensorId, ValueId,
};

use super::CudaExecutor;
use super::load::Weights;
use super::meta::Meta;
use super::plan::Plan;
use super::scratch::Scratch;
use crate::device::{Cublas, Device, Ptr};
use crate::error::CudaError;
use crate::kv::KvStore;
use crate::ops::attention::Scores;
use crate::ops::fp8::Halves;
use crate::ops::gemm_hopper::Tiles;
use crate::ops::moe::Router;
use crate::ops::norm::RmsNorm;
use crate::ops::quantize::{Columns, Form, Narrowed};
use crate::ops::rope::Rotation;
use crate::ops::{attention, elementwise, embed, fp8, kv, moe, norm, rope, rows, sample};

/// One pass over the program.
pub(super) struct Run<'a> {
    pub(super) device: &'a Device,
    pub(super) program: &'a Program,
    batch: &'a Batch,
    pub(super) weights: &'a Weights,
    pub(super) plan: &'a Plan,
    kv: &'a KvStore,
    meta: &'a Meta,
    work: Ptr,
    /// The step.
    step: usize,
    /// The value whose columns are there rounded to 8 bits.
    pub(super) rounded: Option<ValueId>,
    /// The value whose columns are there in 16 or 8 bits, and how.
    pub(super) narrowed: Option<(ValueId, Form)>,
    pub(super) cublas: Option<&'a Cublas>,
    /// The value that lies in its own place as bf16 rows.
    pub(super) in_place: Option<ValueId>,
    /// The value of which two halves lie in its own place, bf16.
    pub(super) halves: Option<(ValueId, Halves)>,
}

impl<'a> Run<'a> {
    pub(super) fn new(executor: &'a CudaExecutor, batch: &'a Batch) -> Self {
        Self {
            device: &executor.device,
            program: &executor.model.program,
            batch,
            weights: &executor.weights,
            plan: &executor.plan,
            kv: &executor.kv,
            meta: &executor.meta,
            work: executor.work.at(),
            step: 0,
            rounded: None,
            narrowed: None,
            cublas: executor.cublas.as_ref(),
            in_place: None,
            halves: None,
        }
    }

    /// All steps, and the best token of each row of logits.
    pub(super) fn all(&mut self) -> Result<(), CudaError> {
        let steps = &self.plan.steps;
        let mut at = 0;
        while at < steps.len() {
            self.step = at;
            // What a step narrows is gone with it.
            self.narrowed = None;
            at += 1;
            match (&steps[at - 1], steps.get(at)) {
                (Step::One(query), Some(Step::Group(GroupKind::RopeKvWrite, nodes)))
                    if self.is_rope(*query) =>
                {
                    self.rope_kv_write(nodes, Some(*query))?;
                    at += 1;
                }
                (Step::One(node), _) => self.node(*node)?,
                (Step::Group(kind, nodes), _) => self.group(*kind, nodes)?,
            }
        }
        if let ProgramOutput::Logits(v) = self.program.output {
            let places = self.plan.best.map(|offset| self.at(offset));
            sample::best(
                self.device,
                self.value(v),
                places,
                self.rows(v),
                self.cols(v),
            )?;
        }
        Ok(())
    }

    /// What the step works in.
    pub(super) fn scratch(&self) -> &'a Scratch {
        &self.plan.scratch[self.step]
    }

    /// A place in the arena.
    pub(super) fn at(&self, offset: usize) -> Ptr {
        self.work.offset(offset)
    }

    pub(super) fn value(&self, v: ValueId) -> Ptr {
        self.at(self.plan.value(v))
    }

    pub(super) fn cols(&self, v: ValueId) -> usize {
        self.program.value(v).cols
    }

    pub(super) fn rows(&self, v: ValueId) -> usize {
        self.batch.rows(self.program.value(v).rows)
    }

    /// Where columns are rounded to.
    pub(super) fn columns(&self) -> Columns {
        let [q, s] = self.plan.rounded.map(|offset| self.at(offset));
        Columns { q, s }
    }

    pub(super) fn op(&self, node: NodeId) -> &'a Op {
        &self.program.nodes[node.index()].op
    }

    /// The value that `node` defines.
    pub(super) fn out(&self, node: NodeId) -> ValueId {
        self.program.nodes[node.index()]
            .out
            .expect("all but writes define a value")
    }

    fn group(&mut self, kind: GroupKind, nodes: &[NodeId]) -> Result<(), CudaError> {
        match kind {
            GroupKind::Linears => {
                let linears = self.norm_of(nodes)?;
                self.linears(linears)
            }
            GroupKind::GatedUp => {
                let &[gate, up, glu] = self.norm_of(nodes)? else {
                    unreachable!("a gated projection of {nodes:?}");
                };
                let &Op::Glu { act, .. } = self.op(glu) else {
                    unreachable!("a gated projection of {nodes:?}");
                };
                self.linear(gate, Some((act, up)), self.out(glu))
            }
            GroupKind::RopeKvWrite => self.rope_kv_write(nodes, None),
            GroupKind::LinearAdd => self.linear_add(nodes[0], nodes[1]),
        }
    }

    /// Runs the norm that may stand before the linears of a group, rounding its result on the way where
    /// they want that; returns the linears.
    fn norm_of<'n>(&mut self, nodes: &'n [NodeId]) -> Result<&'n [NodeId], CudaError> {
        let &Op::RmsNorm { x, weight, eps, .. } = self.op(nodes[0]) else {
            return Ok(nodes);
        };
        let (out, linears) = (self.out(nodes[0]), &nodes[1..]);
        let form = linears.iter().find_map(|node| match *self.op(*node) {
            Op::Linear { weight, .. } => self.of(self.weights.matrix(weight).layout),
            _ => None,
        });
        let (n, cols) = (self.rows(x), self.cols(x));
        let read = form.and_then(|form| self.form(form, n, cols));
        if read == Some(Form::RowsFp8) && cols <= fp8::NORM_COLS {
            let only = self.plan.only_products[out.index()].is_some();
            let y = if only { Ptr::NULL } else { self.value(out) };
            let places = [self.value(x), self.weights.vector(weight), y];
            let [x, scale] = self.scratch().narrow.map(|offset| self.at(offset));
            fp8::rms_norm(self.device, places, eps, Narrowed { x, scale }, [n, cols])?;
            self.narrowed = Some((out, Form::RowsFp8));
            return Ok(linears);
        }
        let round = read.is_none() && form.is_some_and(Form::is_quantized);
        let tiles = read.and_then(|form| self.tiles(form, n, cols));
        let rows = read == Some(Form::Rows) && cols.is_multiple_of(32);
        let brought = round || tiles.is_some() || rows;
        let only = self.plan.only_products[out.index()].is_some() && brought;
        let norm = RmsNorm {
            x: self.value(x),
            weight: self.weights.vector(weight),
            eps,
            y: if only { Ptr::NULL } else { self.value(out) },
            rounded: if round {
                self.columns()
            } else {
                Columns::default()
            },
            tiles: tiles.unwrap_or_default(),
            narrow: if rows {
                self.at(self.scratch().narrow[0])
            } else {
                Ptr::NULL
            },
        };
        norm::rms_norm(self.device, &norm, n, cols)?;
        if round {
            self.rounded = Some(out);
        }
        if let Some(form) = read.filter(|_| tiles.is_some() || rows) {
            self.narrowed = Some((out, form));
        }
        Ok(linears)
    }

    /// Where a norm of `n` rows leaves what products read as tiles, if they do.
    fn tiles(&self, form: Form, n: usize, cols: usize) -> Option<Tiles> {
        let fits = self.device.is_hopper && cols.is_multiple_of(32);
        let at = self.at(self.scratch().narrow[0]);
        fits.then(|| Tiles::unscaled(at, form, n)).flatten()
    }

    fn node(&mut self, id: NodeId) -> Result<(), CudaError> {
        let device = self.device;
        match *self.op(id) {
            Op::Embed { table, index } => self.embed(table, index, self.out(id)),
            // They are there: no part of recorded launches, since they come from elsewhere each time.
            Op::Hidden { .. } => Ok(()),
            Op::RmsNorm {
                x,
                weight,
                eps,
                group,
            } => {
                let norm = RmsNorm {
                    x: self.value(x),
                    weight: self.weights.vector(weight),
                    eps,
                    y: self.value(self.out(id)),
                    ..RmsNorm::default()
                };
                norm::rms_norm(device, &norm, self.rows(x) * (self.cols(x) / group), group)
            }
            Op::LayerNorm {
                x,
                weight,
                bias,
                eps,
            } => {
                let weights = [
                    self.weights.vector(weight),
                    self.weights.vector_or_null(bias),
                ];
                let size = [self.rows(x), self.cols(x)];
                norm::layer_norm(
                    device,
                    self.value(x),
                    weights,
                    eps,
                    self.value(self.out(id)),
                    size,
                )
            }
            Op::Linear { .. } => self.linear(id, None, self.out(id)),
            Op::Rope {
                x,
                head_dim,
                rope: rotation,
            } => {
                let (rotation, size) = (
                    &self.weights.rotations[rotation.index()],
                    [self.rows(x), self.cols(x), head_dim],
                );
                rope::rope(
                    device,
                    rotation,
                    self.value(x),
                    self.value(self.out(id)),
                    self.meta.positions(),
                    size,
                )
            }
            Op::KvWrite { k, v, state } => self.write([k, v], state, Rotation::default(), None),
            Op::Attention {
                q,
                state,
                heads,
                scale,
                mask,
                softcap,
            } => {
                let state = self.kv.state(state);
                let scores = Scores {
                    heads,
                    scale,
                    mask,
                    softcap,
                    whole: self.plan.deterministic,
                    scratch: self.scratch().splits.map(|offset| self.at(offset)),
                };
                let out = self.out(id);
                let values = [self.value(q), self.value(out)];
                let seqs = self.meta.sequences(state.group);
                let alone = self.plan.only_products[out.index()].is_some_and(|form| {
                    let read = self.form(form, self.rows(out), self.cols(out));
                    form.is_quantized() && read.is_none()
                });
                let rounded = alone.then(|| self.columns());
                if attention::attention(device, self.kv.ty, state, values, &seqs, &scores, rounded)?
                {
                    self.rounded = Some(out);
                }
                Ok(())
            }
            Op::Glu { gate, up, act } => {
                let y = self.value(self.out(id));
                elementwise::glu(
                    device,
                    act,
                    [gate, up].map(|v| self.value(v)),
                    y,
                    self.len(gate),
                )
            }
            Op::Activation { x, act } => elementwise::activation(
                device,
                act,
                self.value(x),
                self.value(self.out(id)),
                self.len(x),
            ),
            Op::Add { a, b } => {
                let y = self.value(self.out(id));
                elementwise::add(device, [a, b].map(|v| self.value(v)), y, self.len(a))
            }
            Op::Scale { x, by } => elementwise::scale(
                device,
                self.value(x),
                self.value(self.out(id)),
                by,
                self.len(x),
            ),
            Op::SoftCap { x, cap } => elementwise::soft_cap(
                device,
                self.value(x),
                self.value(self.out(id)),
                cap,
                self.len(x),
            ),
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
                moe::route(
                    device,
                    &router,
                    self.value(logits),
                    self.value(self.out(id)),
                    self.rows(logits),
                )
            }
            Op::MoeFfn {
                x,
                route,
                gate,
                up,
                down,
                act,
                ..
            } => self.mixture([x, route], [gate, up, down], act, self.out(id)),
            Op::GatherRows { x } => {
                let size = [self.batch.outputs.len(), self.cols(x)];
                rows::gather(
                    device,
                    self.value(x),
                    self.value(self.out(id)),
                    self.meta.rows(),
                    size,
                )
            }
            Op::Pool { x, kind } => {
                let size = [self.batch.seqs.len(), self.cols(x)];
                rows::pool(
                    device,
                    kind,
                    self.value(x),
                    self.value(self.out(id)),
                    self.meta.spans(),
                    size,
                )
            }
        }
    }

    /// Numbers of a value.
    fn len(&self, v: ValueId) -> usize {
        self.rows(v) * self.cols(v)
    }

    fn embed(&self, table: TensorId, index: EmbedIndex, out: ValueId) -> Result<(), CudaError> {
        let (ids, fixed) = match index {
            EmbedIndex::Token => (self.meta.ids(), 0),
            EmbedIndex::Position => (self.meta.positions(), 0),
            EmbedIndex::Fixed(row) => (Ptr::NULL, row),
            EmbedIndex::Segment { .. } => (self.meta.segments(), 0),
        };
        let n = self.batch.tokens.len();
        embed::embed(
            self.device,
            self.weights.matrix(table),
            ids,
            fixed,
            self.value(out),
            n,
        )
    }

    fn is_rope(&self, node: NodeId) -> bool {
        matches!(self.op(node), Op::Rope { .. })
    }

    /// Rotates keys into the cache, and in the same launch the queries of the step before: they read
    /// nothing of one another.
    fn rope_kv_write(&self, nodes: &[NodeId], query: Option<NodeId>) -> Result<(), CudaError> {
        let (&Op::Rope { x: k, rope, .. }, &Op::KvWrite { v, state, .. }) =
            (self.op(nodes[0]), self.op(nodes[1]))
        else {
            unreachable!("a rotated write of {nodes:?}");
        };
        let queries = query.map(|query| {
            let &Op::Rope { x, head_dim, rope } = self.op(query) else {
                unreachable!("{query:?} is a rotation");
            };
            kv::Queries {
                x: self.value(x),
                y: self.value(self.out(query)),
                heads: self.cols(x) / head_dim,
                dim: head_dim,
                rotation: self.weights.rotations[rope.index()],
            }
        });
        self.write([k, v], state, self.weights.rotations[rope.index()], queries)
    }

    fn write(
        &self,
        sides: [ValueId; 2],
        state: StateId,
        rotation: Rotation,
        queries: Option<kv::Queries>,
    ) -> Result<(), CudaError> {
        let state = self.kv.state(state);
        let slots = self.meta.slots(state.group);
        let sides = sides.map(|side| self.value(side));
        kv::kv_write(
            self.device,
            self.kv.ty,
            sides,
            slots,
            rotation,
            state,
            queries,
        )
    }
}
