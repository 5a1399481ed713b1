//! `POST /v1/completions`.

mod choice;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zse::{Generate, Score, Scoring, TokenInfo};

use super::chat_completions::{StreamOptions, UNSUPPORTED, is_stream};
use crate::chat::{check_choices, fits, prompt_tokens};
use crate::error::ApiError;
use crate::form::{Form as AnswerForm, FormParameters};
use crate::gap;
use crate::job::{self, Piece, Running};
use crate::models::Model;
use crate::openapi::All;
use crate::request::{Fields, Prompt, Prompts};
use crate::sampling::{Sampling, check_top};
use crate::sse::{Events, Wire};
use crate::state::{App, Slot, now};
use crate::usage::{self, Usage, UsageObject};
use crate::waiting;
use choice::{Choice, CompletionChoice, Echo, Form};

/// Tokens where none are asked for, as OpenAI has it.
const DEFAULT_TOKENS: usize = 16;

/// Most log-probabilities of prompts in an answer, which then is of some 100 MB.
const MOST_WRITTEN: usize = 1 << 22;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(
    as = CompletionRequest,
    example = json!({ "prompt": "Once upon a time", "max_tokens": 24 }),
)]
struct Body {
    model: Option<String>,
    #[serde(rename = "prompt")]
    #[schema(value_type = Prompts)]
    _prompt: Option<Value>,
    max_tokens: Option<usize>,
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<u32>,
    logprobs: Option<u32>,
    /// llama.cpp's `logprobs`, which have another form.
    n_probs: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

/// Prompts to continue.
struct Job {
    app: Arc<App>,
    slot: Slot,
    model: Model,
    prompts: Vec<Prompt>,
    settings: Generate,
    /// The parameter that the answer has its form of.
    form: Option<String>,
    /// How many continuations of each prompt are given: the most likely of those that are made.
    given: usize,
    logprobs: Option<Form>,
    echo: bool,
    /// What stands behind the text that is asked for.
    suffix: Option<String>,
    stream: StreamOptions,
}

/// A completion, or a piece of it.
#[derive(Serialize, ToSchema)]
struct Completion {
    id: String,
    /// `text_completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    /// Another one where the model, the device or the version is.
    system_fingerprint: String,
    choices: Vec<CompletionChoice>,
    /// In a stream, there if it was asked for; `null` in chunks that do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageObject>)]
    usage: Option<Option<UsageObject>>,
}

/// All parameters of a request.
type Request = All<(Body, Sampling, FormParameters)>;

/// How a text goes on
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "OpenAI",
    request_body = inline(Request),
    responses((
        status = 200,
        content((Completion = "application/json"), (Completion = "text/event-stream")),
    )),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    fields: Fields,
) -> Result<Response, ApiError> {
    waiting::stream(app, fields, "/v1/completions", answer).await
}

async fn answer(app: Arc<App>, mut fields: Fields) -> Result<Response, ApiError> {
    let form = AnswerForm::take(&mut fields)?;
    let prompts = Prompts::take(&mut fields, "prompt")?.0;
    let body: Body = fields.take()?;
    let mut sampling = fields.sampling()?;
    fields.finish(&UNSUPPORTED)?;
    let is_stream = is_stream(body.stream, body.stream_options)?;
    let given = sampling.n();
    let best_of = body.best_of(given, is_stream)?;
    let param = match best_of {
        _ if best_of > given => "best_of",
        1 if prompts.len() > 1 => "prompt",
        _ => "n",
    };
    let choices = prompts.len().saturating_mul(best_of as usize);
    app.can_admit(param, choices)?;
    let mut slot = app.admit(1)?;
    let wanted = sampling.adapters();
    let model = app.model_with(body.model.as_deref(), &wanted).await?;
    let (constraint, form) = form.map(|form| (form.grammar.into(), form.param)).unzip();
    let (logprobs, top) = body.logprobs()?;
    let echo = body.echo.unwrap_or(false);
    if echo && logprobs == Some(Form::Entries) {
        let why = "tokens of a prompt have no entries: with echo, ask by logprobs";
        return Err(ApiError::unsupported("n_probs", why));
    }
    let suffix = body.suffix.filter(|suffix| !suffix.is_empty());
    if suffix.is_some() {
        gap::check(&model)?;
        if echo {
            let why = "with suffix, only what is missing between the two is given";
            return Err(ApiError::unsupported("echo", why));
        }
    }
    sampling.set_n(best_of);
    check_choices(&model, param, choices)?;
    app.admit_all(&mut slot, choices)?;
    let most = body.max_tokens.unwrap_or(DEFAULT_TOKENS);
    let job = Job {
        slot,
        settings: Generate {
            constraint,
            ..sampling.settings(model.engine.tokenizer(), Some(most), top)?
        },
        form,
        given: given as usize,
        app: Arc::clone(&app),
        model,
        prompts,
        logprobs,
        echo,
        suffix,
        stream: body.stream_options.unwrap_or_default(),
    };
    if is_stream {
        job::streaming(
            &app,
            Wire::Events,
            move |is_gone| job.start(is_gone),
            |(running, answer), events| answer.stream(running, events),
        )
        .await
    } else {
        let (running, answer) = job::blocking(move |is_gone| job.start(is_gone)).await?;
        Ok(super::json(&answer.whole(running).await?))
    }
}

impl Body {
    /// The form of the log-probabilities, if there are any, and of how many other tokens.
    fn logprobs(&self) -> Result<(Option<Form>, u32), ApiError> {
        match (self.logprobs, self.n_probs.filter(|&n| n > 0)) {
            (Some(_), Some(_)) => {
                let message = "n_probs and logprobs ask for the same: give one of them";
                Err(ApiError::param("n_probs", message))
            }
            (Some(top), None) => Ok((Some(Form::Lists), check_top("logprobs", top)?)),
            (None, Some(top)) => Ok((Some(Form::Entries), check_top("n_probs", top)?)),
            (None, None) => Ok((None, 0)),
        }
    }

    /// How many continuations are made of which `n` are given.
    fn best_of(&self, n: u32, is_stream: bool) -> Result<u32, ApiError> {
        let best_of = self.best_of.unwrap_or(n);
        if best_of < n {
            let message = format!("best_of is {best_of}, must be at least n, which is {n}");
            return Err(ApiError::param("best_of", message));
        }
        if best_of > n && is_stream {
            let message = "which of best_of are the best is known at their end: \
                           leave out stream, or set best_of to n";
            return Err(ApiError::param("best_of", message));
        }
        Ok(best_of)
    }
}

impl Job {
    /// Makes tokens of the prompts and submits them; ends early once `is_gone` says that nobody wants them.
    fn start(mut self, is_gone: &dyn Fn() -> bool) -> Result<(Running, Answer), ApiError> {
        let engine = &self.model.engine;
        let tokenizer = engine.tokenizer();
        let n = self.settings.n as usize;
        let mut prompts = Vec::with_capacity(self.prompts.len());
        let mut echoes = Vec::with_capacity(self.prompts.len());
        for prompt in std::mem::take(&mut self.prompts) {
            let (tokens, text) = match (prompt, &self.suffix) {
                (prompt, Some(suffix)) => {
                    (gap::prompt(&self.model, &prompt, suffix)?, String::new())
                }
                (Prompt::Text(text), None) => (prompt_tokens(&self.model, &text)?, text),
                (Prompt::Tokens(tokens), None) => {
                    fits(&self.model, tokens.len())?;
                    let text = self.echo.then(|| tokenizer.decode(&tokens, false));
                    (tokens, text.unwrap_or_default())
                }
            };
            prompts.push(tokens);
            echoes.push(self.echo.then(|| Echo::new(text)));
        }
        let is_scored = self.echo && self.logprobs.is_some();
        if is_scored {
            let scores = self.scores(&prompts, is_gone)?;
            for ((echo, prompt), scores) in echoes.iter_mut().zip(&prompts).zip(scores) {
                let bare = echo.take();
                *echo = bare.map(|echo| echo.with_scores(tokenizer, prompt, scores));
            }
        }
        let mut choices = Vec::with_capacity(prompts.len() * n);
        for (prompt, echo) in prompts.iter().zip(&echoes) {
            let choice = || Choice::new(self.logprobs, tokenizer, prompt, echo.as_ref());
            choices.extend((0..n).map(|_| choice()));
        }
        let answer = Answer {
            id: usage::id("cmpl"),
            created: now(),
            fingerprint: self.model.fingerprint(),
            model: self.model.clone(),
            n,
            given: self.given,
            choices,
            is_scored,
            stream: self.stream,
            usage: Usage {
                prompt: prompts.iter().map(Vec::len).sum(),
                ..Usage::default()
            },
        };
        let running = Running::start(&self.app, self.slot, engine, prompts, &self.settings);
        let running = running.map_err(|error| error.of_form(self.form.as_deref()))?;
        Ok((running, answer))
    }

    /// How likely the tokens of each prompt are, but for the first: computed side by side.
    fn scores(
        &self,
        prompts: &[Vec<u32>],
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<TokenInfo>>, ApiError> {
        let (settings, top) = (&self.settings, self.settings.params.top_logprobs);
        let tokens: usize = prompts.iter().map(Vec::len).sum();
        let written = tokens * self.given * (top as usize + 1);
        if written > MOST_WRITTEN {
            let message = format!(
                "{written} log-probabilities of prompts would be given, there may be {MOST_WRITTEN}: \
                 ask for fewer of each token, or in several requests"
            );
            return Err(ApiError::param("logprobs", message));
        }
        let start = |prompt: &Vec<u32>| {
            let score = Score {
                from: 1,
                top,
                cache: settings.cache,
                salt: settings.salt.clone(),
                priority: settings.priority,
            };
            // Nothing is known of the first token.
            let has_more = prompt.len() > 1;
            has_more
                .then(|| self.model.engine.start_score(prompt.clone(), score))
                .transpose()
        };
        // All are under way before the first is waited for.
        let all: Vec<_> = prompts.iter().map(start).collect::<Result<_, _>>()?;
        let scores = |scoring: Option<Scoring>| match scoring {
            Some(scoring) => Ok(scoring.complete(is_gone)?),
            None => Ok(Vec::new()),
        };
        all.into_iter().map(scores).collect()
    }
}

/// The answer while it comes.
struct Answer {
    id: String,
    created: u64,
    fingerprint: String,
    model: Model,
    /// Continuations of each prompt.
    n: usize,
    /// How many of them are given.
    given: usize,
    choices: Vec<Choice>,
    /// Whether the prompts were computed for their own sake, whatever was in the cache.
    is_scored: bool,
    stream: StreamOptions,
    usage: Usage,
}

impl Answer {
    /// Waits for all of it.
    async fn whole(mut self, mut running: Running) -> Result<Completion, ApiError> {
        while let Some(piece) = running.next().await {
            self.take(piece?);
        }
        let mut choices = std::mem::take(&mut self.choices);
        if self.given < self.n {
            let prompts = choices.chunks_mut(self.n);
            prompts.for_each(|made| {
                made.sort_by(|a, b| b.mean_logprob().total_cmp(&a.mean_logprob()))
            });
        }
        let choices = choices
            .chunks_mut(self.n)
            .flat_map(|made| &mut made[..self.given])
            .enumerate()
            .map(|(index, choice)| choice.value(index))
            .collect();
        Ok(self.object(choices, Some(Some(self.usage.object()))))
    }

    /// Sends every piece as soon as it is certain. Ends with OpenAI's mark, after an error too.
    async fn stream(mut self, mut running: Running, events: Events) {
        while let Some(piece) = running.next().await {
            let index = match piece {
                Ok(piece) => self.take(piece),
                Err(error) => {
                    events.error(&error);
                    events.done();
                    return;
                }
            };
            let choice = &mut self.choices[index];
            if choice.is_empty() {
                continue;
            }
            let choice = choice.value(index);
            events.send(&self.object(vec![choice], self.stream.usage(&self.usage)));
        }
        if self.stream.include_usage == Some(true) {
            events.send(&self.object(Vec::new(), Some(Some(self.usage.object()))));
        }
        events.done();
    }

    /// Gives a piece to its choice, and says which that is.
    fn take(&mut self, piece: Piece) -> usize {
        match piece {
            Piece::Chunk { prompt, chunk } => {
                let index = prompt * self.n + chunk.choice as usize;
                self.usage.completion += chunk.tokens.len();
                self.choices[index].push(&chunk, self.model.engine.tokenizer());
                index
            }
            Piece::Finished { prompt, finished } => {
                // The other continuations share the prompt of the first.
                if finished.choice == 0 && !self.is_scored {
                    self.usage.cached += finished.usage.shared_tokens;
                }
                let index = prompt * self.n + finished.choice as usize;
                self.choices[index].finish(&finished);
                index
            }
        }
    }

    fn object(
        &self,
        choices: Vec<CompletionChoice>,
        usage: Option<Option<UsageObject>>,
    ) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.name.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage,
        }
    }
}
