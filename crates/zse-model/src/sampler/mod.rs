//! How a token is drawn from logits: the definition that every sampler, on any device, is tested
//! equal to.
//!
//! [`sample`] runs these stages, in this order, each only where its parameter asks for it:
//!
//! | stage | acts on |
//! |---|---|
//! | 1. `logit_bias` | adds to the logits of the named tokens |
//! | 2. mask | forbids the tokens that a grammar rules out |
//! | 3. repetition, presence and frequency penalty | lowers tokens among the newest `penalty_last_n` |
//! | 4. `dry` | lowers tokens that would continue a repetition |
//! | 5. `temperature` 0 | takes the most likely token; nothing below happens |
//! | 6. `mirostat` | temperature, then its own truncation and draw; nothing below happens |
//! | 7. `top_k` | truncates |
//! | 8. `typical_p` | truncates |
//! | 9. `top_p` | truncates |
//! | 10. `min_p` | truncates |
//! | 11. `xtc` | removes the most likely tokens, at random |
//! | 12. `temperature` | divides the logits that are left |
//! | 13. draw | Gumbel-max |
//!
//! This is llama.cpp's default chain, so its settings mean the same here: truncation sees the
//! probabilities before temperature, renormalised over the tokens that earlier stages left. Every
//! truncation leaves at least one token. Probabilities that are reported
//! ([`Sampled::logprob`], [`Sampled::top`]) are the model's own, before stage 1.
//!
//! The draw takes the largest of `logit / temperature + noise`, which is distributed as softmax
//! (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030). The noise is a function of (seed, choice,
//! position, token) alone, see [`Noise`]: it does not matter where, when or in which order a token
//! is evaluated, and whoever asks twice draws the same. Ties go to the lower token id everywhere.

mod candidates;
mod draw;
mod dry;
#[cfg(test)]
mod golden;
mod logprobs;
mod math;
mod mirostat;
mod noise;
mod params;
mod penalties;
mod truncate;
mod xtc;

use std::borrow::Cow;

pub use logprobs::LogProbs;
pub use noise::Noise;
pub use params::{Mirostat, ParamError, SampleParams};

use crate::executor::{SampleJob, Sampled, TokenMask};
use candidates::Candidates;

/// Why no token could be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A logit is NaN or positive infinity.
    #[error("the logit of token {token} is not a number")]
    NotFinite {
        /// The first such token.
        token: u32,
    },
    /// Every token is forbidden by the mask, by a bias or by the model.
    #[error("no token is allowed: mask and logit_bias together forbid the whole vocabulary")]
    NoCandidates,
    /// [`SampleParams::logit_bias`] names a token that the model does not have.
    #[error("logit_bias names token {token}, the vocabulary has {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Entries of the vocabulary.
        vocab: usize,
    },
}

/// Draws a token from `logits` (`[vocab]`). See the module documentation for the stages.
///
/// `job.params` must be [valid](SampleParams::validate); with other settings a token is drawn all
/// the same, but which one is not specified.
///
/// # Errors
/// If a logit is NaN or positive infinity, a bias names an unknown token, or no token is allowed.
/// Negative infinity is a token that the model itself forbids.
pub fn sample(
    logits: &[f32],
    job: &SampleJob,
    mask: Option<&TokenMask>,
) -> Result<Sampled, SampleError> {
    let model = LogProbs::new(logits)?;
    let adjusted = adjust(logits, job, mask)?;
    let (token, mu) = choose(&adjusted, job)?;
    Ok(Sampled {
        token,
        logprob: model.of(token),
        top: model.top(job.params.top_logprobs as usize),
        mu,
    })
}

/// Stages 1 to 4: everything that changes single logits.
fn adjust<'a>(
    logits: &'a [f32],
    job: &SampleJob,
    mask: Option<&TokenMask>,
) -> Result<Cow<'a, [f32]>, SampleError> {
    let p = &*job.params;
    let mut logits = Cow::Borrowed(logits);
    if !p.logit_bias.is_empty() {
        penalties::bias(logits.to_mut(), &p.logit_bias)?;
    }
    if let Some(mask) = mask {
        for (token, logit) in logits.to_mut().iter_mut().enumerate() {
            if mask
                .get(token / 64)
                .is_none_or(|word| word >> (token % 64) & 1 == 0)
            {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
    if p.has_penalties() {
        penalties::penalize(logits.to_mut(), &job.history, p);
    }
    if p.dry_multiplier != 0.0 {
        dry::penalize(logits.to_mut(), &job.history, p);
    }
    Ok(logits)
}

/// Stages 5 to 13: the token, and mirostat's estimate after it.
fn choose(logits: &[f32], job: &SampleJob) -> Result<(u32, f32), SampleError> {
    let p = &*job.params;
    let best = math::argmax(logits).ok_or(SampleError::NoCandidates)?;
    if p.temperature == 0.0 {
        return Ok((best, job.mu));
    }
    let max = logits[best as usize];
    let noise = Noise::new(p.seed, job.choice, job.position);
    if let Some(mirostat) = &p.mirostat {
        return Ok(mirostat::choose(
            logits,
            max,
            p.temperature,
            mirostat,
            job.mu,
            &noise,
        ));
    }
    let token = if p.truncates() {
        let mut candidates = Candidates::top_k(logits, p.top_k);
        candidates.typical_p(p.typical_p);
        candidates.top_p(p.top_p);
        candidates.min_p(p.min_p);
        candidates.xtc(p.xtc_probability, p.xtc_threshold, &noise);
        draw::gumbel_max(candidates.iter(), candidates.max(), p.temperature, &noise)
    } else {
        draw::gumbel_max(candidates::all(logits), max, p.temperature, &noise)
    };
    Ok((token, job.mu))
}

#[cfg(test)]
mod tests;
