//! Feed-forward blocks.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::Hyper;
use crate::program::{Act, ValueId};

/// `ffn_down(act(ffn_up(x)))` of layer `l`.
pub fn mlp(b: &mut Builder, x: ValueId, l: usize, ff: usize, act: Act) -> ValueId {
    let up = b.linear(x, l, "ffn_up", ff);
    let y = b.activation(up, act);
    b.linear(y, l, "ffn_down", b.cols(x))
}

/// `ffn_down(act(ffn_gate(x)) * ffn_up(x))` of layer `l` (Shazeer 2020, arXiv:2002.05202).
pub fn gated_mlp(b: &mut Builder, x: ValueId, l: usize, ff: usize, act: Act) -> ValueId {
    let gate = b.linear(x, l, "ffn_gate", ff);
    let up = b.linear(x, l, "ffn_up", ff);
    let y = b.glu(gate, up, act);
    b.linear(y, l, "ffn_down", b.cols(x))
}

/// [`gated_mlp`] whose gate is stored as the first half of `ffn_up`.
pub fn joined_gated_mlp(b: &mut Builder, x: ValueId, l: usize, ff: usize, act: Act) -> ValueId {
    let gate = b.linear_part(x, l, "ffn_up", 2 * ff, 0..ff);
    let up = b.linear_part(x, l, "ffn_up", 2 * ff, ff..2 * ff);
    let y = b.glu(gate, up, act);
    b.linear(y, l, "ffn_down", b.cols(x))
}

/// Far above any model.
const EXPERTS: usize = 1 << 12;

/// A mixture of gated MLPs, of which each token uses a few (Jiang et al. 2024, arXiv:2401.04088).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moe {
    /// Experts of a layer.
    pub experts: usize,
    /// Experts that a token uses.
    pub used: usize,
}

impl Moe {
    /// The file's numbers; `None` for a dense model.
    ///
    /// # Errors
    /// If they cannot be.
    pub fn read(h: &Hyper<'_>) -> Result<Option<Self>, ModelError> {
        match h.integer("expert_count", 0..=EXPERTS)? {
            None | Some(0) => Ok(None),
            Some(_) => Self::require(h).map(Some),
        }
    }

    /// The numbers of a file that must be a mixture.
    ///
    /// # Errors
    /// If they are missing or cannot be.
    pub fn require(h: &Hyper<'_>) -> Result<Self, ModelError> {
        let experts = h.require_integer("expert_count", 1..=EXPERTS)?;
        Ok(Self {
            experts,
            used: h.require_integer("expert_used_count", 1..=experts)?,
        })
    }

    /// The mixture of layer `l`: weights by softmax over the chosen experts, inner width `ff`.
    pub fn apply(&self, b: &mut Builder, x: ValueId, l: usize, ff: usize) -> ValueId {
        let (n, width) = (self.experts, b.cols(x));
        let router = b.linear(x, l, "ffn_gate_inp", n);
        let route = b.moe_route(router, self.used, true, 1.0);
        let gate = b.experts(l, "ffn_gate_exps", n, [ff, width]);
        let up = b.experts(l, "ffn_up_exps", n, [ff, width]);
        let down = b.experts(l, "ffn_down_exps", n, [width, ff]);
        b.moe_ffn(x, route, [gate, up, down], Act::Silu)
    }
}
