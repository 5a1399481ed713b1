//! The response as its clients read it.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::usage::Usage;

/// A response as far as it is written.
#[derive(Serialize, ToSchema)]
#[schema(as = Response)]
pub(super) struct ResponseObject {
    pub(super) id: String,
    /// `response`.
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub(super) status: String,
    pub(super) error: Option<Failure>,
    pub(super) incomplete_details: Option<Incomplete>,
    pub(super) model: String,
    /// Items of type `message`, `reasoning` and `function_call`.
    #[schema(value_type = Vec<Object>)]
    pub(super) output: Vec<Value>,
    #[serde(flatten)]
    pub(super) request: EchoFields,
    pub(super) usage: Option<ResponseUsage>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Incomplete {
    pub(super) reason: &'static str,
}

/// The fields that an answer has of its request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct EchoFields {
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<usize>,
    #[schema(value_type = Object)]
    pub(super) metadata: Map<String, Value>,
    pub(super) parallel_tool_calls: bool,
    pub(super) previous_response_id: Option<String>,
    pub(super) reasoning: ReasoningEcho,
    pub(super) store: bool,
    #[schema(value_type = f32)]
    pub(super) temperature: Value,
    pub(super) text: TextEcho,
    /// A word, or a function by its name.
    pub(super) tool_choice: Value,
    #[schema(value_type = Vec<Object>)]
    pub(super) tools: Vec<Value>,
    pub(super) top_logprobs: u32,
    #[schema(value_type = f32)]
    pub(super) top_p: Value,
    pub(super) truncation: &'static str,
    pub(super) user: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ReasoningEcho {
    pub(super) effort: Option<String>,
    /// Always `null`.
    #[schema(value_type = Option<String>)]
    pub(super) summary: (),
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct TextEcho {
    #[schema(value_type = Object)]
    pub(super) format: Value,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ResponseUsage {
    input_tokens: usize,
    input_tokens_details: InputTokens,
    output_tokens: usize,
    output_tokens_details: OutputTokens,
    total_tokens: usize,
}

#[derive(Serialize, ToSchema)]
struct InputTokens {
    /// Those that the prefix cache had.
    cached_tokens: usize,
    cache_write_tokens: usize,
}

#[derive(Serialize, ToSchema)]
struct OutputTokens {
    /// Those that the model thought in.
    reasoning_tokens: usize,
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt,
            input_tokens_details: InputTokens {
                cached_tokens: usage.cached,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion,
            output_tokens_details: OutputTokens {
                reasoning_tokens: usage.reasoning.unwrap_or_default(),
            },
            total_tokens: usage.prompt + usage.completion,
        }
    }
}
