//! BERT (Devlin et al. 2018, arXiv:1810.04805) as an embedding model: every token sees all of its
//! sequence, norms come after the residual connections, and the rows are pooled into one. Or as a
//! cross-encoder (Nogueira and Cho 2019, arXiv:1901.04085): query and document are one sequence, of
//! whose first row a head makes the logit of their relevance.

use crate::builder::{Builder, TOP};
use crate::error::ModelError;
use crate::nn::{self, Attention, Dims, Hyper};
use crate::program::{Act, EmbedIndex, PoolKind, Program, ProgramOutput, ValueId};

/// The token `[SEP]` where a file does not say.
const SEPARATOR: u32 = 102;

pub(super) fn build(mut b: Builder, h: &Hyper<'_>, c: &Dims) -> Result<Program, ModelError> {
    let eps = h.layer_norm_eps()?;
    let pooling = pooling(h, &b)?;
    let attention = Attention::bidirectional(*c);

    let mut x = nn::embed_tokens(&mut b, c);
    if let Some(types) = b.stored_rows(TOP, "token_types") {
        let table = b.weight(TOP, "token_types", types, c.width);
        let index = match pooling {
            Pooling::Rank if types > 1 => EmbedIndex::Segment {
                separator: separator(h)?,
            },
            // Texts are embedded one by one: all tokens are of the first segment.
            _ => EmbedIndex::Fixed(0),
        };
        let segment = b.embed(table, index);
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
    let output = match pooling {
        Pooling::Embedding(kind) => b.pool(x, kind),
        Pooling::Rank => {
            let first = b.pool(x, PoolKind::Cls);
            relevance(&mut b, first, c.width)
        }
    };
    b.finish(ProgramOutput::Pooled(output))
}

/// The logit of a first row, by a dense layer with `tanh`, a projection to one number, or both.
fn relevance(b: &mut Builder, first: ValueId, width: usize) -> ValueId {
    let has_output = b.has(TOP, OUTPUT);
    let mut x = first;
    if b.has(TOP, DENSE) {
        x = b.linear(x, TOP, DENSE, if has_output { width } else { 1 });
        // A cap of 1 is tanh.
        x = b.soft_cap(x, 1.0);
    }
    match has_output {
        true => b.linear(x, TOP, OUTPUT, 1),
        false => x,
    }
}

/// Names of the head's layers, as llama.cpp's converter writes them.
const DENSE: &str = "cls";
const OUTPUT: &str = "cls.output";

/// What becomes of the rows.
#[derive(Clone, Copy)]
enum Pooling {
    Embedding(PoolKind),
    /// The head for ranking.
    Rank,
}

/// `pooling_type`, numbered as in llama.cpp's `llama_pooling_type`; files of cross-encoders often
/// lack it, and are known by their head.
fn pooling(h: &Hyper<'_>, b: &Builder) -> Result<Pooling, ModelError> {
    let has_head = b.has(TOP, DENSE) || b.has(TOP, OUTPUT);
    let wrong = |value: String, what: &str| ModelError::Hyperparameter {
        key: h.key("pooling_type"),
        value,
        what: what.to_owned(),
    };
    Ok(match h.integer("pooling_type", 0..=u32::MAX as usize)? {
        None | Some(4) if has_head => Pooling::Rank,
        None | Some(1) => Pooling::Embedding(PoolKind::Mean),
        Some(2) => Pooling::Embedding(PoolKind::Cls),
        Some(3) => Pooling::Embedding(PoolKind::Last),
        Some(4) => {
            let what = "ranking needs a head, cls.weight or cls.output.weight, which is missing";
            return Err(wrong("4".to_owned(), what));
        }
        Some(other) => {
            let what = "only 1 (mean), 2 (first token), 3 (last token) and 4 (rank) are known";
            return Err(wrong(other.to_string(), what));
        }
    })
}

/// The token between a query and a document.
fn separator(h: &Hyper<'_>) -> Result<u32, ModelError> {
    let named = h.metadata.u32("tokenizer.ggml.seperator_token_id")?; // sic
    Ok(named.unwrap_or(SEPARATOR))
}
