//! How tokens are drawn and when a generation ends; names and defaults are llama.cpp's.

use clap::Args;
use zse::{Generate, Mirostat, SampleParams, Tokenizer};

use crate::Usage;

/// When a generation ends.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GenerateArgs {
    /// Most tokens to generate [default: as many as the context holds]
    #[arg(short = 'n', long = "n-predict", aliases = ["n", "predict", "max-tokens"], value_name = "N",
          allow_negative_numbers = true, value_parser = token_count)]
    pub(crate) n_predict: Option<TokenCount>,
    /// Text that ends the generation; may be given several times
    #[arg(
        long,
        visible_alias = "reverse-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    pub(crate) stop: Vec<String>,
    /// Go on behind the model's end of text
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) ignore_eos: Option<bool>,
}

/// A number of tokens, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenCount(pub(crate) Option<usize>);

fn token_count(text: &str) -> Result<TokenCount, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(TokenCount(None)),
        Ok(n) if n >= 0 => Ok(TokenCount(Some(n as usize))),
        _ => Err("must be a number of tokens, or -1 for no limit".to_owned()),
    }
}

/// How tokens are drawn. Absent options have the defaults that their help states; they stay absent
/// here, so that settings can be changed one by one.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Temperature; 0: always the most likely token [default: 0.8]
    #[arg(long, visible_alias = "temperature", value_name = "T")]
    temp: Option<f32>,
    /// Keep the K most likely tokens; 0: all [default: 40]
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Keep the most likely tokens that together reach probability P; 1: all [default: 0.95]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Keep tokens with at least this share of the best one's probability; 0: all [default: 0.05]
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Keep the most typical tokens that together reach probability P; 1: all [default: 1]
    #[arg(long, visible_alias = "typical-p", value_name = "P")]
    typical: Option<f32>,
    /// Seed of the random numbers [default: another one each time]
    #[arg(short, long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Divide (or, below 0, multiply) the logits of tokens seen lately by this; 1: off [default: 1]
    #[arg(long, visible_alias = "repetition-penalty", value_name = "X")]
    repeat_penalty: Option<f32>,
    /// How many tokens the penalties look back; 0: off, -1: all [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    repeat_last_n: Option<i64>,
    /// Subtract this from tokens seen lately [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtract this from tokens seen lately, once for each time [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// DRY: strength of the penalty on repeating sequences; 0: off [default: 0]
    #[arg(long, value_name = "X")]
    dry_multiplier: Option<f32>,
    /// DRY: growth of the penalty with the length of the repetition [default: 1.75]
    #[arg(long, value_name = "X")]
    dry_base: Option<f32>,
    /// DRY: repetitions up to this length are free [default: 2]
    #[arg(long, value_name = "N")]
    dry_allowed_length: Option<u32>,
    /// DRY: how many tokens to search; 0: off, -1: all [default: -1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    dry_penalty_last_n: Option<i64>,
    /// DRY: text at which the search stops; may be given several times; `none`: nothing
    /// [default: line end, `:`, `"`, `*`]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) dry_sequence_breaker: Vec<String>,
    /// XTC: probability of removing the most likely tokens; 0: off [default: 0]
    #[arg(long, value_name = "P")]
    xtc_probability: Option<f32>,
    /// XTC: tokens above this probability are removed, except the least likely of them
    /// [default: 0.1]
    #[arg(long, value_name = "P")]
    xtc_threshold: Option<f32>,
    /// Mirostat instead of truncations: 1 or 2; 0: off [default: 0]
    #[arg(long, value_name = "N")]
    mirostat: Option<u8>,
    /// Mirostat: target surprise in bits [default: 5]
    #[arg(long, value_name = "X")]
    mirostat_ent: Option<f32>,
    /// Mirostat: learning rate [default: 0.1]
    #[arg(long, value_name = "X")]
    mirostat_lr: Option<f32>,
    /// Add to the logit of a token: `15043+1`, `15043-1`, `15043-inf`; may be given several times
    #[arg(short, long, value_name = "TOKEN+BIAS", value_parser = bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Report this many of the most likely tokens at each place, with --json [default: 0]
    #[arg(long, visible_alias = "n-probs", value_name = "N")]
    pub(crate) logprobs: Option<u32>,
}

impl SamplingArgs {
    /// The parameters of a draw by a model with `tokenizer`; `seed` is for where none was given.
    fn params(&self, tokenizer: &Tokenizer, seed: u64) -> SampleParams {
        let d = SampleParams::default();
        // -1 (or any negative number) stands for all tokens.
        let window = |n: Option<i64>, default| n.map_or(default, |n| u32::try_from(n).ok());
        let dry_multiplier = self.dry_multiplier.unwrap_or(0.0);
        let mirostat = self
            .mirostat
            .filter(|&version| version > 0)
            .map(|version| Mirostat {
                version,
                tau: self.mirostat_ent.unwrap_or(5.0),
                eta: self.mirostat_lr.unwrap_or(0.1),
            });
        SampleParams {
            seed: self.seed.unwrap_or(seed),
            temperature: self.temp.unwrap_or(0.8),
            top_k: self.top_k.unwrap_or(40),
            top_p: self.top_p.unwrap_or(0.95),
            min_p: self.min_p.unwrap_or(0.05),
            typical_p: self.typical.unwrap_or(d.typical_p),
            repetition_penalty: self.repeat_penalty.unwrap_or(d.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(d.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(d.frequency_penalty),
            penalty_last_n: window(self.repeat_last_n, d.penalty_last_n),
            dry_multiplier,
            dry_base: self.dry_base.unwrap_or(d.dry_base),
            dry_allowed_length: self.dry_allowed_length.unwrap_or(d.dry_allowed_length),
            dry_last_n: window(self.dry_penalty_last_n, d.dry_last_n),
            dry_breakers: match dry_multiplier > 0.0 {
                true => zse::tokens_containing(tokenizer, &self.breakers()),
                false => Vec::new(),
            },
            xtc_probability: self.xtc_probability.unwrap_or(d.xtc_probability),
            xtc_threshold: self.xtc_threshold.unwrap_or(d.xtc_threshold),
            mirostat,
            logit_bias: self.logit_bias.clone(),
            top_logprobs: self.logprobs.unwrap_or(0),
        }
    }

    fn breakers(&self) -> Vec<&str> {
        match self
            .dry_sequence_breaker
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
        {
            none if none == ["none"] => Vec::new(),
            default if default.is_empty() => vec!["\n", ":", "\"", "*"],
            given => given,
        }
    }
}

/// Everything about one generation; an error says which setting is out of its range.
pub(crate) fn settings(
    tokenizer: &Tokenizer,
    generate: &GenerateArgs,
    sampling: &SamplingArgs,
    seed: u64,
) -> Result<Generate, Usage> {
    let params = sampling.params(tokenizer, seed);
    params.validate().map_err(|e| Usage(e.to_string()))?;
    if generate.stop.iter().any(String::is_empty) {
        return Err(Usage("--stop is empty: it would end every text".to_owned()));
    }
    Ok(Generate {
        params,
        max_tokens: generate.n_predict.and_then(|n| n.0),
        ignore_eos: generate.ignore_eos.unwrap_or(false),
        stop: generate.stop.clone(),
        ..Generate::default()
    })
}

/// A seed that is another one each time.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's own source of randomness; 32 bits are easy to type again.
    RandomState::new().hash_one(0) >> 32
}

/// `TOKEN+BIAS` or `TOKEN-BIAS`, where the bias may be `inf`.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let usage = || format!("'{text}' is not of the form 15043+1, 15043-1 or 15043-inf");
    let at = text.find(['+', '-']).ok_or_else(usage)?;
    let token = text[..at].parse().map_err(|_| usage())?;
    let bias: f32 = text[at..].parse().map_err(|_| usage())?;
    Ok((token, bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_parse() {
        assert_eq!(bias("15043+1.5"), Ok((15043, 1.5)));
        assert_eq!(bias("7-2"), Ok((7, -2.0)));
        assert_eq!(bias("7-inf"), Ok((7, f32::NEG_INFINITY)));
        assert!(bias("seven+1").is_err());
        assert!(bias("7").is_err());
    }

    #[test]
    fn token_counts_parse() {
        assert_eq!(token_count("12"), Ok(TokenCount(Some(12))));
        assert_eq!(token_count("-1"), Ok(TokenCount(None)));
        assert!(token_count("-2").is_err());
        assert!(token_count("many").is_err());
    }
}
