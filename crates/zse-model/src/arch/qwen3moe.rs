//! Qwen 3 with a mixture of experts (Yang et al. 2025, arXiv:2505.09388).

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper, Moe};
use crate::program::{Program, ProgramOutput, RopeStyle};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let eps = h.rms_eps()?;
    let moe = Moe::require(h)?;
    let ff = h
        .integer("expert_feed_forward_length", 1..=c.ff)?
        .unwrap_or(c.ff / moe.used);
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let attention = Attention {
        qk_norm: Some(eps),
        ..Attention::causal(*c, b.rope_spec(rope))
    };
    let logits = nn::pre_norm_decoder(&mut b, &attention, eps, |b, x, l| moe.apply(b, x, l, ff));
    b.finish(ProgramOutput::Logits(logits))
}
