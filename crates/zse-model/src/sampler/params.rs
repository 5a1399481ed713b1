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
    /// Mirostat instead of the truncations.
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
        let penalties = self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0;
        window(penalties, self.penalty_last_n)
            .max(window(self.dry_multiplier != 0.0, self.dry_last_n))
    }
}
