//! Whole decoders that several architectures share.

use crate::builder::{Builder, TOP};
use crate::nn::{Attention, embed_tokens, gated_mlp, logits};
use crate::program::{Act, ValueId};

/// Llama's decoder: RMS norms before attention and before the MLP, a residual connection around
/// each. `mlp` writes the MLP of a layer, without its norm.
pub fn pre_norm_decoder(
    b: &mut Builder,
    attention: &Attention,
    eps: f32,
    mlp: impl Fn(&mut Builder, ValueId, usize) -> ValueId,
) -> ValueId {
    let c = &attention.dims;
    let mut x = embed_tokens(b, c);
    for l in 0..c.layers {
        b.enter(l);
        let y = b.rms_norm(x, l, "attn_norm", eps);
        let y = attention.apply(b, y, l);
        x = b.add(x, y);
        let y = b.rms_norm(x, l, "ffn_norm", eps);
        let y = mlp(b, y, l);
        x = b.add(x, y);
    }
    b.enter(TOP);
    let x = b.gather_rows(x);
    let x = b.rms_norm(x, TOP, "output_norm", eps);
    logits(b, x, c)
}

/// The decoder of Gemma 2 and 3: embeddings times `sqrt(width)`, RMS norms before and after
/// attention and MLP, attention by layer, logits bounded by `cap` if there is one. The `1 +` of
/// Gemma's norm weights is in the file's numbers already.
pub fn sandwich_decoder(
    b: &mut Builder,
    attention: &[Attention],
    eps: f32,
    cap: Option<f32>,
) -> ValueId {
    let c = &attention[0].dims;
    let x = embed_tokens(b, c);
    let mut x = b.scale(x, (c.width as f32).sqrt());
    for (l, attention) in attention.iter().enumerate() {
        b.enter(l);
        let y = b.rms_norm(x, l, "attn_norm", eps);
        let y = attention.apply(b, y, l);
        let y = b.rms_norm(y, l, "post_attention_norm", eps);
        x = b.add(x, y);
        let y = b.rms_norm(x, l, "ffn_norm", eps);
        let y = gated_mlp(b, y, l, c.ff, Act::GeluTanh);
        let y = b.rms_norm(y, l, "post_ffw_norm", eps);
        x = b.add(x, y);
    }
    b.enter(TOP);
    let x = b.gather_rows(x);
    let x = b.rms_norm(x, TOP, "output_norm", eps);
    let logits = logits(b, x, c);
    match cap {
        Some(cap) => b.soft_cap(logits, cap),
        None => logits,
    }
}
