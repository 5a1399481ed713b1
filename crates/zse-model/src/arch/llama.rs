//! Llama 1 to 3.x (Touvron et al. 2023, arXiv:2302.13971; Dubey et al. 2024, arXiv:2407.21783),
//! and what is stored under the same name: Mistral (Jiang et al. 2023, arXiv:2310.06825), whose
//! first version has a window, and Mixtral's mixture of experts.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper, Moe};
use crate::program::{Act, Program, ProgramOutput, RopeStyle};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let moe = Moe::read(h)?;
    // Files store the rows of queries and keys in the order in which Meta's code rotates them.
    let rope = nn::rope(&mut b, h, c, RopeStyle::Interleaved)?;
    let attention = Attention {
        mask: nn::causal_mask(h)?,
        ..Attention::causal(*c, b.rope_spec(rope))
    };
    let logits = nn::pre_norm_decoder(&mut b, &attention, h.rms_eps()?, |b, x, l| match moe {
        Some(moe) => moe.apply(b, x, l, c.ff),
        None => nn::gated_mlp(b, x, l, c.ff, Act::Silu),
    });
    b.finish(ProgramOutput::Logits(logits))
}
