//! Self-attention of one layer.

use crate::builder::{AttentionSpec, Builder};
use crate::error::ModelError;
use crate::nn::{Dims, Hyper};
use crate::program::{Mask, Paged, RopeId, ValueId};

/// A layer's attention, without the norms around it.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Sizes.
    pub dims: Dims,
    /// Rotation of queries and keys.
    pub rope: Option<RopeId>,
    /// Epsilon of the norm of each query and key head, where the model has one.
    pub qk_norm: Option<f32>,
    /// Factor on the scores; `1 / sqrt(head_dim)` unless a model says otherwise.
    pub scale: f32,
    /// Who sees whom.
    pub mask: Mask,
    /// Bound of the scores, if any.
    pub softcap: Option<f32>,
}

impl Attention {
    /// Causal attention with rotated queries and keys.
    pub fn causal(dims: Dims, rope: RopeId) -> Self {
        Self {
            rope: Some(rope),
            mask: Mask::Causal,
            ..Self::bidirectional(dims)
        }
    }

    /// Attention of every token to all of its sequence.
    pub fn bidirectional(dims: Dims) -> Self {
        Self {
            dims,
            rope: None,
            qk_norm: None,
            scale: (dims.head_dim as f32).sqrt().recip(),
            mask: Mask::Bidirectional,
            softcap: None,
        }
    }

    /// `attn_output(attention(q, k, v))` of layer `l`, with a KV state of its own.
    pub fn apply(&self, b: &mut Builder, x: ValueId, l: usize) -> ValueId {
        let c = &self.dims;
        let [mut q, mut k, v] = self.qkv(b, x, l);
        if let Some(eps) = self.qk_norm {
            q = b.rms_norm_heads(q, l, "attn_q_norm", eps, c.head_dim);
            k = b.rms_norm_heads(k, l, "attn_k_norm", eps, c.head_dim);
        }
        if let Some(rope) = self.rope {
            q = b.rope(q, c.head_dim, rope);
            k = b.rope(k, c.head_dim, rope);
        }
        let window = match self.mask {
            Mask::Window(n) => Some(n),
            Mask::Causal | Mask::Bidirectional => None,
        };
        let paged = Paged {
            kv_heads: c.kv_heads,
            k_dim: c.head_dim,
            v_dim: c.v_dim,
            window,
        };
        let state = b.paged_state(format!("kv.{l}"), paged);
        let Self {
            scale,
            mask,
            softcap,
            ..
        } = *self;
        let spec = AttentionSpec {
            heads: c.heads,
            scale,
            mask,
            softcap,
        };
        let a = b.attention(q, k, v, state, spec);
        b.linear(a, l, "attn_output", c.width)
    }

    /// Queries, keys and values, stored as three matrices or as one.
    fn qkv(&self, b: &mut Builder, x: ValueId, l: usize) -> [ValueId; 3] {
        let c = &self.dims;
        let rows = [
            c.heads * c.head_dim,
            c.kv_heads * c.head_dim,
            c.kv_heads * c.v_dim,
        ];
        if !b.has(l, "attn_qkv") {
            let names = ["attn_q", "attn_k", "attn_v"];
            return std::array::from_fn(|i| b.linear(x, l, names[i], rows[i]));
        }
        let mut end = 0;
        rows.map(|n| {
            end += n;
            b.linear_part(x, l, "attn_qkv", rows.iter().sum(), end - n..end)
        })
    }
}

/// Causal, within the window of all layers if the file has one.
///
/// # Errors
/// If the window cannot be.
pub fn causal_mask(h: &Hyper<'_>) -> Result<Mask, ModelError> {
    let window = h.integer("attention.sliding_window", 0..=u32::MAX as usize)?;
    Ok(match window {
        None | Some(0) => Mask::Causal,
        Some(n) => Mask::Window(n),
    })
}

/// For each layer, whether it attends to a window only: by the file's pattern, or else all but
/// every `period`-th layer.
///
/// # Errors
/// If the pattern is malformed.
pub fn sliding_layers(
    h: &Hyper<'_>,
    layers: usize,
    period: usize,
) -> Result<Vec<bool>, ModelError> {
    let name = "attention.sliding_window_pattern";
    let key = h.key(name);
    if h.metadata
        .get(&key)
        .is_some_and(|value| value.as_array().is_some())
    {
        let pattern = h.metadata.require_bools(&key)?;
        if pattern.len() != layers {
            return Err(ModelError::Hyperparameter {
                key,
                value: format!("an array of {}", pattern.len()),
                what: format!("must have an element for each of {layers} layers"),
            });
        }
        return Ok(pattern);
    }
    let period = h.integer(name, 0..=usize::MAX)?.unwrap_or(period);
    Ok((1..=layers)
        .map(|n| period == 0 || n % period != 0)
        .collect())
}

/// Gemma's factor on the scores. The largest model of a generation, told by its number of layers,
/// uses the root of another head length than its own.
pub fn gemma_scale(c: &Dims, layers_27b: usize) -> f32 {
    let dim = if c.layers == layers_27b {
        c.width / c.heads
    } else {
        c.head_dim
    };
    (dim as f32).sqrt().recip()
}
