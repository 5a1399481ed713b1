//! The parameters of a request, and the conversation that they ask for.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::messages;
use crate::chat::{Calls, Chat, EFFORT, THINKING};
use crate::error::ApiError;
use crate::form::Form;
use crate::json::only;
use crate::request::{Fields, Unsupported, never, unsupported};

/// What a message and a count of tokens have in common.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(
    as = MessageQuestion,
    example = json!({
        "model": "builtin",
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": "How do I quantize a model?" }],
    }),
)]
pub(super) struct Question {
    model: Option<String>,
    /// With `role` and `content`: text, or blocks.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    /// A text, or blocks of text.
    system: Option<Value>,
    /// With `name` and `input_schema`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    /// Of type `auto`, `any`, `tool` or `none`.
    #[schema(value_type = Option<Object>)]
    tool_choice: Option<Value>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    thinking: Option<Thinking>,
    /// `format`.
    #[schema(value_type = Option<Object>)]
    output_config: Option<Map<String, Value>>,
    /// `user_id`.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Not needed: the prefix cache finds what was asked before without being told.
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
}

/// Whether, and how much, the model thinks first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Thinking {
    /// `disabled`, `enabled` or `adaptive`.
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<usize>,
}

const UNSUPPORTED: [Unsupported; 7] = [
    unsupported("service_tier", "there is one", |v| {
        v == "auto" || v == "standard_only"
    }),
    unsupported("speed", "there is one", |v| v == "standard"),
    unsupported("container", "nothing runs code here", never),
    unsupported("mcp_servers", "this server calls no others", |v| {
        v.as_array().is_some_and(Vec::is_empty)
    }),
    unsupported(
        "context_management",
        "a conversation is never cut here",
        never,
    ),
    unsupported("inference_geo", "it runs on this machine", never),
    unsupported("diagnostics", "there are none", never),
];

impl Question {
    /// The conversation; `fields` has the parameters of sampling, and nothing else.
    ///
    /// # Errors
    /// Names the parameter that is wrong.
    pub(super) fn chat(self, mut fields: Fields) -> Result<Chat, ApiError> {
        if let Some(name) = ["stop", "n"].into_iter().find(|name| fields.has(name)) {
            return Err(ApiError::unknown(name));
        }
        let mut sampling = fields.sampling()?;
        fields.finish(&UNSUPPORTED)?;
        sampling.stop_at(self.stop_sequences);
        if let Some(metadata) = self.metadata {
            only("metadata", &metadata.into(), &["user_id"])?;
        }
        let (form, wish) = output(self.output_config)?;
        let effort = effort(self.thinking, wish)?;
        let (calls, parallel) = calls(self.tool_choice.as_ref())?;
        let (messages, prefill) = messages::read(self.system, self.messages)?;
        Ok(Chat {
            model: self.model,
            messages,
            prefill,
            tools: tools(self.tools)?,
            calls,
            parallel,
            form,
            sampling,
            effort,
            ..Chat::default()
        })
    }
}

/// The fields of a tool. The prefix cache needs no marks.
/// What a tool may have: how its call is streamed is for whoever streams it.
const TOOL_FIELDS: [&str; 7] = [
    "name",
    "description",
    "input_schema",
    "type",
    "strict",
    "cache_control",
    "eager_input_streaming",
];

/// Tools as OpenAI's API describes them.
fn tools(tools: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let one = |(i, tool): (usize, Value)| {
        let wrong = |what: &str| {
            let param = format!("tools[{i}]");
            Err(ApiError::param(param.clone(), format!("{param}: {what}")))
        };
        only(&format!("tools[{i}]"), &tool, &TOOL_FIELDS)?;
        match tool["type"].as_str() {
            None | Some("custom") => {}
            Some(kind) => return wrong(&format!("tools of type '{kind}' do not run here")),
        }
        if !tool["name"].is_string() || !tool["input_schema"].is_object() {
            return wrong("name and input_schema are needed");
        }
        let mut function = json!({
            "name": tool["name"], "parameters": tool["input_schema"], "strict": tool["strict"],
        });
        if tool["description"].is_string() {
            function["description"] = tool["description"].clone();
        }
        Ok(json!({ "type": "function", "function": function }))
    };
    tools.into_iter().enumerate().map(one).collect()
}

/// Whether tools are called, and whether several may be at once.
fn calls(choice: Option<&Value>) -> Result<(Calls, Option<bool>), ApiError> {
    let Some(choice) = choice else {
        return Ok((Calls::Free, None));
    };
    let calls = match (choice["type"].as_str(), choice["name"].as_str()) {
        (Some("auto"), _) => Calls::Free,
        (Some("any"), _) => Calls::Some,
        (Some("none"), _) => Calls::Never,
        (Some("tool"), Some(name)) => Calls::This(name.to_owned()),
        _ => {
            let message = "tool_choice.type must be auto, any, none, or tool with a name";
            return Err(ApiError::param("tool_choice", message));
        }
    };
    only(
        "tool_choice",
        choice,
        &["type", "name", "disable_parallel_tool_use"],
    )?;
    let parallel = (choice["disable_parallel_tool_use"] == true).then_some(false);
    Ok((calls, parallel))
}

/// How much the model is to think. A budget is a wish of how much, not a limit: templates have words
/// for three of them. A `wish` in such a word goes before it.
fn effort(
    thinking: Option<Thinking>,
    wish: Option<&'static str>,
) -> Result<Option<(&'static str, String)>, ApiError> {
    let Some(thinking) = thinking else {
        // The highest is the default, which asks for nothing.
        let wish = wish.filter(|wish| *wish != "high");
        return Ok(wish.map(|wish| (EFFORT, wish.to_owned())));
    };
    let effort = match (thinking.kind.as_str(), thinking.budget_tokens) {
        ("disabled", None) => return Ok(Some((THINKING, "none".to_owned()))),
        ("enabled", Some(..1024)) => {
            let message = "thinking.budget_tokens must be at least 1024";
            return Err(ApiError::param("thinking.budget_tokens", message));
        }
        ("enabled", Some(..4096)) => "low",
        ("enabled", Some(16384..)) => "high",
        ("enabled", _) | ("adaptive", None) => "medium",
        ("disabled" | "adaptive", Some(_)) => {
            let message = "thinking.budget_tokens is for the type enabled";
            return Err(ApiError::param("thinking.budget_tokens", message));
        }
        _ => {
            let message = "thinking.type must be enabled, adaptive or disabled";
            return Err(ApiError::param("thinking.type", message));
        }
    };
    Ok(Some((THINKING, wish.unwrap_or(effort).to_owned())))
}

/// The form of the answer, and how much effort it is worth.
fn output(
    config: Option<Map<String, Value>>,
) -> Result<(Option<Form>, Option<&'static str>), ApiError> {
    const FORMAT: &str = "output_config.format";
    let config = config.map_or(Value::Null, Value::Object);
    only("output_config", &config, &["format", "effort"])?;
    let form = match &config["format"] {
        Value::Null => None,
        format if format["type"] == "json_schema" && format["schema"].is_object() => {
            only(FORMAT, format, &["type", "schema"])?;
            Some(Form::of_schema(format["schema"].clone(), FORMAT))
        }
        _ => {
            let message =
                "output_config.format must be {\"type\": \"json_schema\", \"schema\": {...}}";
            return Err(ApiError::param(FORMAT, message));
        }
    };
    let effort = match &config["effort"] {
        Value::Null => None,
        Value::String(word) => match word.as_str() {
            "low" => Some("low"),
            "medium" => Some("medium"),
            // Templates know none above.
            "high" | "xhigh" | "max" => Some("high"),
            _ => return Err(wrong_effort()),
        },
        _ => return Err(wrong_effort()),
    };
    Ok((form, effort))
}

fn wrong_effort() -> ApiError {
    let message = "output_config.effort must be low, medium, high, xhigh or max";
    ApiError::param("output_config.effort", message)
}
