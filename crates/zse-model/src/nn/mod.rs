//! The blocks that architectures share: hyperparameters, rotary embeddings, attention, MLPs.
//!
//! Names of metadata keys and tensors are those of GGUF
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).

mod attention;
mod decoder;
mod hyper;
mod mlp;
mod rope;

pub use attention::{Attention, causal_mask, gemma_scale, sliding_layers};
pub use decoder::{pre_norm_decoder, sandwich_decoder};
pub use hyper::{Dims, Hyper};
pub use mlp::{Moe, gated_mlp, joined_gated_mlp, mlp};
pub use rope::rope;

use crate::builder::{Builder, TOP};
use crate::program::{EmbedIndex, ValueId};

/// The embeddings of the batch's tokens, `[n_tokens, width]`.
pub fn embed_tokens(b: &mut Builder, c: &Dims) -> ValueId {
    let table = b.weight(TOP, "token_embd", c.vocab, c.width);
    b.embed(table, EmbedIndex::Token)
}

/// Next-token logits by `output.weight` or, where the file has none, by the token embeddings.
pub fn logits(b: &mut Builder, x: ValueId, c: &Dims) -> ValueId {
    if b.has(TOP, "output") {
        return b.linear(x, TOP, "output", c.vocab);
    }
    let tied = b.weight(TOP, "token_embd", c.vocab, c.width);
    b.linear_by(x, tied, None)
}
