//! The operations: about twenty, each of the size that an LLM engineer thinks in.

use super::{RopeId, StateId, TensorId, ValueId};

/// Where [`Op::Embed`] takes the row number of the table from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedIndex {
    /// The token's id.
    Token,
    /// The token's position.
    Position,
    /// Always this row (BERT's token type 0).
    Fixed(u32),
    /// Which of two texts the token is of (BERT's token types): 1 behind the first of these tokens
    /// in its sequence, else 0. For programs that take whole sequences.
    Segment {
        /// The token that ends a text.
        separator: u32,
    },
}

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// `x * sigmoid(x)`.
    Silu,
    /// Gaussian error linear unit by its definition with `erf`.
    GeluErf,
    /// Gaussian error linear unit by the `tanh` approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Positions up to its own.
    Causal,
    /// The newest `n` positions up to its own, itself included.
    Window(usize),
    /// All positions of its sequence.
    Bidirectional,
}

/// How two halves of a head pair up in a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Neighbours: `(x[0], x[1])`, `(x[2], x[3])`, ... (GGUF's `llama`).
    Interleaved,
    /// Halves: `(x[0], x[d/2])`, `(x[1], x[d/2 + 1])`, ... (GPT-NeoX).
    Halves,
}

/// How the angles are stretched for contexts longer than those of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of the positions.
        factor: f32,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071): low frequencies interpolated, high ones kept.
    Yarn {
        /// Context extension factor.
        factor: f32,
        /// Context length of the training.
        original_context: u32,
        /// Rotations above which a dimension is left alone.
        beta_fast: f32,
        /// Rotations below which a dimension is fully interpolated.
        beta_slow: f32,
    },
}

/// A rotary position embedding (Su et al. 2021, arXiv:2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Rotated dimensions at the start of a head; the rest passes through.
    pub dims: usize,
    /// Pairing.
    pub style: RopeStyle,
    /// Base of the geometric series of frequencies (`rope_theta`).
    pub base: f32,
    /// Long-context scaling.
    pub scaling: RopeScaling,
    /// Divisors of the frequencies, `dims / 2` of them (Llama 3.1's and Phi-3's factors).
    pub factors: Option<TensorId>,
    /// Factor on sine and cosine (YaRN's and LongRoPE's attention factor).
    pub magnitude: f32,
}

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scoring {
    /// Softmax over all experts, then the best `top_k`.
    Softmax,
}

/// What is taken of a sequence's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The mean of all rows.
    Mean,
    /// The first row.
    Cls,
    /// The last row.
    Last,
}

/// A product, of [`Op::Linear`] or of the experts of [`Op::MoeFfn`], at which an adapter (LoRA) can
/// attach; numbered densely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinearSlot(pub u32);

/// An operation with its inputs, weights and constants. Shapes are those of [`super::Value`].
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Rows of a table: `[n_tokens, cols]`.
    Embed {
        /// `[entries, cols]`.
        table: TensorId,
        /// Which row.
        index: EmbedIndex,
    },
    /// The rows that come with the batch (`Batch::hidden`): `[n_tokens, cols]`, what a program that ran
    /// before gave for the same tokens.
    Hidden {
        /// Columns of a row.
        cols: usize,
    },
    /// `x / sqrt(mean(x^2) + eps) * weight` over each run of `group` columns (Zhang and Sennrich
    /// 2019, arXiv:1910.07467); `group` is all columns, or a head for query and key norms.
    RmsNorm {
        /// Input.
        x: ValueId,
        /// `[group]`.
        weight: TensorId,
        /// Added to the mean square.
        eps: f32,
        /// Columns normalised together.
        group: usize,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias` over all columns.
    LayerNorm {
        /// Input.
        x: ValueId,
        /// `[cols]`.
        weight: TensorId,
        /// `[cols]`.
        bias: Option<TensorId>,
        /// Added to the variance.
        eps: f32,
    },
    /// `x W^T + bias`.
    Linear {
        /// `[rows, weight.cols]`.
        x: ValueId,
        /// `[out, in]`.
        weight: TensorId,
        /// `[out]`.
        bias: Option<TensorId>,
        /// Where an adapter attaches.
        slot: LinearSlot,
    },
    /// Rotates each head by its token's position.
    Rope {
        /// `[n_tokens, heads * head_dim]`.
        x: ValueId,
        /// Columns of a head.
        head_dim: usize,
        /// The embedding.
        rope: RopeId,
    },
    /// Stores keys and values of the batch's tokens.
    KvWrite {
        /// `[n_tokens, kv_heads * k_dim]`.
        k: ValueId,
        /// `[n_tokens, kv_heads * v_dim]`.
        v: ValueId,
        /// Where.
        state: StateId,
    },
    /// Softmax attention of the batch's queries over what `state` holds, the batch's own tokens
    /// included: they are read back from the cache in the cache's type.
    Attention {
        /// `[n_tokens, heads * k_dim]`; query head `h` reads KV head `h / (heads / kv_heads)`.
        q: ValueId,
        /// Keys and values.
        state: StateId,
        /// Query heads.
        heads: usize,
        /// Factor on the scores.
        scale: f32,
        /// Who sees whom.
        mask: Mask,
        /// `cap * tanh(score / cap)` before the mask (Gemma 2).
        softcap: Option<f32>,
    },
    /// `act(gate) * up`.
    Glu {
        /// Goes through the activation.
        gate: ValueId,
        /// Multiplied in.
        up: ValueId,
        /// Which activation.
        act: Act,
    },
    /// `act(x)`.
    Activation {
        /// Input.
        x: ValueId,
        /// Which activation.
        act: Act,
    },
    /// `a + b`.
    Add {
        /// Left.
        a: ValueId,
        /// Right.
        b: ValueId,
    },
    /// `x * by`.
    Scale {
        /// Input.
        x: ValueId,
        /// Factor.
        by: f32,
    },
    /// `cap * tanh(x / cap)`.
    SoftCap {
        /// Input.
        x: ValueId,
        /// Bound of the magnitude.
        cap: f32,
    },
    /// The experts of each row: `[rows, 2 * top_k]`, first the expert numbers (small
    /// integers, best first, ties to the lower number), then their weights.
    MoeRoute {
        /// Router logits, `[rows, experts]`.
        logits: ValueId,
        /// Experts a token uses.
        top_k: usize,
        /// How logits become weights.
        scoring: Scoring,
        /// Whether the chosen weights are scaled to sum to 1.
        normalize: bool,
        /// Factor on the weights.
        scale: f32,
    },
    /// `sum_e weight_e * down_e(act(gate_e(x)) * up_e(x))` over the routed experts, added in the
    /// order of the route.
    MoeFfn {
        /// `[rows, in]`.
        x: ValueId,
        /// From [`Op::MoeRoute`].
        route: ValueId,
        /// `experts` x `[ff, in]`.
        gate: TensorId,
        /// `experts` x `[ff, in]`.
        up: TensorId,
        /// `experts` x `[out, ff]`.
        down: TensorId,
        /// Activation of the gate.
        act: Act,
        /// Where an adapter attaches to gates, ups and downs.
        slots: [LinearSlot; 3],
    },
    /// Keeps the rows whose tokens want an output: `[n_outputs, cols]`.
    GatherRows {
        /// `[n_tokens, cols]`.
        x: ValueId,
    },
    /// One row for each sequence: `[n_seqs, cols]`.
    Pool {
        /// `[n_tokens, cols]`.
        x: ValueId,
        /// What is taken.
        kind: PoolKind,
    },
}

impl Op {
    /// The name that profiles, graphs and errors use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Hidden { .. } => "hidden",
            Self::RmsNorm { .. } => "rms_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Linear { .. } => "linear",
            Self::Rope { .. } => "rope",
            Self::KvWrite { .. } => "kv_write",
            Self::Attention { .. } => "attention",
            Self::Glu { .. } => "glu",
            Self::Activation { .. } => "activation",
            Self::Add { .. } => "add",
            Self::Scale { .. } => "scale",
            Self::SoftCap { .. } => "soft_cap",
            Self::MoeRoute { .. } => "moe_route",
            Self::MoeFfn { .. } => "moe_ffn",
            Self::GatherRows { .. } => "gather_rows",
            Self::Pool { .. } => "pool",
        }
    }

    /// The values it reads, in a fixed order.
    pub fn inputs(&self) -> Vec<ValueId> {
        self.clone().inputs_mut().into_iter().map(|v| *v).collect()
    }

    /// The values it reads, to put others in their place.
    pub fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        match self {
            Self::Embed { .. } | Self::Hidden { .. } => vec![],
            Self::RmsNorm { x, .. }
            | Self::LayerNorm { x, .. }
            | Self::Linear { x, .. }
            | Self::Rope { x, .. }
            | Self::Activation { x, .. }
            | Self::Scale { x, .. }
            | Self::SoftCap { x, .. }
            | Self::GatherRows { x }
            | Self::Pool { x, .. } => vec![x],
            Self::Attention { q, .. } => vec![q],
            Self::MoeRoute { logits, .. } => vec![logits],
            Self::KvWrite { k, v, .. } => vec![k, v],
            Self::Glu { gate, up, .. } => vec![gate, up],
            Self::Add { a, b } => vec![a, b],
            Self::MoeFfn { x, route, .. } => vec![x, route],
        }
    }

    /// Whether each row of the result is made of the same row of the inputs and nothing else of
    /// the batch.
    pub fn is_row_wise(&self) -> bool {
        match self {
            Self::RmsNorm { .. }
            | Self::LayerNorm { .. }
            | Self::Linear { .. }
            | Self::Glu { .. }
            | Self::Activation { .. }
            | Self::Add { .. }
            | Self::Scale { .. }
            | Self::SoftCap { .. }
            | Self::MoeRoute { .. }
            | Self::MoeFfn { .. } => true,
            Self::Embed { .. }
            | Self::Hidden { .. }
            | Self::Rope { .. }
            | Self::KvWrite { .. }
            | Self::Attention { .. }
            | Self::GatherRows { .. }
            | Self::Pool { .. } => false,
        }
    }

    /// The weights it reads, in a fixed order.
    pub fn tensors(&self) -> Vec<TensorId> {
        self.clone().tensors_mut().into_iter().map(|t| *t).collect()
    }

    /// The weights it reads, to put others in their place.
    pub fn tensors_mut(&mut self) -> Vec<&mut TensorId> {
        match self {
            Self::Embed { table, .. } => vec![table],
            Self::RmsNorm { weight, .. } => vec![weight],
            Self::LayerNorm { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                std::iter::once(weight).chain(bias).collect()
            }
            Self::MoeFfn { gate, up, down, .. } => vec![gate, up, down],
            _ => vec![],
        }
    }

    /// The rotary embedding it applies.
    pub fn rope(&self) -> Option<RopeId> {
        self.clone().rope_mut().map(|rope| *rope)
    }

    /// The rotary embedding it applies, to put another in its place.
    pub fn rope_mut(&mut self) -> Option<&mut RopeId> {
        match self {
            Self::Rope { rope, .. } => Some(rope),
            _ => None,
        }
    }

    /// The sequence state it reads or writes.
    pub fn state(&self) -> Option<StateId> {
        self.clone().state_mut().map(|state| *state)
    }

    /// The sequence state it reads or writes, to put another in its place.
    pub fn state_mut(&mut self) -> Option<&mut StateId> {
        match self {
            Self::KvWrite { state, .. } | Self::Attention { state, .. } => Some(state),
            _ => None,
        }
    }
}
