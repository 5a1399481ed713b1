//! BERT (Devlin et al. 2018, arXiv:1810.04805) as an embedding model: every token sees all of its
//! sequence, norms come after the residual connections, and the rows are pooled into one.

use crate::builder::{Builder, TOP};
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Act, EmbedIndex, PoolKind, Program, ProgramOutput};

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let eps = h.layer_norm_eps()?;
    let pooling = pooling(h)?;
    let attention = Attention::bidirectional(*c);

    let mut x = nn::embed_tokens(&mut b, c);
    if let Some(types) = b.stored_rows(TOP, "token_types") {
        // Texts are embedded one by one: all tokens are of the first segment.
        let table = b.weight(TOP, "token_types", types, c.width);
        let segment = b.embed(table, EmbedIndex::Fixed(0));
        x = b.add(x, segment);
    }
    let table = b.weight(TOP, "position_embd", c.trained_context, c.width);
    let position = b.embed(table, EmbedIndex::Position);
    x = b.add(x, position);
    x = b.layer_norm(x, TOP, "token_embd_norm", eps);
    for l in 0..c.layers {
        b.enter(l);
        let y = attention.apply(&mut b, x, l);
        x = b.add(x, y);
        x = b.layer_norm(x, l, "attn_output_norm", eps);
        let y = nn::mlp(&mut b, x, l, c.ff, Act::GeluErf);
        x = b.add(x, y);
        x = b.layer_norm(x, l, "layer_output_norm", eps);
    }
    b.enter(TOP);
    let embedding = b.pool(x, pooling);
    b.finish(ProgramOutput::Pooled(embedding))
}

/// `pooling_type`, numbered as in llama.cpp's `llama_pooling_type`.
fn pooling(h: &Hyper<'_>) -> Result<PoolKind, ModelError> {
    match h.integer("pooling_type", 0..=u32::MAX as usize)? {
        None | Some(1) => Ok(PoolKind::Mean),
        Some(2) => Ok(PoolKind::Cls),
        Some(3) => Ok(PoolKind::Last),
        Some(other) => Err(ModelError::Hyperparameter {
            key: h.key("pooling_type"),
            value: other.to_string(),
            what: "only 1 (mean), 2 (first token) and 3 (last token) give an embedding".to_owned(),
        }),
    }
}
