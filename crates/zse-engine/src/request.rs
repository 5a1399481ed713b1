//! What callers ask for, and what is refused before it costs anything.

use std::fmt::Write;
use std::sync::Arc;

use zse_model::executor::AdapterUse;
use zse_model::sampler::{ParamError, SampleParams};
use zse_text::{Constraint, GrammarError};

use crate::adapters::{self, AdapterChoice};

/// A request: a prompt and what to do with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// What is wanted.
    pub task: Task,
    /// What is added to the model; an adapter that is named twice is added twice.
    pub adapters: Vec<AdapterChoice>,
}

/// What is done with a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Continue it.
    Generate(Box<Generate>),
    /// Tell how likely its tokens are, each given those before it.
    Score(Score),
    /// Give its embedding, for a model that pools.
    Embed,
}

/// Which tokens of a prompt are scored, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Index of the first token to score; at least 1, as the first of all has none before it.
    pub from: usize,
    /// How many of the most likely tokens are told for the place of each.
    pub top: u32,
    /// As [`Generate::cache`]. Tokens are computed nevertheless whose results are wanted: all from the
    /// one before `from` on.
    pub cache: bool,
    /// As [`Generate::salt`].
    pub salt: String,
    /// As [`Generate::priority`].
    pub priority: i32,
}

impl Default for Score {
    fn default() -> Self {
        Self {
            from: 1,
            top: 0,
            cache: true,
            salt: String::new(),
            priority: 0,
        }
    }
}

/// How a prompt is continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    /// How tokens are drawn.
    pub params: SampleParams,
    /// Whether the presence and the frequency penalty of `params` count all that was drawn, and nothing of
    /// the prompt, as OpenAI's API has it. Without, they look at the newest tokens, as llama.cpp does. Where
    /// they count, they are subtracted before the repetition penalty.
    pub count_drawn: bool,
    /// Most tokens to generate; `None`: as many as the context holds. With 0, the prompt is
    /// computed and nothing is drawn.
    pub max_tokens: Option<usize>,
    /// End-of-generation tokens cannot be drawn before so many tokens.
    pub min_tokens: usize,
    /// End-of-generation tokens cannot be drawn at all.
    pub ignore_eos: bool,
    /// Texts that end the generation; they are not part of the result.
    pub stop: Vec<String>,
    /// Tokens that end the generation, beside those that the vocabulary marks.
    pub stop_tokens: Vec<u32>,
    /// Whether the text spells out control tokens: some models' calls of tools are made of them.
    pub show_special: bool,
    /// What the text must look like; it ends as soon as it is complete. A long schema takes
    /// milliseconds to compile, on the thread that submits the request.
    pub constraint: Option<Constraint>,
    /// How many independent continuations; at most [`Limits::choices`].
    pub n: u32,
    /// Whether keys and values that earlier requests computed for the same beginning are used, and
    /// those of this one kept for later ones. It changes time, never tokens.
    pub cache: bool,
    /// Only requests with the same salt find what each other computed. Give every tenant its own:
    /// the time that a prompt takes then tells nobody what another tenant asked.
    pub salt: String,
    /// Who goes first where not all can: the smaller, then the older. It may make one that is less
    /// urgent give way and go on later, with the same tokens. Of 17 places that others overtake a less
    /// urgent request for, one is given to the oldest of those overtaken, so that each begins.
    pub priority: i32,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            params: SampleParams::default(),
            count_drawn: false,
            max_tokens: None,
            min_tokens: 0,
            ignore_eos: false,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            show_special: false,
            constraint: None,
            n: 1,
            cache: true,
            salt: String::new(),
            priority: 0,
        }
    }
}

impl Request {
    /// Continues `prompt`.
    pub fn generate(prompt: Vec<u32>, generate: Generate) -> Self {
        Self {
            prompt,
            task: Task::Generate(Box::new(generate)),
            adapters: Vec::new(),
        }
    }

    /// Scores the tokens of `prompt` from index `from` on, with an empty salt.
    pub fn score(prompt: Vec<u32>, from: usize) -> Self {
        let score = Score {
            from,
            ..Score::default()
        };
        Self::scored(prompt, score)
    }

    /// Scores tokens of `prompt`.
    pub fn scored(prompt: Vec<u32>, score: Score) -> Self {
        Self {
            prompt,
            task: Task::Score(score),
            adapters: Vec::new(),
        }
    }

    /// Embeds `prompt`.
    pub fn embed(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            task: Task::Embed,
            adapters: Vec::new(),
        }
    }

    /// The same with the salt of a tenant; see [`Generate::salt`]. An embedding has none.
    #[must_use]
    pub fn with_salt(mut self, to: &str) -> Self {
        match &mut self.task {
            Task::Generate(generate) => to.clone_into(&mut generate.salt),
            Task::Score(score) => to.clone_into(&mut score.salt),
            Task::Embed => {}
        }
        self
    }

    /// The same with adapters.
    #[must_use]
    pub fn with_adapters(self, adapters: Vec<AdapterChoice>) -> Self {
        Self { adapters, ..self }
    }

    /// The adapters as batches have them.
    pub(crate) fn adapter_uses(&self) -> Vec<AdapterUse> {
        adapters::uses(&self.adapters)
    }

    /// Whose part of the prefix cache it uses; `None`: it uses none. Keys and values depend on the
    /// adapters, so these are part of it, before a NUL that they do not have: no tenant's own salt
    /// can stand for them.
    pub(crate) fn salt(&self) -> Option<Arc<str>> {
        let salt = match &self.task {
            Task::Generate(g) => g.cache.then_some(&g.salt),
            Task::Score(score) => score.cache.then_some(&score.salt),
            Task::Embed => None,
        }?;
        let mut whole = String::with_capacity(salt.len() + 1);
        for AdapterUse { adapter, scale } in self.adapter_uses() {
            // Writing to a string does not fail.
            let _ = write!(whole, "{}*{:08x} ", adapter.0, scale.to_bits());
        }
        whole.push('\0');
        whole.push_str(salt);
        Some(whole.into())
    }

    /// How urgent it is.
    pub(crate) fn priority(&self) -> i32 {
        match &self.task {
            Task::Generate(g) => g.priority,
            Task::Score(score) => score.priority,
            Task::Embed => 0,
        }
    }

    /// How many results it gives.
    pub(crate) fn choices(&self) -> u32 {
        match &self.task {
            Task::Generate(g) => g.n,
            Task::Score(_) | Task::Embed => 1,
        }
    }
}

/// What an engine can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Tokens that a sequence may have, by the model.
    pub context: usize,
    /// Tokens that all KV blocks hold together.
    pub kv_tokens: usize,
    /// Tokens in a batch.
    pub batch_tokens: usize,
    /// Whether a prompt must be computed in one batch: the model sees tokens ahead, or pools.
    pub whole_prompts: bool,
    /// Whether the model gives one row a text, not logits.
    pub pools: bool,
    /// Whether that row is a score, not an embedding.
    pub ranks: bool,
    /// Most continuations of a prompt.
    pub choices: u32,
}

impl Limits {
    /// Tokens that a sequence may grow to.
    pub fn sequence(&self) -> usize {
        self.context.min(self.kv_tokens)
    }

    /// Whether the engine could serve `request` if nothing else ran.
    ///
    /// # Errors
    /// Says what does not fit, with both numbers.
    pub fn check(&self, request: &Request) -> Result<(), RequestError> {
        let prompt = &request.prompt;
        if prompt.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        self.check_tokens("prompt", prompt)?;
        let (served, model) = match (self.pools, self.whole_prompts) {
            (true, _) if self.ranks => (request.task == Task::Embed, "scores of pairs of texts"),
            (true, _) => (request.task == Task::Embed, "embeddings"),
            (false, false) => (request.task != Task::Embed, "next tokens"),
            (false, true) => (false, "logits that see the tokens ahead"),
        };
        if !served {
            return Err(RequestError::WrongTask { model });
        }
        // A generation needs room for the token that it draws.
        let drawn = match &request.task {
            Task::Generate(g) if g.max_tokens != Some(0) => 1,
            _ => 0,
        };
        let batch = if self.whole_prompts {
            self.batch_tokens
        } else {
            usize::MAX
        };
        for (limit, of) in [
            (self.context, "the context"),
            (self.kv_tokens, "the KV cache"),
            (batch, "a batch"),
        ] {
            if prompt.len() + drawn > limit {
                return Err(RequestError::TooLong {
                    tokens: prompt.len() + drawn,
                    limit,
                    of,
                });
            }
        }
        match &request.task {
            Task::Generate(g) => self.check_generate(g),
            Task::Score(score) if !(1..prompt.len()).contains(&score.from) => {
                Err(RequestError::NothingToScore {
                    from: score.from,
                    tokens: prompt.len(),
                })
            }
            Task::Score(_) | Task::Embed => Ok(()),
        }
    }

    fn check_generate(&self, g: &Generate) -> Result<(), RequestError> {
        g.params.validate()?;
        let biased: Vec<u32> = g
            .params
            .logit_bias
            .iter()
            .map(|(token, _)| *token)
            .collect();
        self.check_tokens("logit_bias", &biased)?;
        self.check_tokens("stop_tokens", &g.stop_tokens)?;
        if g.n == 0 {
            return Err(RequestError::NoChoices);
        }
        if g.n > self.choices {
            return Err(RequestError::TooManyChoices {
                n: g.n,
                limit: self.choices,
            });
        }
        if g.stop.iter().any(String::is_empty) {
            return Err(RequestError::EmptyStop);
        }
        Ok(())
    }

    fn check_tokens(&self, field: &'static str, tokens: &[u32]) -> Result<(), RequestError> {
        match tokens.iter().find(|&&token| token as usize >= self.vocab) {
            Some(&token) => Err(RequestError::UnknownToken {
                field,
                token,
                vocab: self.vocab,
            }),
            None => Ok(()),
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// There is nothing to start from.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// A token that the model does not have.
    #[error("{field} has token {token}, the vocabulary has {vocab}")]
    UnknownToken {
        /// Where.
        field: &'static str,
        /// The token.
        token: u32,
        /// Entries of the vocabulary.
        vocab: usize,
    },
    /// It can never fit.
    #[error("the request needs {tokens} tokens at once, {of} holds {limit}")]
    TooLong {
        /// Tokens of the prompt and of the first one drawn.
        tokens: usize,
        /// How many there may be.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
    /// The model is of another kind.
    #[error("this model gives {model}, which is not what the request asks for")]
    WrongTask {
        /// What it gives.
        model: &'static str,
    },
    /// An adapter was loaded by another engine.
    #[error("an adapter of the request is loaded for another model")]
    AdapterOfAnother,
    /// A factor is not finite.
    #[error("the scale of an adapter is {scale}, must be finite")]
    AdapterScale {
        /// The factor.
        scale: f32,
    },
    /// The constraint is beyond a limit, malformed or cannot be enforced.
    #[error(transparent)]
    Constraint(#[from] GrammarError),
    /// A sampling parameter is out of its range.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// `n` is 0.
    #[error("n is 0, must be at least 1")]
    NoChoices,
    /// `n` is too large.
    #[error("n is {n}, must be at most {limit}")]
    TooManyChoices {
        /// Continuations asked for.
        n: u32,
        /// How many there may be.
        limit: u32,
    },
    /// A stop string is empty.
    #[error("a stop string is empty")]
    EmptyStop,
    /// The range of tokens to score is empty.
    #[error("no tokens to score: from index {from} of {tokens} (the first token has no score)")]
    NothingToScore {
        /// Index of the first token to score.
        from: usize,
        /// Tokens of the prompt.
        tokens: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        vocab: 100,
        context: 50,
        kv_tokens: 40,
        batch_tokens: 16,
        whole_prompts: false,
        pools: false,
        ranks: false,
        choices: 8,
    };

    fn refusal(limits: Limits, request: &Request) -> String {
        limits.check(request).unwrap_err().to_string()
    }

    #[test]
    fn what_can_never_fit_is_refused_with_both_numbers() {
        let generate = |n| Request::generate(vec![1; n], Generate::default());
        assert_eq!(LIMITS.check(&generate(39)), Ok(()));
        assert_eq!(
            refusal(LIMITS, &generate(40)),
            "the request needs 41 tokens at once, the KV cache holds 40"
        );
        assert_eq!(
            refusal(LIMITS, &generate(50)),
            "the request needs 51 tokens at once, the context holds 50"
        );
        assert_eq!(LIMITS.check(&Request::score(vec![1; 40], 1)), Ok(()));
        let whole = Limits {
            whole_prompts: true,
            pools: true,
            ..LIMITS
        };
        assert_eq!(whole.check(&Request::embed(vec![1; 16])), Ok(()));
        assert_eq!(
            refusal(whole, &Request::embed(vec![1; 17])),
            "the request needs 17 tokens at once, a batch holds 16"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let generate = |change: &dyn Fn(&mut Generate)| {
            let mut g = Generate::default();
            change(&mut g);
            refusal(LIMITS, &Request::generate(vec![1], g))
        };
        assert!(generate(&|g| g.params.top_p = 2.0).contains("top_p is 2"));
        assert!(generate(&|g| g.params.logit_bias = vec![(100, 1.0)]).contains("logit_bias"));
        assert!(generate(&|g| g.stop_tokens = vec![7, 200]).contains("stop_tokens has token 200"));
        assert!(generate(&|g| g.n = 0).contains("n is 0"));
        assert!(generate(&|g| g.n = u32::MAX).contains("must be at most 8"));
        assert!(generate(&|g| g.stop = vec![String::new()]).contains("stop string"));
        assert!(refusal(LIMITS, &Request::score(vec![1, 2], 0)).contains("index 0 of 2"));
        assert!(refusal(LIMITS, &Request::score(vec![1, 2], 2)).contains("index 2 of 2"));
        assert!(refusal(LIMITS, &Request::embed(vec![1])).contains("gives next tokens"));
        let bidirectional = Limits {
            whole_prompts: true,
            ..LIMITS
        };
        assert!(refusal(bidirectional, &Request::score(vec![1, 2], 1)).contains("see the tokens"));
        assert!(refusal(LIMITS, &Request::embed(vec![])).contains("no tokens"));
        assert!(refusal(LIMITS, &Request::embed(vec![1, 100])).contains("token 100"));
    }
}
