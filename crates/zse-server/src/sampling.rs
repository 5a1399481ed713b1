//! The parameters of a draw, for every endpoint that generates.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use zse::{Generate, Mirostat, SampleParams, Tokenizer};

use crate::error::ApiError;
use crate::guard::Tenant;
use crate::models::{LoraScale, Wanted};
use crate::request::{Fields, Texts};

/// Most stop strings, and breakers of DRY: each costs time at every character.
const MAX_STRINGS: usize = 32;
/// Most bytes of one of them.
const MAX_STRING: usize = 1024;
/// Most entries of `logit_bias`, and of `stop_token_ids`.
const MAX_TOKENS: usize = 1024;
/// Most log-probabilities beside a token's own.
const MAX_TOP: u32 = 20;

/// Parameters with the names and defaults of OpenAI's API, and those of llama.cpp's and vLLM's
/// servers for what OpenAI has no name for.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Sampling {
    n: Option<u32>,
    seed: Option<i64>,
    stop: Option<Texts>,
    #[serde(default)]
    stop_token_ids: Vec<u32>,
    min_tokens: Option<usize>,
    cache_prompt: Option<bool>,
    priority: Option<i32>,
    ignore_eos: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    #[serde(alias = "repeat_penalty")]
    repetition_penalty: Option<f32>,
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    dry_multiplier: Option<f32>,
    dry_base: Option<f32>,
    dry_allowed_length: Option<u32>,
    dry_penalty_last_n: Option<i64>,
    dry_sequence_breakers: Option<Vec<String>>,
    xtc_probability: Option<f32>,
    xtc_threshold: Option<f32>,
    mirostat: Option<u8>,
    mirostat_tau: Option<f32>,
    mirostat_eta: Option<f32>,
    #[serde(default)]
    logit_bias: BTreeMap<String, f32>,
    /// The name of an adapter of the model.
    adapter: Option<String>,
    /// Adapters of the model by their numbers, each with how much of it is added.
    lora: Option<Vec<LoraScale>>,
    /// Whose request it is, which no parameter says.
    #[serde(skip)]
    tenant: Tenant,
}

/// The parameters that have many entries, each with how many there may be.
const COUNTED: [(&str, usize); 4] = [
    ("logit_bias", MAX_TOKENS),
    ("stop_token_ids", MAX_TOKENS),
    ("stop", MAX_STRINGS),
    ("dry_sequence_breakers", MAX_STRINGS),
];

impl Sampling {
    /// Refuses parameters with too many entries, before any of these is looked at.
    ///
    /// # Errors
    /// Names the parameter.
    pub(crate) fn count(fields: &Fields) -> Result<(), ApiError> {
        for (name, most) in COUNTED {
            let entries = match fields.get(name) {
                Some(Value::Object(map)) => map.len(),
                Some(Value::Array(list)) => list.len(),
                _ => 0,
            };
            match most {
                MAX_STRINGS if entries > most => return Err(too_many_strings(name)),
                _ => limit_tokens(name, entries)?,
            }
        }
        Ok(())
    }

    /// Which adapters are wanted.
    pub(crate) fn adapters(&self) -> Wanted {
        Wanted {
            adapter: self.adapter.clone(),
            lora: self.lora.clone(),
        }
    }

    /// How many continuations are wanted.
    pub(crate) fn n(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    /// Asks for another number of continuations.
    pub(crate) fn set_n(&mut self, n: u32) {
        self.n = Some(n);
    }

    /// Whose part of the prefix cache it uses.
    pub(crate) fn belongs_to(&mut self, tenant: &Tenant) {
        self.tenant = tenant.clone();
    }

    /// Ends the text at these, too.
    pub(crate) fn stop_at(&mut self, texts: Vec<String>) {
        self.stop.get_or_insert_default().0.extend(texts);
    }

    /// The settings of a generation, all within their ranges but for what depends on the model.
    ///
    /// # Errors
    /// Names the parameter that is out of its range.
    pub(crate) fn settings(
        self,
        tokenizer: &Tokenizer,
        max_tokens: Option<usize>,
        top_logprobs: u32,
    ) -> Result<Generate, ApiError> {
        let n = self.n();
        let d = SampleParams::default();
        let stop = self.stop.map_or_else(Vec::new, |many| many.0);
        limit_strings("stop", &stop)?;
        limit_tokens("stop_token_ids", self.stop_token_ids.len())?;
        let breakers = self
            .dry_sequence_breakers
            .unwrap_or_else(|| ["\n", ":", "\"", "*"].map(str::to_owned).into());
        limit_strings("dry_sequence_breakers", &breakers)?;
        let breakers: Vec<&str> = breakers.iter().map(String::as_str).collect();
        let dry_multiplier = self.dry_multiplier.unwrap_or(d.dry_multiplier);
        let params = SampleParams {
            // Bits are bits: a negative seed is as good as any.
            seed: self.seed.map_or_else(random, |seed| seed as u64),
            temperature: self.temperature.unwrap_or(d.temperature),
            top_k: self.top_k.map_or(Ok(d.top_k), |k| {
                from_minus_1("top_k", k).map(|k| k.unwrap_or(0))
            })?,
            top_p: self.top_p.unwrap_or(d.top_p),
            min_p: self.min_p.unwrap_or(d.min_p),
            typical_p: self.typical_p.unwrap_or(d.typical_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(d.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(d.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(d.frequency_penalty),
            penalty_last_n: self
                .repeat_last_n
                .map_or(Ok(d.penalty_last_n), |n| from_minus_1("repeat_last_n", n))?,
            dry_multiplier,
            dry_base: self.dry_base.unwrap_or(d.dry_base),
            dry_allowed_length: self.dry_allowed_length.unwrap_or(d.dry_allowed_length),
            dry_last_n: self
                .dry_penalty_last_n
                .map_or(Ok(d.dry_last_n), |n| from_minus_1("dry_penalty_last_n", n))?,
            dry_breakers: match dry_multiplier > 0.0 {
                true => zse::tokens_containing(tokenizer, &breakers),
                false => Vec::new(),
            },
            xtc_probability: self.xtc_probability.unwrap_or(d.xtc_probability),
            xtc_threshold: self.xtc_threshold.unwrap_or(d.xtc_threshold),
            mirostat: self
                .mirostat
                .filter(|&version| version > 0)
                .map(|version| Mirostat {
                    version,
                    tau: self.mirostat_tau.unwrap_or(5.0),
                    eta: self.mirostat_eta.unwrap_or(0.1),
                }),
            logit_bias: biases(&self.logit_bias)?,
            top_logprobs,
        };
        params
            .validate()
            .map_err(|error| ApiError::from(&zse::RequestError::from(error)))?;
        Ok(Generate {
            params,
            // Whoever sets a window knows llama.cpp's penalties, which share it.
            count_drawn: self.repeat_last_n.is_none(),
            max_tokens,
            min_tokens: self.min_tokens.unwrap_or(0),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            stop,
            stop_tokens: self.stop_token_ids,
            n,
            cache: self.cache_prompt.unwrap_or(true),
            // Else whoever has a key could learn from times what others asked.
            salt: self.tenant.salt().to_owned(),
            priority: self.priority.unwrap_or(0),
            show_special: false,
            constraint: None,
        })
    }
}

/// How many other tokens' log-probabilities the parameter `name` asks for, if there may be so many.
///
/// # Errors
/// Says both numbers.
pub(crate) fn check_top(name: &str, top: u32) -> Result<u32, ApiError> {
    match top <= MAX_TOP {
        true => Ok(top),
        false => {
            let message = format!("{name} is {top}, must be at most {MAX_TOP}");
            Err(ApiError::param(name, message))
        }
    }
}

/// A count of which -1 stands for all.
fn from_minus_1(name: &str, n: i64) -> Result<Option<u32>, ApiError> {
    match n {
        -1 => Ok(None),
        n => u32::try_from(n).map(Some).map_err(|_| {
            ApiError::param(
                name,
                format!("{name} is {n}, must be at least 0, or -1 for all"),
            )
        }),
    }
}

fn limit_strings(name: &str, strings: &[String]) -> Result<(), ApiError> {
    match strings.len() <= MAX_STRINGS && strings.iter().all(|s| s.len() <= MAX_STRING) {
        true => Ok(()),
        false => Err(too_many_strings(name)),
    }
}

fn too_many_strings(name: &str) -> ApiError {
    let message = format!("{name} may have {MAX_STRINGS} strings of {MAX_STRING} bytes at most");
    ApiError::param(name, message)
}

fn limit_tokens(name: &str, tokens: usize) -> Result<(), ApiError> {
    match tokens <= MAX_TOKENS {
        true => Ok(()),
        false => {
            let most = format!("{name} may have {MAX_TOKENS} entries at most");
            Err(ApiError::param(name, most))
        }
    }
}

/// OpenAI's map from token ids, which JSON has as text, to biases.
fn biases(map: &BTreeMap<String, f32>) -> Result<Vec<(u32, f32)>, ApiError> {
    let wrong = |what: String| ApiError::param("logit_bias", what);
    limit_tokens("logit_bias", map.len())?;
    let one = |(token, &bias): (&String, &f32)| match token.parse() {
        Ok(token) => Ok((token, bias)),
        Err(_) => Err(wrong(format!("logit_bias: '{token}' is no token id"))),
    };
    map.iter().map(one).collect()
}

/// A number that is another one each time; no secret.
pub(crate) fn random() -> u64 {
    // The standard library's own source of randomness.
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use zse::ModelSource;

    fn settings(body: Value) -> Result<Generate, String> {
        let checkpoint = ModelSource::Builtin.open().unwrap();
        let tokenizer = Tokenizer::from_metadata(checkpoint.metadata()).unwrap();
        let sampling: Sampling = serde_json::from_value(body).map_err(|e| e.to_string())?;
        let settings = sampling.settings(&tokenizer, None, 0);
        settings.map_err(|e| e.body().to_string())
    }

    #[test]
    fn nothing_given_is_openais_default() {
        let given = settings(json!({ "seed": 0 })).unwrap();
        let expected = Generate {
            count_drawn: true,
            ..Generate::default()
        };
        assert_eq!(given, expected);
    }

    #[test]
    fn every_parameter_arrives() {
        let given = settings(json!({
            "n": 3, "seed": -1, "stop": ["a", "b"], "stop_token_ids": [7], "min_tokens": 2,
            "ignore_eos": true, "cache_prompt": false, "priority": -2,
            "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.05,
            "typical_p": 0.8, "repetition_penalty": 1.1, "repeat_last_n": -1,
            "presence_penalty": 0.25, "frequency_penalty": -0.25, "dry_multiplier": 0.75,
            "dry_base": 2.0, "dry_allowed_length": 3, "dry_penalty_last_n": 128,
            "dry_sequence_breakers": [], "xtc_probability": 0.125, "xtc_threshold": 0.25,
            "mirostat": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.5,
            "logit_bias": { "15": -100.0 },
        }))
        .unwrap();
        let expected = Generate {
            params: SampleParams {
                seed: u64::MAX,
                temperature: 0.5,
                top_k: 40,
                top_p: 0.9,
                min_p: 0.05,
                typical_p: 0.8,
                repetition_penalty: 1.1,
                presence_penalty: 0.25,
                frequency_penalty: -0.25,
                penalty_last_n: None,
                dry_multiplier: 0.75,
                dry_base: 2.0,
                dry_allowed_length: 3,
                dry_last_n: Some(128),
                dry_breakers: Vec::new(),
                xtc_probability: 0.125,
                xtc_threshold: 0.25,
                mirostat: Some(Mirostat {
                    version: 2,
                    tau: 4.0,
                    eta: 0.5,
                }),
                logit_bias: vec![(15, -100.0)],
                top_logprobs: 0,
            },
            count_drawn: false,
            max_tokens: None,
            min_tokens: 2,
            ignore_eos: true,
            stop: vec!["a".to_owned(), "b".to_owned()],
            stop_tokens: vec![7],
            n: 3,
            cache: false,
            salt: String::new(),
            priority: -2,
            show_special: false,
            constraint: None,
        };
        assert_eq!(given, expected);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (body, name) in [
            (json!({ "temperature": -1 }), "temperature"),
            (json!({ "temperature": 1e300 }), "temperature"),
            (json!({ "top_p": 1.5 }), "top_p"),
            (json!({ "top_k": -2 }), "top_k"),
            (json!({ "repeat_last_n": i64::MIN }), "repeat_last_n"),
            (json!({ "mirostat": 3 }), "mirostat_version"),
            (json!({ "mirostat": 2, "mirostat_tau": -1 }), "mirostat_tau"),
            (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
            (json!({ "stop": vec!["a"; 33] }), "stop"),
            (json!({ "stop_token_ids": vec![1; 1025] }), "stop_token_ids"),
            (json!({ "stop": "a".repeat(1025) }), "stop"),
        ] {
            let error = settings(body).unwrap_err();
            assert!(error.contains(&format!(r#""param":"{name}""#)), "{error}");
        }
    }
}
