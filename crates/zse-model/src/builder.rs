//! Writes a [`Program`] while an architecture describes its forward pass.
//!
//! Methods never fail in the middle of a description: the first problem (a tensor that the file
//! lacks, a shape that does not fit) is kept, later calls do nothing and return ids of no meaning,
//! and [`Builder::finish`] returns it. So an architecture reads like its paper.

use std::ops::Range;
use std::sync::Arc;

use zse_format::Checkpoint;

use crate::error::ModelError;
use crate::passes::gather_early;
use crate::program::{
    Act, EmbedIndex, LinearSlot, Mask, Node, Op, Paged, PoolKind, Program, ProgramOutput, Rope,
    RopeId, Scoring, State, StateId, StateKind, Tensor, TensorId, ValueId,
};
use crate::weights::check_tensor;

/// Where a tensor belongs: a layer's `blk.{l}.` or the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(Option<u32>);

/// The site of tensors that belong to no layer.
pub const TOP: Site = Site(None);

impl From<usize> for Site {
    fn from(layer: usize) -> Self {
        Self(Some(layer as u32))
    }
}

/// Settings of an [`Op::Attention`] beyond its query and state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Factor on the scores; `1 / sqrt(head_dim)` in most models.
    pub scale: f32,
    /// Who sees whom.
    pub mask: Mask,
    /// Bound of the scores, if any.
    pub softcap: Option<f32>,
}

/// Builds a [`Program`]. See the module documentation.
pub struct Builder {
    checkpoint: Arc<Checkpoint>,
    program: Program,
    layer: Option<u32>,
    slots: u32,
    error: Option<ModelError>,
}

impl Builder {
    /// An empty program over the tensors of `checkpoint`.
    pub fn new(name: &str, checkpoint: Arc<Checkpoint>) -> Self {
        let program = Program {
            name: name.to_owned(),
            values: Vec::new(),
            tensors: Vec::new(),
            ropes: Vec::new(),
            states: Vec::new(),
            nodes: Vec::new(),
            output: ProgramOutput::Logits(ValueId(0)),
        };
        Self {
            checkpoint,
            program,
            layer: None,
            slots: 0,
            error: None,
        }
    }

    /// Whether the file has `name` at `site` (with `.weight`, as [`Builder::weight`] spells it).
    pub fn has(&self, site: impl Into<Site>, name: &str) -> bool {
        self.checkpoint
            .tensor(&full_name(site.into(), name, "weight"))
            .is_some()
    }

    /// Rows of `{site}{name}.weight` in the file, if it is there.
    pub fn stored_rows(&self, site: impl Into<Site>, name: &str) -> Option<usize> {
        let view = self
            .checkpoint
            .tensor(&full_name(site.into(), name, "weight"))?;
        Some(view.shape.get(1).map_or(1, |&rows| rows as usize))
    }

    /// The matrix `{site}{name}.weight`, `[rows, cols]`.
    pub fn weight(
        &mut self,
        site: impl Into<Site>,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> TensorId {
        let name = full_name(site.into(), name, "weight");
        self.whole(name, rows, cols, 1)
    }

    /// `experts` stacked matrices `{site}{name}.weight`, each `[rows, cols]`.
    pub fn experts(
        &mut self,
        site: impl Into<Site>,
        name: &str,
        experts: usize,
        [rows, cols]: [usize; 2],
    ) -> TensorId {
        let name = full_name(site.into(), name, "weight");
        self.whole(name, rows, cols, experts)
    }

    /// The vector `{site}{name}.weight` of `len` numbers.
    pub fn vector(&mut self, site: impl Into<Site>, name: &str, len: usize) -> TensorId {
        self.weight(site, name, 1, len)
    }

    /// The vector `{site}{name}.bias` of `len` numbers, `None` where the file has none.
    pub fn bias(&mut self, site: impl Into<Site>, name: &str, len: usize) -> Option<TensorId> {
        let name = full_name(site.into(), name, "bias");
        self.checkpoint.tensor(&name)?;
        Some(self.whole(name, 1, len, 1))
    }

    /// A rotary embedding for [`Builder::rope`]; equal ones are shared.
    pub fn rope_spec(&mut self, rope: Rope) -> RopeId {
        RopeId(position_or_push(&mut self.program.ropes, rope))
    }

    /// A paged state of keys and values.
    pub fn paged_state(&mut self, name: String, paged: Paged) -> StateId {
        self.program.states.push(State {
            name,
            kind: StateKind::Paged(paged),
        });
        StateId(self.program.states.len() as u32 - 1)
    }

    /// Marks the operations that follow as parts of `site`.
    pub fn enter(&mut self, site: impl Into<Site>) {
        self.layer = site.into().0;
    }

    /// Rows of `table` for the batch's tokens: `[n_tokens, cols]`.
    pub fn embed(&mut self, table: TensorId, index: EmbedIndex) -> ValueId {
        self.push(Op::Embed { table, index })
    }

    /// Root-mean-square norm over all columns by the vector `{site}{name}.weight`.
    pub fn rms_norm(&mut self, x: ValueId, site: impl Into<Site>, name: &str, eps: f32) -> ValueId {
        let group = self.cols(x);
        self.rms_norm_heads(x, site, name, eps, group)
    }

    /// Root-mean-square norm of each run of `group` columns (query and key norms).
    pub fn rms_norm_heads(
        &mut self,
        x: ValueId,
        site: impl Into<Site>,
        name: &str,
        eps: f32,
        group: usize,
    ) -> ValueId {
        let weight = self.vector(site, name, group);
        self.push(Op::RmsNorm {
            x,
            weight,
            eps,
            group,
        })
    }

    /// Layer norm by `{site}{name}.weight` and, where the file has it, `.bias`.
    pub fn layer_norm(
        &mut self,
        x: ValueId,
        site: impl Into<Site>,
        name: &str,
        eps: f32,
    ) -> ValueId {
        let (site, cols) = (site.into(), self.cols(x));
        let weight = self.vector(site, name, cols);
        let bias = self.bias(site, name, cols);
        self.push(Op::LayerNorm {
            x,
            weight,
            bias,
            eps,
        })
    }

    /// `x W^T + b` by `{site}{name}.weight` of `rows` rows and, where the file has it, `.bias`.
    pub fn linear(
        &mut self,
        x: ValueId,
        site: impl Into<Site>,
        name: &str,
        rows: usize,
    ) -> ValueId {
        let (site, cols) = (site.into(), self.cols(x));
        let weight = self.weight(site, name, rows, cols);
        let bias = self.bias(site, name, rows);
        self.linear_by(x, weight, bias)
    }

    /// `x W^T` by the rows `part` of `{site}{name}.weight`, in which several weights of together
    /// `stored_rows` rows are stored behind one another.
    pub fn linear_part(
        &mut self,
        x: ValueId,
        site: impl Into<Site>,
        name: &str,
        stored_rows: usize,
        part: Range<usize>,
    ) -> ValueId {
        let name = full_name(site.into(), name, "weight");
        let (rows, cols) = (part.len(), self.cols(x));
        let tensor = Tensor {
            name,
            first_row: part.start,
            rows,
            cols,
            experts: 1,
        };
        let weight = self.tensor(tensor, stored_rows);
        self.linear_by(x, weight, None)
    }

    /// The next product to which an adapter may attach.
    fn slot(&mut self) -> LinearSlot {
        self.slots += 1;
        LinearSlot(self.slots - 1)
    }

    /// `x W^T + b` by tensors at hand (tied embeddings).
    pub fn linear_by(&mut self, x: ValueId, weight: TensorId, bias: Option<TensorId>) -> ValueId {
        let slot = self.slot();
        self.push(Op::Linear {
            x,
            weight,
            bias,
            slot,
        })
    }

    /// Rotates heads of `head_dim` columns.
    pub fn rope(&mut self, x: ValueId, head_dim: usize, rope: RopeId) -> ValueId {
        self.push(Op::Rope { x, head_dim, rope })
    }

    /// Stores `k` and `v` into `state`, then attends to it with `q`.
    pub fn attention(
        &mut self,
        q: ValueId,
        k: ValueId,
        v: ValueId,
        state: StateId,
        spec: AttentionSpec,
    ) -> ValueId {
        self.push(Op::KvWrite { k, v, state });
        let AttentionSpec {
            heads,
            scale,
            mask,
            softcap,
        } = spec;
        self.push(Op::Attention {
            q,
            state,
            heads,
            scale,
            mask,
            softcap,
        })
    }

    /// `act(gate) * up`.
    pub fn glu(&mut self, gate: ValueId, up: ValueId, act: Act) -> ValueId {
        self.push(Op::Glu { gate, up, act })
    }

    /// `act(x)`.
    pub fn activation(&mut self, x: ValueId, act: Act) -> ValueId {
        self.push(Op::Activation { x, act })
    }

    /// `a + b`.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.push(Op::Add { a, b })
    }

    /// `x * by`.
    pub fn scale(&mut self, x: ValueId, by: f32) -> ValueId {
        self.push(Op::Scale { x, by })
    }

    /// `cap * tanh(x / cap)`.
    pub fn soft_cap(&mut self, x: ValueId, cap: f32) -> ValueId {
        self.push(Op::SoftCap { x, cap })
    }

    /// Chooses `top_k` experts for each token by softmax of `logits`.
    pub fn moe_route(
        &mut self,
        logits: ValueId,
        top_k: usize,
        normalize: bool,
        scale: f32,
    ) -> ValueId {
        self.push(Op::MoeRoute {
            logits,
            top_k,
            scoring: Scoring::Softmax,
            normalize,
            scale,
        })
    }

    /// The routed experts' gated MLP; `weights` are gate, up and down.
    pub fn moe_ffn(
        &mut self,
        x: ValueId,
        route: ValueId,
        weights: [TensorId; 3],
        act: Act,
    ) -> ValueId {
        let [gate, up, down] = weights;
        let slots = [self.slot(), self.slot(), self.slot()];
        self.push(Op::MoeFfn {
            x,
            route,
            gate,
            up,
            down,
            act,
            slots,
        })
    }

    /// Keeps the rows that want an output.
    pub fn gather_rows(&mut self, x: ValueId) -> ValueId {
        self.push(Op::GatherRows { x })
    }

    /// One row for each sequence.
    pub fn pool(&mut self, x: ValueId, kind: PoolKind) -> ValueId {
        self.push(Op::Pool { x, kind })
    }

    /// Columns of a value; 0 after a failure.
    pub fn cols(&self, x: ValueId) -> usize {
        if self.error.is_some() {
            0
        } else {
            self.program.value(x).cols
        }
    }

    /// The finished program.
    ///
    /// # Errors
    /// The first problem met on the way: a missing or misshapen tensor of the file.
    pub fn finish(mut self, output: ProgramOutput) -> Result<Program, ModelError> {
        self.program.output = output;
        match self.error {
            Some(e) => Err(e),
            None => {
                self.program.check()?;
                let program = gather_early(&self.program);
                program.check()?;
                Ok(program)
            }
        }
    }

    fn whole(&mut self, name: String, rows: usize, cols: usize, experts: usize) -> TensorId {
        let tensor = Tensor {
            name,
            first_row: 0,
            rows,
            cols,
            experts,
        };
        self.tensor(tensor, rows)
    }

    fn tensor(&mut self, tensor: Tensor, stored_rows: usize) -> TensorId {
        if self.error.is_none() {
            self.error = check_tensor(&self.checkpoint, &tensor, stored_rows).err();
        }
        if self.error.is_some() {
            return TensorId(0);
        }
        TensorId(position_or_push(&mut self.program.tensors, tensor))
    }

    fn push(&mut self, op: Op) -> ValueId {
        if self.error.is_some() {
            return ValueId(0);
        }
        let layer = self.layer;
        match self.program.shape_of(&op) {
            Ok(Some(value)) => {
                let out = ValueId(self.program.values.len() as u32);
                self.program.values.push(value);
                self.program.nodes.push(Node {
                    op,
                    out: Some(out),
                    layer,
                });
                out
            }
            Ok(None) => {
                self.program.nodes.push(Node {
                    op,
                    out: None,
                    layer,
                });
                ValueId(0)
            }
            Err(what) => {
                self.error = Some(ModelError::Shapes {
                    op: op.name(),
                    layer,
                    what,
                });
                ValueId(0)
            }
        }
    }
}

fn full_name(site: Site, name: &str, suffix: &str) -> String {
    match site.0 {
        Some(l) => format!("blk.{l}.{name}.{suffix}"),
        None => format!("{name}.{suffix}"),
    }
}

/// Index of `item` in `table`, appended if it is new.
fn position_or_push<T: PartialEq>(table: &mut Vec<T>, item: T) -> u32 {
    let found = table.iter().position(|t| *t == item);
    let index = found.unwrap_or_else(|| {
        table.push(item);
        table.len() - 1
    });
    index as u32
}
