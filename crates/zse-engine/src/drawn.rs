//! Presence and frequency penalties on all that was drawn, as biases that follow what is drawn.

use std::collections::HashMap;
use std::sync::Arc;

use zse_model::sampler::SampleParams;

/// How tokens are drawn.
pub(crate) struct Settings {
    params: Arc<SampleParams>,
    penalties: Option<Penalties>,
}

/// Penalties that are biases.
struct Penalties {
    presence: f32,
    frequency: f32,
    seen: HashMap<u32, Seen>,
}

/// A token that was drawn.
struct Seen {
    /// Where its bias is.
    at: usize,
    /// What the request itself adds to its logit.
    own: f32,
    count: u32,
}

impl Settings {
    /// With both penalties on all that is drawn where `count_drawn`, and as `params` have them otherwise.
    pub(crate) fn new(mut params: SampleParams, count_drawn: bool) -> Self {
        let acts = params.presence_penalty != 0.0 || params.frequency_penalty != 0.0;
        let penalties = (count_drawn && acts).then(|| Penalties {
            presence: std::mem::take(&mut params.presence_penalty),
            frequency: std::mem::take(&mut params.frequency_penalty),
            seen: HashMap::new(),
        });
        Self {
            params: Arc::new(params),
            penalties,
        }
    }

    /// For the token that comes next.
    pub(crate) fn params(&self) -> &Arc<SampleParams> {
        &self.params
    }

    /// Notes that `token` was drawn. Nothing is copied once the executor has let go of the parameters.
    pub(crate) fn note(&mut self, token: u32) {
        let Some(penalties) = &mut self.penalties else {
            return;
        };
        let biases = &mut Arc::make_mut(&mut self.params).logit_bias;
        let seen = penalties.seen.entry(token).or_insert_with(|| {
            // Of several of its own, the sampler adds up all.
            let given = biases.iter().position(|&(other, _)| other == token);
            let at = given.unwrap_or_else(|| {
                biases.push((token, 0.0));
                biases.len() - 1
            });
            Seen {
                at,
                own: biases[at].1,
                count: 0,
            }
        });
        seen.count += 1;
        let penalty = penalties.presence + seen.count as f32 * penalties.frequency;
        // However large, it forbids nothing.
        let sum = seen.own - penalty.clamp(f32::MIN, f32::MAX);
        biases[seen.at].1 = match seen.own {
            f32::NEG_INFINITY => seen.own,
            _ => sum.clamp(f32::MIN, f32::MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_follow_what_is_drawn_and_keep_the_requests_own_biases() {
        let params = SampleParams {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            logit_bias: vec![(7, 2.0), (8, f32::NEG_INFINITY)],
            ..SampleParams::default()
        };
        let mut windowed = Settings::new(params.clone(), false);
        let mut settings = Settings::new(params.clone(), true);
        assert_eq!(settings.params().lookback(), 0);
        for token in [7, 3, 7, 7, 8] {
            settings.note(token);
            windowed.note(token);
        }
        let expected = [(7, 2.0 - 1.25), (8, f32::NEG_INFINITY), (3, -0.75)];
        assert_eq!(settings.params().logit_bias, expected);
        assert_eq!(**windowed.params(), params);
    }

    #[test]
    fn no_penalty_is_large_enough_to_forbid_a_token() {
        for (penalty, bias) in [(f32::MAX, f32::MIN), (f32::MIN, f32::MAX)] {
            let params = SampleParams {
                presence_penalty: penalty,
                frequency_penalty: penalty,
                logit_bias: vec![(1, bias)],
                ..SampleParams::default()
            };
            let mut settings = Settings::new(params, true);
            for _ in 0..3 {
                settings.note(1);
            }
            assert_eq!(settings.params().logit_bias, [(1, bias)]);
        }
    }
}
