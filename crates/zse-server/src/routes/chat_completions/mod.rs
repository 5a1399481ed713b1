//! `POST /v1/chat/completions`.

mod answer;
mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::json;
use crate::chat::{Calls, Chat, Ready, messages};
use crate::error::ApiError;
use crate::form::{Form, FormParameters};
use crate::job;
use crate::openapi::All;
use crate::request::{Fields, Unsupported, if_false, never, unsupported};
use crate::sampling::{Sampling, check_top};
use crate::sse::{Frames, Wire};
use crate::state::App;
use crate::usage::{Usage, UsageObject};
use crate::waiting;
use answer::{Answer, ChatCompletion};
use stream::ChatCompletionChunk;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(
    as = ChatCompletionRequest,
    example = json!({
        "messages": [{ "role": "user", "content": "How do I quantize a model?" }],
        "temperature": 0,
    }),
)]
struct Body {
    model: Option<String>,
    /// With `role`, `content` (text, or parts of text), and `tool_calls` or `tool_call_id`.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    /// Functions that may be called.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    /// `auto`, `none`, `required`, a function by its name, or `allowed_tools`.
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    /// `none`, `minimal`, `low`, `medium`, `high` or `xhigh`.
    reasoning_effort: Option<String>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    /// llama.cpp's name for both at once.
    n_probs: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(rename = "user")]
    _user: Option<String>,
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Option<String>,
}

/// What a stream has beside text.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamOptions {
    /// A last chunk with the counts of tokens.
    pub(super) include_usage: Option<bool>,
    /// The counts so far in every chunk.
    pub(super) continuous_usage_stats: Option<bool>,
    /// Noise that hides how long tokens are, of which there is none.
    include_obfuscation: Option<bool>,
}

impl StreamOptions {
    /// What a chunk says of the tokens so far: nothing, `null`, or counts.
    pub(super) fn usage(self, usage: &Usage) -> Option<Option<UsageObject>> {
        match (self.continuous_usage_stats, self.include_usage) {
            (Some(true), _) => Some(Some(usage.object())),
            (_, Some(true)) => Some(None),
            _ => None,
        }
    }
}

/// Parameters that ask for nothing in these values, and for what is not there in others.
pub(super) const UNSUPPORTED: [Unsupported; 13] = [
    unsupported("functions", "use tools", never),
    unsupported("function_call", "use tool_choice", never),
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
    unsupported("prompt_cache_key", "the prefix cache needs no key", never),
    unsupported("prompt_cache_retention", "the prefix cache has one", |v| {
        v == "in_memory"
    }),
    unsupported("moderation", "nothing moderates here", never),
    unsupported("web_search_options", "this server looks nothing up", never),
];

/// What the answer has.
#[derive(Clone, Copy, Debug)]
struct Shape {
    logprobs: bool,
    stream: StreamOptions,
}

/// A request that is sound, and its loaded model.
pub(super) struct Question {
    ready: Ready,
    shape: Shape,
    is_stream: bool,
}

/// All parameters of a request.
type Request = All<(Body, Sampling, FormParameters)>;

/// The next message of a conversation
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "OpenAI",
    request_body = inline(Request),
    responses((
        status = 200,
        content(
            (ChatCompletion = "application/json"),
            (ChatCompletionChunk = "text/event-stream"),
        ),
    )),
)]
pub(super) async fn post(
    State(app): State<Arc<App>>,
    fields: Fields,
) -> Result<Response, ApiError> {
    waiting::stream(app, fields, "/v1/chat/completions", answer).await
}

async fn answer(app: Arc<App>, fields: Fields) -> Result<Response, ApiError> {
    let question = Question::read(&app, fields).await?;
    if question.is_stream {
        let frames = question.stream(&app, Wire::Events).await?;
        Ok(frames.response(app.config.keep_alive))
    } else {
        let Question { ready, shape, .. } = question;
        let talk = job::blocking(move |_| ready.start()).await?;
        Ok(json(&Answer::new(talk, shape).whole().await?))
    }
}

impl Question {
    /// Reads a request, and waits for its model.
    ///
    /// # Errors
    /// Names what is wrong.
    pub(super) async fn read(app: &Arc<App>, mut fields: Fields) -> Result<Self, ApiError> {
        let form = Form::take(&mut fields)?;
        let body: Body = fields.take()?;
        let sampling = fields.sampling()?;
        fields.finish(&UNSUPPORTED)?;
        let is_stream = is_stream(body.stream, body.stream_options)?;
        let (logprobs, top_logprobs) = body.logprobs()?;
        let shape = Shape {
            logprobs,
            stream: body.stream_options.unwrap_or_default(),
        };
        let max_tokens = match (body.max_tokens, body.max_completion_tokens) {
            (Some(a), Some(b)) if a != b => {
                let message = "max_tokens and max_completion_tokens differ: give one of them";
                return Err(ApiError::param("max_tokens", message));
            }
            (a, b) => b.or(a),
        };
        let chat = Chat {
            model: body.model,
            messages: messages::read(body.messages)?,
            tools: body.tools,
            calls: Calls::of(body.tool_choice.as_ref())?,
            parallel: body.parallel_tool_calls,
            form,
            sampling,
            max_tokens,
            top_logprobs,
            effort: body
                .reasoning_effort
                .map(|effort| ("reasoning_effort", effort)),
            ..Chat::default()
        };
        Ok(Self {
            ready: chat.ready(app).await?,
            shape,
            is_stream,
        })
    }

    /// The answer as a stream, once it is known that there is one.
    ///
    /// # Errors
    /// If the conversation cannot be rendered, or does not fit.
    pub(super) async fn stream(self, app: &App, wire: Wire) -> Result<Frames, ApiError> {
        let Self { ready, shape, .. } = self;
        let write = move |talk, events| stream::write(Answer::new(talk, shape), events);
        job::frames(app, wire, move |_| ready.start(), write).await
    }
}

impl Body {
    /// Whether log-probabilities are given, and of how many other tokens.
    fn logprobs(&self) -> Result<(bool, u32), ApiError> {
        let logprobs = self.logprobs.unwrap_or(false);
        let top = self.top_logprobs.unwrap_or(0);
        if let Some(n) = self.n_probs.filter(|&n| n > 0) {
            if self.logprobs == Some(false) || self.top_logprobs.is_some_and(|top| top != n) {
                let message = "n_probs asks for other log-probabilities than logprobs and \
                               top_logprobs: leave out either";
                return Err(ApiError::param("n_probs", message));
            }
            return Ok((true, check_top("n_probs", n)?));
        }
        if top > 0 && !logprobs {
            let message = "top_logprobs needs logprobs to be true";
            return Err(ApiError::param("top_logprobs", message));
        }
        Ok((logprobs, check_top("top_logprobs", top)?))
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
    if options.is_some_and(|options| options.include_obfuscation == Some(true)) {
        let param = "stream_options.include_obfuscation";
        return Err(ApiError::unsupported(
            param,
            "streams are as long as they are",
        ));
    }
    Ok(is_stream)
}
