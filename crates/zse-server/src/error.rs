//! The one error of the API, in OpenAI's shape.

mod failure;

use std::fmt::Display;

use crate::routes::{anthropic, ollama, responses};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zse::{EngineError, RequestError, TextError};

/// Most characters of a client's name for something that an error says again.
const MAX_NAME: usize = 100;
/// The parameter that asks for the form of an answer, where nothing says which it was.
const FORM: &str = "response_format";

/// Why a request was not served, as its client is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    kind: &'static str,
    message: String,
    /// The parameter that is wrong, if it is one.
    param: Option<String>,
    /// OpenAI's `code`, for programs.
    code: Option<&'static str>,
    /// What really happened, where a client must not know.
    pub(crate) internal: Option<String>,
    /// Seconds after which to try again, where that may help.
    retry_after: u64,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
            code: None,
            internal: None,
            retry_after: 1,
        }
    }

    /// A request that is wrong as a whole.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A parameter that is wrong.
    pub(crate) fn param(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::invalid(message)
        }
    }

    /// The same error, of this parameter.
    pub(crate) fn at(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    /// The same error; where it is one of a form, of the parameter that asked for that.
    pub(crate) fn of_form(self, param: Option<&str>) -> Self {
        match (self.param.as_deref(), param) {
            (Some(FORM), Some(param)) => Self::param(param, format!("{param}: {}", self.message)),
            _ => self,
        }
    }

    /// A parameter that has a meaning elsewhere, but not here.
    pub(crate) fn unsupported(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        Self {
            code: Some("unsupported_parameter"),
            ..Self::param(param.clone(), format!("'{param}' is not supported: {why}"))
        }
    }

    /// A parameter that nobody knows.
    pub(crate) fn unknown(param: &str) -> Self {
        let param = cut(param);
        Self {
            code: Some("unknown_parameter"),
            ..Self::param(param, format!("unknown parameter: '{param}'"))
        }
    }

    /// A prompt that can never fit.
    pub(crate) fn too_long(tokens: impl Display, limit: usize) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::invalid(format!(
                "this model's maximum context length is {limit} tokens, but the prompt has \
                 {tokens} tokens: shorten it"
            ))
        }
    }

    pub(crate) fn no_model(name: &str) -> Self {
        let name = cut(name);
        Self {
            code: Some("model_not_found"),
            param: Some("model".to_owned()),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                format!("the model '{name}' does not exist; GET /v1/models lists those that do"),
            )
        }
    }

    /// An adapter that is not loaded, by its name or number.
    pub(crate) fn no_adapter(param: &str, name: &str) -> Self {
        let name = cut(name);
        Self {
            code: Some("adapter_not_found"),
            param: Some(param.to_owned()),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                format!(
                    "the adapter '{name}' does not exist for this model; GET /lora-adapters lists \
                     those that do"
                ),
            )
        }
    }

    /// A response that is not stored, or not any more.
    pub(crate) fn no_response(param: &str, id: &str) -> Self {
        let id = cut(id);
        Self {
            code: Some("response_not_found"),
            param: Some(param.to_owned()),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                format!("there is no stored response '{id}'; the oldest are forgotten first"),
            )
        }
    }

    /// A model that is larger than what all models may take.
    pub(crate) fn no_room(name: &str, needed: u64, limit: u64) -> Self {
        Self {
            code: Some("model_too_large"),
            ..Self::param(
                "model",
                format!(
                    "the model '{name}' needs {needed} bytes of memory, and models that are not \
                     pinned may take {limit}"
                ),
            )
        }
    }

    /// A model whose room is taken by models that are in use.
    pub(crate) fn models_busy(name: &str) -> Self {
        Self {
            code: Some("overloaded"),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                format!(
                    "other models are in use or being loaded, and '{name}' has to wait: try again \
                     later"
                ),
            )
        }
    }

    /// What others than this server were needed for, and did not do.
    pub(crate) fn failed(status: StatusCode, code: &'static str, message: String) -> Self {
        Self {
            code: Some(code),
            ..Self::new(status, "server_error", message)
        }
    }

    /// A model that a hub, or this machine, does not have.
    pub(crate) fn not_found(message: String) -> Self {
        Self {
            code: Some("model_not_found"),
            status: StatusCode::NOT_FOUND,
            ..Self::param("model", message)
        }
    }

    /// What is asked for goes against what there is.
    pub(crate) fn conflict(message: String) -> Self {
        Self {
            param: Some("model".to_owned()),
            ..Self::new(StatusCode::CONFLICT, "invalid_request_error", message)
        }
    }

    /// A name for a model that another one has.
    pub(crate) fn name_is_taken(name: &str) -> Self {
        let name = cut(name);
        Self::conflict(format!(
            "another model is called '{name}': give this one another name"
        ))
    }

    /// A model whose files are not the server's.
    pub(crate) fn model_was_given(name: &str) -> Self {
        Self::conflict(format!(
            "the model '{name}' was given to the server when it started, and its files stay"
        ))
    }

    /// Files that another model is served from.
    pub(crate) fn files_are_used(name: &str) -> Self {
        Self::conflict(format!(
            "these files are those of '{name}', which is served"
        ))
    }

    /// A model that cannot be removed yet.
    pub(crate) fn model_is_coming(name: &str) -> Self {
        let name = cut(name);
        Self::conflict(format!(
            "the model '{name}' is being downloaded: cancel that first"
        ))
    }

    /// A download that there is not, or not any more.
    pub(crate) fn no_download(id: u64) -> Self {
        Self {
            param: Some("id".to_owned()),
            code: Some("download_not_found"),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                format!("there is no download {id}; the oldest are forgotten first"),
            )
        }
    }

    /// A download that has ended without its model.
    pub(crate) fn download_failed(why: &str) -> Self {
        Self::failed(StatusCode::BAD_GATEWAY, "download_failed", why.to_owned())
    }

    /// A server that knows no hub.
    pub(crate) fn no_registry() -> Self {
        let message = "this server has no access to a hub; its log says why";
        Self::new(StatusCode::NOT_IMPLEMENTED, "server_error", message)
    }

    pub(crate) fn no_route(path: &str) -> Self {
        let message = format!("there is no '{path}' here");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    pub(crate) fn method() -> Self {
        let message = "this path does not take this method";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            message,
        )
    }

    /// A plain request where a WebSocket is meant.
    pub(crate) fn no_websocket() -> Self {
        let message = "this path is a WebSocket: connect with ws:// or wss://";
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "invalid_request_error",
            message,
        )
    }

    /// A file that there is only in gzip, for a client that takes none.
    pub(crate) fn only_gzip() -> Self {
        let message = "this file is sent in gzip: ask with `Accept-Encoding: gzip`";
        Self::new(StatusCode::NOT_ACCEPTABLE, "invalid_request_error", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "give a valid key in the header `Authorization: Bearer KEY`",
            )
        }
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// A user's key where that of who runs the server is needed.
    pub(crate) fn not_admin() -> Self {
        Self::forbidden("this key may not manage models: that needs an admin key (see --admin-key)")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            format!("the body is larger than {limit} bytes"),
        )
    }

    pub(crate) fn slow_body() -> Self {
        let message = "the body did not arrive in time";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            message,
        )
    }

    pub(crate) fn overloaded() -> Self {
        Self {
            code: Some("overloaded"),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "too many requests are waiting already; try again later",
            )
        }
    }

    /// A failure of ours.
    pub(crate) fn internal(why: impl Into<String>) -> Self {
        Self {
            internal: Some(why.into()),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the server failed to process this request",
            )
        }
    }

    /// What a client is told.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Ollama's error object.
    pub(crate) fn ollama(&self) -> Value {
        let error = self.message.clone();
        json!(OllamaError { error })
    }

    /// Anthropic's error object.
    pub(crate) fn anthropic(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        json!(AnthropicError {
            kind: "error",
            error: AnthropicErrorObject {
                kind,
                message: self.message.clone(),
            },
        })
    }

    /// The same error as a client of another API reads it.
    pub(crate) fn body_for(&self, path: &str) -> Value {
        if path.starts_with(responses::PATH) {
            return self.named(&responses::NAMES).body();
        }
        match Dialect::of(path) {
            Dialect::OpenAi => self.body(),
            Dialect::Anthropic => self.named(&anthropic::NAMES).anthropic(),
            Dialect::Ollama => self.named(&ollama::NAMES).ollama(),
        }
    }

    /// The same error with the names that another API has for the parameters of chat completions.
    fn named(&self, names: &[(&str, &str)]) -> Self {
        let param = self.param.as_deref().unwrap_or_default();
        let found = names.iter().find_map(|&(from, to)| {
            let rest = param.strip_prefix(from)?;
            let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
            is_whole.then(|| format!("{to}{rest}"))
        });
        // A name that is unknown is the client's own.
        let Some(param) = found.filter(|_| self.code != Some("unknown_parameter")) else {
            return self.clone();
        };
        let rename = |message: String, (from, to): &(&str, &str)| message.replace(from, to);
        Self {
            message: names.iter().fold(self.message.clone(), rename),
            ..self.clone().at(param)
        }
    }

    /// OpenAI's error object.
    pub(crate) fn body(&self) -> Value {
        json!(Error {
            error: ErrorObject {
                message: self.message.clone(),
                kind: self.kind,
                param: self.param.clone(),
                code: self.code,
            },
        })
    }
}

/// The beginning of a name that a client made up, which may be as long as its request.
fn cut(name: &str) -> &str {
    let end = name.char_indices().nth(MAX_NAME).map(|(end, _)| end);
    &name[..end.unwrap_or(name.len())]
}

/// Whose error objects the clients of a path read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with(anthropic::PATH) {
            return Self::Anthropic;
        }
        match ollama::PATHS.contains(&path) {
            true => Self::Ollama,
            false => Self::OpenAi,
        }
    }
}

/// OpenAI's error.
#[derive(Serialize, ToSchema)]
pub(crate) struct Error {
    error: ErrorObject,
}

#[derive(Serialize, ToSchema)]
struct ErrorObject {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The parameter that is wrong, if it is one.
    param: Option<String>,
    /// For programs.
    code: Option<&'static str>,
}

/// Anthropic's error.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnthropicError {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicErrorObject,
}

#[derive(Serialize, ToSchema)]
struct AnthropicErrorObject {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

/// Ollama's error.
#[derive(Serialize, ToSchema)]
pub(crate) struct OllamaError {
    error: String,
}

impl From<zse::Error> for ApiError {
    fn from(error: zse::Error) -> Self {
        match &error {
            zse::Error::Engine(EngineError::Refused(refused)) => refused.into(),
            zse::Error::Engine(EngineError::Busy { retry_after, .. }) => Self {
                retry_after: retry_after.as_secs(),
                ..Self::overloaded()
            },
            // There is nobody to read this.
            zse::Error::Engine(EngineError::Cancelled) => Self::invalid(error.to_string()),
            zse::Error::NoAnswers => Self::param("model", error.to_string()),
            zse::Error::Text(TextError::Refused { .. }) => {
                Self::param("messages", error.to_string())
            }
            // A template that fails on a conversation mostly meets something it has no words for.
            zse::Error::Text(TextError::Template { .. } | TextError::TemplateLimit { .. }) => {
                Self {
                    internal: Some(error.to_string()),
                    ..Self::param(
                        "messages",
                        "the model's chat template cannot render this conversation",
                    )
                }
            }
            _ => Self::failure(error.to_string(), zse::gpu_state()),
        }
    }
}

impl From<&RequestError> for ApiError {
    fn from(error: &RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::EmptyPrompt => Self::param("prompt", message),
            RequestError::UnknownToken { field, .. } => Self::param(*field, message),
            // One token of those needed is the first that is drawn.
            RequestError::TooLong { tokens, limit, .. } => Self::too_long(tokens - 1, *limit),
            RequestError::WrongTask { .. } => Self::param("model", message),
            RequestError::Param(zse::ParamError::Range { field, .. }) => {
                // Mirostat's fields are three parameters here.
                Self::param(field.replace(' ', "_"), message)
            }
            RequestError::Param(zse::ParamError::Bias { .. }) => Self::param("logit_bias", message),
            RequestError::NoChoices | RequestError::TooManyChoices { .. } => {
                Self::param("n", message)
            }
            RequestError::EmptyStop => Self::param("stop", message),
            RequestError::Constraint(_) => Self::param(FORM, message),
            RequestError::AdapterScale { .. } => Self::param("lora", message),
            RequestError::AdapterOfAnother => Self::internal(message),
            RequestError::NothingToScore { .. } => Self::invalid(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers = [(CONTENT_TYPE, "application/json")];
        let mut response = (self.status, headers, self.body().to_string()).into_response();
        if let StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE = self.status {
            response
                .headers_mut()
                .insert(RETRY_AFTER, self.retry_after.into());
        }
        // For the middleware that reports it.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_what_they_can_change_and_no_more() {
        let refused = RequestError::TooLong {
            tokens: 41,
            limit: 40,
            of: "the context",
        };
        let error = ApiError::from(zse::Error::Engine(EngineError::Refused(refused)));
        let body = error.body().to_string();
        assert!(body.contains("length is 40 tokens"), "{body}");
        assert!(body.contains("has 40 tokens"), "{body}");
        assert!(body.contains("context_length_exceeded"), "{body}");

        let error = ApiError::from(zse::Error::Failed("/secret/path broke".to_owned()));
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.body().to_string().contains("secret"));
        assert!(error.internal.is_some_and(|why| why.contains("secret")));
    }

    #[test]
    fn names_of_clients_are_not_said_again_at_length() {
        let name = "ä".repeat(MAX_NAME + 1);
        for error in [ApiError::unknown(&name), ApiError::no_model(&name)] {
            let body = error.body().to_string();
            assert!(body.contains(&"ä".repeat(MAX_NAME)), "{body}");
            assert!(!body.contains(&name), "{body}");
        }
        assert_eq!(cut("top_p"), "top_p");
    }
}
