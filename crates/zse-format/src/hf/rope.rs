//! Rotary embeddings: of `rope_parameters` (transformers 5), or of `rope_theta` and `rope_scaling`
//! before it.

use std::f64::consts::TAU;

use serde_json::json;

use super::{Config, Keys, common};
use crate::FormatError;

/// The rotary embedding; of a model with two, that of global attention.
pub(super) fn describe(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    let rope = Rope::read(c)?;
    keys.set("rope.freq_base", rope.theta as f32)?;
    keys.set("rope.dimension_count", rope.dims)?;
    let p = &rope.parameters;
    // The three axes of a model that sees.
    p.allow_only("mrope_section", &[])?;
    match rope.kind.as_str() {
        "default" => Ok(()),
        "linear" => {
            keys.set("rope.scaling.type", "linear")?;
            keys.set("rope.scaling.factor", p.require_f64("factor")? as f32)
        }
        "yarn" => rope.yarn(c, keys),
        "longrope" | "su" => rope.longrope(c, keys),
        "llama3" => {
            let factors = rope.llama3()?;
            keys.numbers("rope_freqs.weight", factors);
            Ok(())
        }
        _ => {
            let what = "default, linear, yarn, longrope and llama3 are";
            Err(p.not_implemented(rope.kind_key, what))
        }
    }
}

/// The base of the rotary embedding of layers with a window.
pub(super) fn describe_local(c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
    let local = match c.object("rope_parameters")? {
        Some(all) => all.object("sliding_attention")?,
        None => None,
    };
    let theta = match local {
        Some(local) => {
            local.allow_only("rope_type", &[json!("default")])?;
            local.require_f64("rope_theta")?
        }
        None => c.f64("rope_local_base_freq")?.unwrap_or(10_000.0),
    };
    keys.set("rope.freq_base_swa", theta as f32)
}

/// Refuses heads of which only a part is rotated.
pub(super) fn expect_whole_heads(c: &Config) -> Result<(), FormatError> {
    let rope = Rope::read(c)?;
    if rope.dims == common::head_dim(c)? && rope.dims.is_multiple_of(2) {
        return Ok(());
    }
    let what = "for this architecture, rotating whole heads of even length is";
    Err(c.not_implemented("partial_rotary_factor", what))
}

struct Rope {
    theta: f64,
    /// Rotated numbers of a head.
    dims: u32,
    kind: String,
    /// The key that says the kind.
    kind_key: &'static str,
    parameters: Config,
}

impl Rope {
    fn read(c: &Config) -> Result<Self, FormatError> {
        let parameters = match c.object("rope_parameters")? {
            Some(all) => match all.object("full_attention")? {
                Some(global) => global,
                None => all,
            },
            None => match c.object("rope_scaling")? {
                Some(scaling) => scaling,
                None => c.empty("rope_scaling"),
            },
        };
        let kind_key = if parameters.get("rope_type").is_some() {
            "rope_type"
        } else {
            "type"
        };
        let kind = parameters.str(kind_key)?.unwrap_or("default").to_owned();
        let either = |key, default| match parameters.f64(key)? {
            Some(x) => Ok(x),
            None => Ok(c.f64(key)?.unwrap_or(default)),
        };
        let theta = either("rope_theta", 10_000.0)?;
        let part = either("partial_rotary_factor", 1.0)?;
        if !(0.0..=1.0).contains(&part) {
            return Err(c.unusable("partial_rotary_factor", "must be from 0 to 1".to_owned()));
        }
        let dims = (f64::from(common::head_dim(c)?) * part) as u32;
        Ok(Self {
            theta,
            dims,
            kind,
            kind_key,
            parameters,
        })
    }

    /// Tokens that the model was trained for before its context was extended.
    fn original_context(&self, c: &Config) -> Result<u32, FormatError> {
        let key = "original_max_position_embeddings";
        let found = match self.parameters.u32(key)? {
            Some(n) => Some(n),
            None => c.u32(key)?,
        };
        match found {
            Some(0) => Err(c.unusable(key, "must be at least 1".to_owned())),
            Some(n) => Ok(n),
            None => c.require_u32("max_position_embeddings"),
        }
    }

    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    fn yarn(&self, c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
        let p = &self.parameters;
        p.allow_only("truncate", &[json!(true)])?;
        for key in ["mscale", "mscale_all_dim"] {
            p.allow_only(key, &[])?;
        }
        keys.set("rope.scaling.type", "yarn")?;
        keys.set("rope.scaling.factor", p.require_f64("factor")? as f32)?;
        keys.set(
            "rope.scaling.original_context_length",
            self.original_context(c)?,
        )?;
        for (from, to) in [
            ("attention_factor", "rope.scaling.yarn_attn_factor"),
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
        ] {
            if let Some(x) = p.f64(from)? {
                keys.set(to, x as f32)?;
            }
        }
        Ok(())
    }

    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): a divisor of each frequency, for short and
    /// for long contexts.
    fn longrope(&self, c: &Config, keys: &mut Keys) -> Result<(), FormatError> {
        let p = &self.parameters;
        let original = self.original_context(c)?;
        let factor = match p.f64("factor")? {
            Some(factor) => factor,
            None => f64::from(c.require_u32("max_position_embeddings")?) / f64::from(original),
        };
        let magnitude = match p.f64("attention_factor")? {
            Some(magnitude) => magnitude,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / f64::from(original).ln()).sqrt(),
        };
        keys.set("rope.scaling.type", "longrope")?;
        keys.set("rope.scaling.original_context_length", original)?;
        keys.set("rope.scaling.attn_factor", magnitude as f32)?;
        keys.numbers("rope_factors_long.weight", p.require_f32s("long_factor")?);
        keys.numbers("rope_factors_short.weight", p.require_f32s("short_factor")?);
        Ok(())
    }

    /// Llama 3.1: what each frequency is divided by, by how often it turns within the original
    /// context: rarely turning ones by `factor`, often turning ones by 1.
    fn llama3(&self) -> Result<Vec<f32>, FormatError> {
        let p = &self.parameters;
        let factor = p.require_f64("factor")?;
        let original = f64::from(p.require_u32("original_max_position_embeddings")?);
        let low = p.require_f64("low_freq_factor")?;
        let high = p.require_f64("high_freq_factor")?;
        if factor < 1.0 || high <= low {
            let problem = "must be at least 1, and high_freq_factor more than low_freq_factor";
            return Err(p.unusable("factor", problem.to_owned()));
        }
        let pairs = (0..self.dims).step_by(2).map(|i| {
            let exponent = -f64::from(i) / f64::from(self.dims);
            let turns = original * self.theta.powf(exponent) / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - kept) / factor + kept)) as f32
        });
        Ok(pairs.collect())
    }
}
