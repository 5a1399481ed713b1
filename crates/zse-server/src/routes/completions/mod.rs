//! `POST /v1/completions`.

mod choice;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zse::Generate;

use super::chat_completions::{StreamOptions, UNSUPPORTED, is_stream};
use crate::chat::{self, check_n, fits};
use crate::error::ApiError;
use crate::job::{self, Piece, Running};
use crate::models::Model;
use crate::openapi::All;
use crate::request::{Fields, Prompt, Prompts};
use crate::sampling::{MAX_TOP, Sampling};
use crate::sse::{Events, Wire};
use crate::state::{App, Slot, now};
use crate::usage::{self, Usage, UsageObject};
use choice::{Choice, CompletionChoice, Echo};

/// Tokens where none are asked for, as OpenAI has it.
const DEFAULT_TOKENS: usize = 16;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(
    as = CompletionRequest,
    example = json!({ "prompt": "Once upon a time", "max_tokens": 24 }),
)]
struct Body {
    model: Option<String>,
    prompt: Prompts,
    max_tokens: Option<usize>,
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<u32>,
    logprobs: Option<u32>,
    /// Of type `text`, `json_object` or `json_schema`.
    #[schema(value_type = Option<Object>)]
    response_format: Option<Value>,
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
    /// Whether log-probabilities were asked for.
    logprobs: bool,
    echo: bool,
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
    choices: Vec<CompletionChoice>,
    /// In a stream, there if it was asked for; `null` in chunks that do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageObject>)]
    usage: Option<Option<UsageObject>>,
}

/// All parameters of a request.
type Request = All<(Body, Sampling)>;

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
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    let sampling = fields.sampling()?;
    fields.finish(&UNSUPPORTED)?;
    let mut slot = app.admit(1)?;
    let model = app.model(body.model.as_deref()).await?;
    let constraint = chat::of_response(body.response_format.as_ref())?;
    let n = sampling.n();
    if body.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        let why = "this version does not fill gaps";
        return Err(ApiError::unsupported("suffix", why));
    }
    if body.best_of.is_some_and(|best_of| best_of != n) {
        let why = "all continuations are given: set n";
        return Err(ApiError::unsupported("best_of", why));
    }
    let top = body.logprobs.unwrap_or(0);
    if top > MAX_TOP {
        let message = format!("logprobs is {top}, must be at most {MAX_TOP}");
        return Err(ApiError::param("logprobs", message));
    }
    let echo = body.echo.unwrap_or(false);
    if echo && top > 0 {
        let why = "with echo, logprobs must be 0: alternatives to tokens of a prompt are not known";
        return Err(ApiError::unsupported("logprobs", why));
    }
    let is_stream = is_stream(body.stream, body.stream_options)?;
    let choices = body.prompt.0.len().saturating_mul(n as usize);
    check_n(&model, choices)?;
    app.admit_all(&mut slot, choices)?;
    let most = body.max_tokens.unwrap_or(DEFAULT_TOKENS);
    let job = Job {
        slot,
        settings: Generate {
            constraint,
            ..sampling.settings(model.engine.tokenizer(), Some(most), top)?
        },
        app: Arc::clone(&app),
        model,
        prompts: body.prompt.0,
        logprobs: body.logprobs.is_some(),
        echo,
        stream: body.stream_options.unwrap_or_default(),
    };
    if is_stream {
        let start = move || job.start();
        job::streaming(&app, Wire::Events, start, |(running, answer), events| {
            answer.stream(running, events);
        })
        .await
    } else {
        job::blocking(move |is_gone| {
            let (running, answer) = job.start()?;
            Ok(super::json(&answer.whole(running, is_gone)?))
        })
        .await
    }
}

impl Job {
    /// Makes tokens of the prompts and submits them.
    fn start(self) -> Result<(Running, Answer), ApiError> {
        let engine = &self.model.engine;
        let n = self.settings.n as usize;
        let mut prompts = Vec::with_capacity(self.prompts.len());
        let mut choices = Vec::with_capacity(self.prompts.len() * n);
        for prompt in self.prompts {
            let (tokens, text) = match prompt {
                Prompt::Text(text) => (engine.open_tokens(&text, true), text),
                Prompt::Tokens(tokens) => {
                    let text = engine.tokenizer().decode(&tokens, false);
                    (tokens, text)
                }
            };
            fits(&self.model, tokens.len())?;
            let echo = match self.echo {
                false => None,
                true => Some(Echo::new(engine, text, &tokens, self.logprobs)?),
            };
            choices.extend((0..n).map(|_| Choice::new(self.logprobs, echo.as_ref())));
            prompts.push(tokens);
        }
        let answer = Answer {
            id: usage::id("cmpl"),
            created: now(),
            model: self.model.clone(),
            n,
            choices,
            stream: self.stream,
            usage: Usage {
                prompt: prompts.iter().map(Vec::len).sum(),
                ..Usage::default()
            },
        };
        let running = Running::start(&self.app, self.slot, engine, prompts, &self.settings)?;
        Ok((running, answer))
    }
}

/// The answer while it comes.
struct Answer {
    id: String,
    created: u64,
    model: Model,
    /// Continuations of each prompt.
    n: usize,
    choices: Vec<Choice>,
    stream: StreamOptions,
    usage: Usage,
}

impl Answer {
    /// Waits for all of it. What it gives once the client is gone does not matter.
    fn whole(
        mut self,
        mut running: Running,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Completion, ApiError> {
        while let Some(piece) = running.next(is_gone) {
            self.take(piece?);
        }
        let choices = std::mem::take(&mut self.choices);
        let choices = choices
            .into_iter()
            .enumerate()
            .map(|(index, mut choice)| choice.value(index))
            .collect();
        Ok(self.object(choices, Some(Some(self.usage.object()))))
    }

    /// Sends every piece as soon as it is certain. Ends with OpenAI's mark, after an error too.
    fn stream(mut self, mut running: Running, events: &Events) {
        let is_gone = || events.is_gone();
        while let Some(piece) = running.next(&is_gone) {
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
                if finished.choice == 0 {
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
            choices,
            usage,
        }
    }
}
