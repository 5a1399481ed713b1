//! The settings of a draw.

/// Mirostat (Basu et al. 2020, arXiv:2007.14966): holds the surprise of the text near a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// Version 1 or 2.
    pub version: u8,
    /// Target surprise in bits.
    pub tau: f32,
    /// Learning rate.
    pub eta: f32,
}

/// The settings of a draw, with the names that OpenAI's API and llama.cpp use. The default draws
/// from the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleParams {
    /// Key of the random numbers.
    pub seed: u64,
    /// Divisor of the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens; 0: all.
    pub top_k: u32,
    /// Keeps the most likely tokens that together reach this probability; 1: all.
    pub top_p: f32,
    /// Keeps tokens with at least this share of the best one's probability; 0: all.
    pub min_p: f32,
    /// Keeps the most typical tokens that together reach this probability; 1: all.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen lately; 1: off.
    pub repetition_penalty: f32,
    /// Subtracted once from tokens seen lately; 0: off.
    pub presence_penalty: f32,
    /// Subtracted from tokens seen lately, once for each time; 0: off.
    pub frequency_penalty: f32,
    /// How many of the newest tokens the three penalties look at; `None`: all.
    pub penalty_last_n: Option<u32>,
    /// DRY: strength of the penalty on continuing a repetition; 0: off.
    pub dry_multiplier: f32,
    /// DRY: growth of the penalty by length of the repetition.
    pub dry_base: f32,
    /// DRY: repetitions up to this length are free.
    pub dry_allowed_length: u32,
    /// DRY: how many of the newest tokens are searched; `None`: all.
    pub dry_last_n: Option<u32>,
    /// DRY: tokens at which the search for a repetition stops.
    pub dry_breakers: Vec<u32>,
    /// XTC: probability that the most likely tokens are removed; 0: off.
    pub xtc_probability: f32,
    /// XTC: tokens above this probability are removed, except the least likely of them.
    pub xtc_threshold: f32,
    /// Mirostat instead of truncations and XTC.
    pub mirostat: Option<Mirostat>,
    /// Added to the logits of these tokens, before anything else.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the most likely tokens to report.
    pub top_logprobs: u32,
}

impl Default for SampleParams {
    fn default() -> Self {
        Self {
            seed: 0,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: Some(64),
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_last_n: None,
            dry_breakers: Vec::new(),
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            mirostat: None,
            logit_bias: Vec::new(),
            top_logprobs: 0,
        }
    }
}

impl SampleParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// How many of the newest tokens the penalties look at: what
    /// [`SampleJob::history`](crate::executor::SampleJob::history) must hold.
    pub fn lookback(&self) -> usize {
        let window = |on: bool, last: Option<u32>| match (on, last) {
            (false, _) => 0,
            (true, Some(n)) => n as usize,
            (true, None) => usize::MAX,
        };
        window(self.has_penalties(), self.penalty_last_n)
            .max(window(self.dry_multiplier != 0.0, self.dry_last_n))
    }

    /// What [`SampleJob::mu`](crate::executor::SampleJob::mu) starts from: twice the target.
    pub fn initial_mu(&self) -> f32 {
        self.mirostat.map_or(0.0, |m| 2.0 * m.tau)
    }

    /// Whether any of the three penalties acts.
    pub(super) fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }

    /// Whether any stage may remove tokens before the draw.
    pub(super) fn truncates(&self) -> bool {
        self.top_k != 0
            || self.typical_p < 1.0
            || self.top_p < 1.0
            || self.min_p > 0.0
            || self.xtc_probability > 0.0
    }

    /// Checks every field's range.
    ///
    /// # Errors
    /// Names the first field that is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        let unit = 0.0..=1.0;
        let any = f32::MIN..=f32::MAX;
        let zero_up = 0.0..=f32::MAX;
        let above_zero = f32::MIN_POSITIVE..=f32::MAX;
        let mirostat = self.mirostat.unwrap_or(Mirostat {
            version: 1,
            tau: 1.0,
            eta: 1.0,
        });
        let fields = [
            ("temperature", self.temperature, zero_up.clone()),
            ("top_p", self.top_p, unit.clone()),
            ("min_p", self.min_p, unit.clone()),
            ("typical_p", self.typical_p, unit.clone()),
            (
                "repetition_penalty",
                self.repetition_penalty,
                above_zero.clone(),
            ),
            ("presence_penalty", self.presence_penalty, any.clone()),
            ("frequency_penalty", self.frequency_penalty, any),
            ("dry_multiplier", self.dry_multiplier, zero_up.clone()),
            ("dry_base", self.dry_base, 1.0..=f32::MAX),
            (
                "dry_allowed_length",
                self.dry_allowed_length as f32,
                1.0..=f32::MAX,
            ),
            ("xtc_probability", self.xtc_probability, unit.clone()),
            ("xtc_threshold", self.xtc_threshold, unit),
            ("mirostat version", f32::from(mirostat.version), 1.0..=2.0),
            ("mirostat tau", mirostat.tau, above_zero),
            ("mirostat eta", mirostat.eta, zero_up),
        ];
        for (field, value, range) in fields {
            if !range.contains(&value) {
                return Err(ParamError::Range {
                    field,
                    value,
                    low: *range.start(),
                    high: *range.end(),
                });
            }
        }
        match self
            .logit_bias
            .iter()
            .find(|(_, b)| b.is_nan() || *b == f32::INFINITY)
        {
            Some(&(token, bias)) => Err(ParamError::Bias { token, bias }),
            None => Ok(()),
        }
    }
}

/// A setting that is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ParamError {
    /// A number.
    #[error("{field} is {value}, must be {}", range_text(*low, *high))]
    Range {
        /// Name of the field of [`SampleParams`].
        field: &'static str,
        /// What it was.
        value: f32,
        /// Smallest value allowed.
        low: f32,
        /// Largest value allowed.
        high: f32,
    },
    /// A bias.
    #[error("logit_bias of token {token} is {bias}, must be a number or negative infinity")]
    Bias {
        /// The token.
        token: u32,
        /// What it was.
        bias: f32,
    },
}

/// The range in words.
fn range_text(low: f32, high: f32) -> String {
    match (low, high) {
        (f32::MIN, _) => "finite".to_owned(),
        (f32::MIN_POSITIVE, f32::MAX) => "finite and above 0".to_owned(),
        (_, f32::MAX) => format!("finite and at least {low}"),
        _ => format!("from {low} to {high}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(SampleParams::default().validate(), Ok(()));
        assert_eq!(SampleParams::greedy().validate(), Ok(()));
    }

    #[test]
    fn errors_name_field_and_range() {
        let message = |change: &dyn Fn(&mut SampleParams)| {
            let mut p = SampleParams::default();
            change(&mut p);
            p.validate().unwrap_err().to_string()
        };
        assert_eq!(
            message(&|p| p.top_p = 1.5),
            "top_p is 1.5, must be from 0 to 1"
        );
        assert_eq!(
            message(&|p| p.min_p = f32::NAN),
            "min_p is NaN, must be from 0 to 1"
        );
        assert_eq!(
            message(&|p| p.temperature = -1.0),
            "temperature is -1, must be finite and at least 0"
        );
        assert_eq!(
            message(&|p| p.repetition_penalty = 0.0),
            "repetition_penalty is 0, must be finite and above 0"
        );
        assert_eq!(
            message(&|p| p.presence_penalty = f32::INFINITY),
            "presence_penalty is inf, must be finite"
        );
        assert_eq!(
            message(&|p| p.mirostat = Some(Mirostat {
                version: 3,
                tau: 5.0,
                eta: 0.1
            })),
            "mirostat version is 3, must be from 1 to 2"
        );
        assert_eq!(
            message(&|p| p.logit_bias = vec![(4, f32::NAN)]),
            "logit_bias of token 4 is NaN, must be a number or negative infinity"
        );
        assert!(message(&|p| p.dry_base = 0.5).starts_with("dry_base"));
        assert!(message(&|p| p.dry_allowed_length = 0).starts_with("dry_allowed_length"));
    }

    #[test]
    fn lookback_covers_every_window() {
        let p = SampleParams::default();
        assert_eq!(p.lookback(), 0);
        let p = SampleParams {
            presence_penalty: 1.0,
            ..p
        };
        assert_eq!(p.lookback(), 64);
        let p = SampleParams {
            dry_multiplier: 1.0,
            dry_last_n: Some(100),
            ..p
        };
        assert_eq!(p.lookback(), 100);
        assert_eq!(
            SampleParams {
                dry_last_n: None,
                ..p
            }
            .lookback(),
            usize::MAX
        );
    }
}
