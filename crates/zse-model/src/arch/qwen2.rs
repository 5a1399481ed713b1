//! Qwen 2 and 2.5 (Yang et al. 2024, arXiv:2407.10671, arXiv:2412.15115): Llama with biases on
//! queries, keys and values, which are taken wherever the file has them.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Act, Program, ProgramOutput, RopeStyle};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let attention = Attention::causal(*c, b.rope_spec(rope));
    let logits = nn::pre_norm_decoder(&mut b, &attention, h.rms_eps()?, |b, x, l| {
        nn::gated_mlp(b, x, l, c.ff, Act::Silu)
    });
    b.finish(ProgramOutput::Logits(logits))
}
