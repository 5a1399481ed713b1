//! Qwen 3 (Yang et al. 2025, arXiv:2505.09388): each head of queries and keys is normalised
//! before it is rotated.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Act, Program, ProgramOutput, RopeStyle};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let eps = h.rms_eps()?;
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let attention = Attention {
        qk_norm: Some(eps),
        ..Attention::causal(*c, b.rope_spec(rope))
    };
    let logits = nn::pre_norm_decoder(&mut b, &attention, eps, |b, x, l| {
        nn::gated_mlp(b, x, l, c.ff, Act::Silu)
    });
    b.finish(ProgramOutput::Logits(logits))
}
