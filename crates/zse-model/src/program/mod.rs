//! A model as a program: values in SSA form, a flat list of typed operations, and the tensors,
//! rotary embeddings and sequence states that the operations name.
//!
//! Nothing here knows a device, an instruction set or a quantization type, and nothing here knows
//! a model's name. Architectures write programs through [`Builder`](crate::Builder); passes mark
//! groups of operations; executors run them.

mod check;
mod display;
mod op;
#[cfg(test)]
mod tests;

pub use check::ProgramError;
pub use op::{
    Act, EmbedIndex, LinearSlot, Mask, Op, PoolKind, Rope, RopeScaling, RopeStyle, Scoring,
};

/// Declares a dense index type into one of the program's tables.
macro_rules! index_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The index as `usize`, for the table it points into.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index_type!(
    /// Index into [`Program::values`].
    ValueId
);
index_type!(
    /// Index into [`Program::tensors`].
    TensorId
);
index_type!(
    /// Index into [`Program::states`].
    StateId
);
index_type!(
    /// Index into [`Program::ropes`].
    RopeId
);
index_type!(
    /// Index into [`Program::nodes`]: one operation in the order of execution.
    NodeId
);

/// What the rows of a value stand for; the size is known only when a batch arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One row for each token of the batch (`n_tokens`).
    Tokens,
    /// One row for each token that wants an output (`n_outputs`).
    Outputs,
    /// One row for each sequence of the batch (`n_seqs`).
    Seqs,
}

/// An intermediate result: a row-major f32 matrix `[rows, cols]`.
///
/// Heads are not a dimension of their own: a query of 8 heads of 64 is 512 columns, head by head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What the rows stand for.
    pub rows: Rows,
    /// Columns of a row.
    pub cols: usize,
}

/// A weight that the program names: `experts` matrices of `[rows, cols]`, row-major, in whatever
/// type the checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name in the checkpoint, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// First row taken from the checkpoint's tensor: non-zero where several weights are stored as
    /// one (Phi-3's `attn_qkv`).
    pub first_row: usize,
    /// Output features; 1 for vectors (norm weights, biases).
    pub rows: usize,
    /// Input features: the length of a row.
    pub cols: usize,
    /// Matrices stacked behind one another; 1 where the tensor is no mixture's.
    pub experts: usize,
}

/// What a sequence keeps between steps for one layer (or several that share it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Name for people, such as `kv.0`.
    pub name: String,
    /// Its layout.
    pub kind: StateKind,
}

/// The layout of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// Keys and values of every token, in blocks that the engine owns.
    Paged(Paged),
}

/// Shape of a paged key-value state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Paged {
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Length of one head of a key.
    pub k_dim: usize,
    /// Length of one head of a value.
    pub v_dim: usize,
    /// How many of the newest positions can still be attended to; `None`: all.
    pub window: Option<usize>,
}

/// States that share one block table: every state of a group keeps token `i` in the same block.
///
/// States form a group when they keep tokens equally long, that is, by their window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvGroup {
    /// The states, in the order of [`Program::states`].
    pub states: Vec<StateId>,
    /// Window shared by them.
    pub window: Option<usize>,
}

/// One operation, its result and the layer it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation with its inputs.
    pub op: Op,
    /// What it defines; `None` for operations that only change a state.
    pub out: Option<ValueId>,
    /// Layer it belongs to; `None` before the first and after the last.
    pub layer: Option<u32>,
}

/// What a forward pass gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramOutput {
    /// Next-token logits, `[n_outputs, vocab]`.
    Logits(ValueId),
    /// One row for each sequence: its pooled embedding, `[n_seqs, width]`, or the score that a head
    /// for ranking gives it, `[n_seqs, 1]`.
    Pooled(ValueId),
    /// One row for each token, `[n_tokens, width]`, for a program that goes on from there
    /// ([`Op::Hidden`]).
    Hidden(ValueId),
}

impl ProgramOutput {
    /// The value that holds the result.
    pub fn value(self) -> ValueId {
        match self {
            Self::Logits(v) | Self::Pooled(v) | Self::Hidden(v) => v,
        }
    }
}

/// A forward pass as a list of operations. See the module documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Name for people, such as `decoder`.
    pub name: String,
    /// Every intermediate result; each is defined by exactly one node, before its first use.
    pub values: Vec<Value>,
    /// The weights that operations name.
    pub tensors: Vec<Tensor>,
    /// The rotary embeddings that operations name.
    pub ropes: Vec<Rope>,
    /// The sequence states that operations name.
    pub states: Vec<State>,
    /// The operations, in order.
    pub nodes: Vec<Node>,
    /// The result.
    pub output: ProgramOutput,
}

impl Program {
    /// The value behind `id`.
    pub fn value(&self, id: ValueId) -> Value {
        self.values[id.index()]
    }

    /// The tensor behind `id`.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// The shape of the paged state `id`.
    pub fn paged(&self, id: StateId) -> Paged {
        match self.states[id.index()].kind {
            StateKind::Paged(p) => p,
        }
    }

    /// States grouped by the block table that they share; an order that never changes.
    pub fn kv_groups(&self) -> Vec<KvGroup> {
        let mut groups: Vec<KvGroup> = Vec::new();
        for (i, state) in self.states.iter().enumerate() {
            let StateKind::Paged(p) = state.kind;
            let id = StateId(i as u32);
            match groups.iter_mut().find(|g| g.window == p.window) {
                Some(g) => g.states.push(id),
                None => groups.push(KvGroup {
                    states: vec![id],
                    window: p.window,
                }),
            }
        }
        groups
    }

    /// Whether all tokens of a sequence must be in one batch: tokens see later ones (BERT), or
    /// their rows are pooled.
    pub fn takes_whole_sequences(&self) -> bool {
        !self.is_causal() || matches!(self.output, ProgramOutput::Pooled(_))
    }

    /// Whether it gives one number for each sequence: how well a document answers a query.
    pub fn ranks(&self) -> bool {
        matches!(self.output, ProgramOutput::Pooled(v) if self.value(v).cols == 1)
    }

    /// Whether every token may only see tokens before it.
    pub fn is_causal(&self) -> bool {
        !self.nodes.iter().any(|n| {
            matches!(
                n.op,
                Op::Attention {
                    mask: Mask::Bidirectional,
                    ..
                }
            )
        })
    }
}
