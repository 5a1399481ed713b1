//! StarCoder 2 (Lozhkov et al. 2024, arXiv:2402.19173): layer norms and linear layers with
//! biases, a plain MLP.

use crate::builder::{Builder, TOP};
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Act, Program, ProgramOutput, RopeStyle};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let eps = h.layer_norm_eps()?;
    let rope = nn::rope(&mut b, h, c, RopeStyle::Halves)?;
    let attention = Attention {
        mask: nn::causal_mask(h)?,
        ..Attention::causal(*c, b.rope_spec(rope))
    };

    let mut x = nn::embed_tokens(&mut b, c);
    for l in 0..c.layers {
        b.enter(l);
        let y = b.layer_norm(x, l, "attn_norm", eps);
        let y = attention.apply(&mut b, y, l);
        x = b.add(x, y);
        let y = b.layer_norm(x, l, "ffn_norm", eps);
        let y = nn::mlp(&mut b, y, l, c.ff, Act::GeluTanh);
        x = b.add(x, y);
    }
    b.enter(TOP);
    let x = b.gather_rows(x);
    let x = b.layer_norm(x, TOP, "output_norm", eps);
    let logits = nn::logits(&mut b, x, c);
    b.finish(ProgramOutput::Logits(logits))
}
