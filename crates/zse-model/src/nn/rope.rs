//! Rotary embeddings as a file's metadata describe them.

use crate::builder::{Builder, TOP};
use crate::error::ModelError;
use crate::nn::{Dims, Hyper};
use crate::program::{Rope, RopeScaling, RopeStyle, TensorId};

/// The rotary embedding of the model: base and rotated dimensions, with the file's long-context
/// scaling (linear, YaRN, or the frequency factors of Llama 3.1 and LongRoPE).
///
/// # Errors
/// If a number cannot be or the kind of scaling is unknown.
pub fn rope(
    b: &mut Builder,
    h: &Hyper<'_>,
    c: &Dims,
    style: RopeStyle,
) -> Result<Rope, ModelError> {
    let dims = h
        .integer("rope.dimension_count", 2..=c.head_dim)?
        .unwrap_or(c.head_dim);
    let base = h.positive("rope.freq_base")?.unwrap_or(10_000.0);
    let original_context = h.integer(
        "rope.scaling.original_context_length",
        1..=u32::MAX as usize,
    )?;
    let original_context = original_context.unwrap_or(c.trained_context);
    let (scaling, magnitude) = scaling(h, original_context)?;
    if base <= 1.0 {
        return Err(ModelError::Hyperparameter {
            key: h.key("rope.freq_base"),
            value: base.to_string(),
            what: "must be greater than 1".to_owned(),
        });
    }
    let factors = factors(b, dims, c.context > original_context);
    Ok(Rope {
        dims,
        style,
        base,
        scaling,
        factors,
        magnitude,
    })
}

/// The scaling of angles, and the factor on sine and cosine.
fn scaling(h: &Hyper<'_>, original_context: usize) -> Result<(RopeScaling, f32), ModelError> {
    let key = h.key("rope.scaling.type");
    let kind = h.metadata.str(&key)?.unwrap_or("linear");
    let factor = match h.positive_or_none("rope.scaling.factor")? {
        Some(factor) => factor,
        None => h.positive_or_none("rope.scale_linear")?.unwrap_or(1.0),
    };
    let magnitude = h.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
    match kind {
        "linear" if factor != 1.0 => Ok((RopeScaling::Linear { factor }, magnitude)),
        "none" | "linear" | "longrope" => Ok((RopeScaling::None, magnitude)),
        "yarn" => {
            let by_paper = 1.0 + 0.1 * factor.ln().max(0.0);
            let own = h
                .positive("rope.scaling.yarn_attn_factor")?
                .unwrap_or(by_paper);
            let yarn = RopeScaling::Yarn {
                factor,
                original_context: original_context as u32,
                beta_fast: h.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: h.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            };
            Ok((yarn, magnitude * own))
        }
        other => Err(ModelError::Hyperparameter {
            key,
            value: format!("'{other}'"),
            what: "known kinds are none, linear, yarn and longrope".to_owned(),
        }),
    }
}

/// Divisors of the frequencies: Llama 3.1's, or one of LongRoPE's two sets (Ding et al. 2024,
/// arXiv:2402.13753). Which of them is right depends on how long a sequence may grow: keys are
/// cached after rotation, so the set cannot change on the way.
fn factors(b: &mut Builder, dims: usize, long: bool) -> Option<TensorId> {
    let by_length = if long {
        "rope_factors_long"
    } else {
        "rope_factors_short"
    };
    let name = ["rope_freqs", by_length]
        .into_iter()
        .find(|name| b.has(TOP, name))?;
    Some(b.vector(TOP, name, dims / 2))
}
