//! `POST /v1/chat/completions`.

mod answer;
mod messages;
mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use zse::{ChatRequest, Constraint, Generate};

use super::json;
use crate::error::ApiError;
use crate::form::{self, Calls};
use crate::job::{self, Running};
use crate::request::{Fields, Unsupported, if_false, never};
use crate::sampling::{MAX_TOP, Sampling};
use crate::state::{App, Served, Slot};

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    messages: Vec<Value>,
    #[serde(default)]
    tools: Vec<Value>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<Value>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

/// What a stream has beside text.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamOptions {
    /// A last chunk with the counts of tokens.
    pub(super) include_usage: Option<bool>,
    /// The counts so far in every chunk.
    pub(super) continuous_usage_stats: Option<bool>,
}

/// Parameters that ask for nothing in these values, and for what is not there in others.
pub(super) const UNSUPPORTED: [Unsupported; 11] = [
    unsupported("functions", "use tools", never),
    unsupported("function_call", "use tool_choice", never),
    unsupported("reasoning_effort", "no model here thinks first", never),
    unsupported("store", "nothing is kept", if_false),
    unsupported("metadata", "nothing is kept", |v| {
        v.as_object().is_some_and(|m| m.is_empty())
    }),
    unsupported("service_tier", "there is one", |v| {
        v == "auto" || v == "default"
    }),
    unsupported("modalities", "models here give text", |v| {
        *v == serde_json::json!(["text"])
    }),
    unsupported("audio", "models here give text", never),
    unsupported("prediction", "nothing uses it", never),
    unsupported("verbosity", "models here have one", |v| v == "medium"),
    unsupported("web_search_options", "this server looks nothing up", never),
];

const fn unsupported(
    name: &'static str,
    why: &'static str,
    is_default: fn(&Value) -> bool,
) -> Unsupported {
    Unsupported {
        name,
        why,
        is_default,
    }
}

/// A conversation to continue.
struct Job {
    app: Arc<App>,
    slot: Slot,
    model: Served,
    request: ChatRequest,
    settings: Generate,
    shape: Shape,
}

/// What the answer has.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n: u32,
    logprobs: bool,
    /// Tool calls are looked for.
    tools: bool,
    stream: StreamOptions,
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let body: Body = fields.take()?;
    let sampling: Sampling = fields.take()?;
    fields.finish(&UNSUPPORTED)?;
    let model = app.model(body.model.as_deref())?.clone();
    let calls = Calls::of(body.tool_choice.as_ref())?;
    let tools = tools(body.tools, &calls)?;
    let constraint = constraint(
        &calls,
        &tools,
        body.parallel_tool_calls,
        body.response_format.as_ref(),
    )?;
    let is_stream = is_stream(body.stream, body.stream_options)?;
    let shape = Shape {
        n: sampling.n(),
        logprobs: body.logprobs.unwrap_or(false),
        tools: !tools.is_empty(),
        stream: body.stream_options.unwrap_or_default(),
    };
    let top = body.top_logprobs.unwrap_or(0);
    if top > MAX_TOP || top > 0 && !shape.logprobs {
        let message = format!("top_logprobs is at most {MAX_TOP}, and needs logprobs to be true");
        return Err(ApiError::param("top_logprobs", message));
    }
    let most = match (body.max_tokens, body.max_completion_tokens) {
        (Some(a), Some(b)) if a != b => {
            let message = "max_tokens and max_completion_tokens differ: give one of them";
            return Err(ApiError::param("max_tokens", message));
        }
        (a, b) => b.or(a),
    };
    let settings = Generate {
        constraint,
        ..sampling.settings(model.engine.tokenizer(), most, top)?
    };
    check_n(&model, shape.n as usize)?;
    let job = Job {
        slot: app.admit(shape.n as usize)?,
        request: ChatRequest {
            messages: messages::read(body.messages)?,
            tools,
        },
        app: Arc::clone(&app),
        model,
        settings,
        shape,
    };
    if is_stream {
        let start = move || job.start();
        job::streaming(&app, start, |(running, answer), events| {
            stream::write(running, answer, events);
        })
        .await
    } else {
        job::blocking(move |is_gone| {
            let (running, answer) = job.start()?;
            Ok(json(&answer.whole(running, is_gone)?))
        })
        .await
    }
}

impl Job {
    /// Renders the conversation and submits it.
    fn start(self) -> Result<(Running, answer::Answer), ApiError> {
        let engine = &self.model.engine;
        let tokens = engine.chat_tokens(&self.request)?;
        fits(&self.model, tokens.len())?;
        let prompts = vec![tokens];
        let answer = answer::Answer::new(&self.model, prompts[0].len(), self.shape);
        let running = Running::start(&self.app, self.slot, engine, prompts, &self.settings)?;
        Ok((running, answer))
    }
}

/// Whether the answer is a stream, which only then has options.
pub(super) fn is_stream(
    stream: Option<bool>,
    options: Option<StreamOptions>,
) -> Result<bool, ApiError> {
    let is_stream = stream.unwrap_or(false);
    if options.is_some() && !is_stream {
        let message = "stream_options is for streams: set stream";
        return Err(ApiError::param("stream_options", message));
    }
    Ok(is_stream)
}

/// Whether a prompt of so many tokens leaves room for one more.
pub(super) fn fits(model: &Served, tokens: usize) -> Result<(), ApiError> {
    let limit = model.engine.limits().sequence();
    match tokens < limit {
        true => Ok(()),
        false => Err(ApiError::too_long(tokens, limit)),
    }
}

/// Whether so many continuations may be asked for, before a prompt is looked at.
pub(super) fn check_n(model: &Served, n: usize) -> Result<(), ApiError> {
    let limit = model.engine.limits().choices as usize;
    match (1..=limit).contains(&n) {
        true => Ok(()),
        false => Err(ApiError::param(
            "n",
            format!("{n} continuations are asked for, there may be from 1 to {limit}"),
        )),
    }
}

/// The tools that the model is told of, once they are known to be functions with names.
fn tools(tools: Vec<Value>, calls: &Calls<'_>) -> Result<Vec<Value>, ApiError> {
    const MOST: usize = 128;
    if tools.len() > MOST {
        return Err(ApiError::param(
            "tools",
            format!("there may be {MOST} tools at most"),
        ));
    }
    for (i, tool) in tools.iter().enumerate() {
        if tool["type"] != "function" || !tool["function"]["name"].is_string() {
            let message = format!("tools[{i}] must be of type 'function' and have function.name");
            return Err(ApiError::param(format!("tools[{i}]"), message));
        }
    }
    Ok(match calls {
        Calls::Never => Vec::new(),
        _ => tools,
    })
}

/// The constraint of an answer that may have to be a call, or of a format.
fn constraint(
    calls: &Calls<'_>,
    tools: &[Value],
    parallel: Option<bool>,
    format: Option<&Value>,
) -> Result<Option<Constraint>, ApiError> {
    let call = calls.constraint(tools, parallel.unwrap_or(true))?;
    let format = form::of_response(format)?;
    if format.is_some() && !tools.is_empty() {
        let message = "a model that may call tools does not keep to a format: \
                       leave out tools, or set tool_choice to 'none'";
        return Err(ApiError::param("response_format", message));
    }
    if parallel == Some(false) && call.is_none() && !tools.is_empty() {
        let why = "only a call that is required can be held to be one: set tool_choice";
        return Err(ApiError::unsupported("parallel_tool_calls", why));
    }
    Ok(call.or(format))
}
