//! Gemma 2 (Gemma Team 2024, arXiv:2408.00118): norms before and after each block, windows in
//! every other layer, soft caps on scores and logits.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Mask, Program, ProgramOutput, RopeStyle};

/// Layers of the 27B model, which divides its scores by another number; no key says so.
const LAYERS_27B: usize = 46;

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let global = Attention {
        scale: nn::gemma_scale(c, LAYERS_27B),
        softcap: h.positive_or_none("attn_logit_softcapping")?,
        ..Attention::causal(*c, b.rope_spec(rope))
    };
    let window = h
        .integer("attention.sliding_window", 1..=u32::MAX as usize)?
        .unwrap_or(4096);
    let local = Attention {
        mask: Mask::Window(window),
        ..global
    };

    let layers = nn::sliding_layers(h, c.layers, 2)?;
    let attention: Vec<_> = layers
        .iter()
        .map(|&s| if s { local } else { global })
        .collect();
    let cap = h.positive_or_none("final_logit_softcapping")?;
    let logits = nn::sandwich_decoder(&mut b, &attention, h.rms_eps()?, cap);
    b.finish(ProgramOutput::Logits(logits))
}
