//! Gemma 3 (Gemma Team 2025, arXiv:2503.19786): five local layers to a global one, each kind with
//! a rotary embedding of its own, and norms of queries and keys instead of soft caps.

use crate::builder::Builder;
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Mask, Program, ProgramOutput, Rope, RopeScaling, RopeStyle};

/// Layers of the 27B model, which divides its scores by another number; no key says so.
const LAYERS_27B: usize = 62;

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let eps = h.rms_eps()?;
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let local_rope = Rope {
        base: h.positive("rope.freq_base_swa")?.unwrap_or(10_000.0),
        scaling: RopeScaling::None,
        ..rope.clone()
    };
    let global = Attention {
        qk_norm: Some(eps),
        scale: nn::gemma_scale(c, LAYERS_27B),
        ..Attention::causal(*c, b.rope_spec(rope))
    };
    let attention = match h.integer("attention.sliding_window", 0..=u32::MAX as usize)? {
        None | Some(0) => vec![global; c.layers],
        Some(window) => {
            let rope = Some(b.rope_spec(local_rope));
            let local = Attention {
                mask: Mask::Window(window),
                rope,
                ..global
            };
            let layers = nn::sliding_layers(h, c.layers, 6)?;
            layers
                .iter()
                .map(|&s| if s { local } else { global })
                .collect()
        }
    };
    let cap = h.positive_or_none("final_logit_softcapping")?;
    let logits = nn::sandwich_decoder(&mut b, &attention, eps, cap);
    b.finish(ProgramOutput::Logits(logits))
}
