//! Phi 3 and 3.5, Phi 4 (Abdin et al. 2024, arXiv:2404.14219, arXiv:2412.08905): Llama with
//! queries, keys and values in one matrix, gate and up in another, and LongRoPE.
//!
//! The sliding window of some files is that of all layers, as in transformers; llama.cpp passes
//! over it.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Act, Program, ProgramOutput, RopeStyle};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let attention = Attention {
        mask: nn::causal_mask(h)?,
        ..Attention::causal(*c, b.rope_spec(rope))
    };
    let logits = nn::pre_norm_decoder(&mut b, &attention, h.rms_eps()?, |b, x, l| {
        nn::joined_gated_mlp(b, x, l, c.ff, Act::Silu)
    });
    b.finish(ProgramOutput::Logits(logits))
}
