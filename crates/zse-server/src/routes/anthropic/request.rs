//! The parameters of a request, and the conversation that they ask for.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::messages;
use crate::chat::{Calls, Chat, of_schema};
use crate::error::ApiError;
use crate::request::{Fields, Unsupported, never, unsupported};

/// What a message and a count of tokens have in common.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    model: Option<String>,
    messages: Vec<Value>,
    system: Option<Value>,
    #[serde(default)]
    tools: Vec<Value>,
    tool_choice: Option<Value>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    thinking: Option<Thinking>,
    output_config: Option<Map<String, Value>>,
    metadata: Option<Map<String, Value>>,
    /// The prefix cache finds what was asked before without being told.
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
}

/// Whether, and how much, the model thinks first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thinking {
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
        if let Some(name) = self
            .metadata
            .iter()
            .flat_map(Map::keys)
            .find(|n| *n != "user_id")
        {
            return Err(ApiError::unknown(&format!("metadata.{name}")));
        }
        let effort = effort(self.thinking)?;
        let (calls, parallel) = calls(self.tool_choice.as_ref())?;
        let (messages, prefill) = messages::read(self.system, self.messages)?;
        let form = form(self.output_config)?;
        let is_bound = form.is_some() || matches!(calls, Calls::Some | Calls::This(_));
        if prefill.is_some() && is_bound {
            let message = "an answer that has to be a call, or has a format, cannot be begun: \
                           leave out the last message";
            return Err(ApiError::param("messages", message));
        }
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

/// The fields of a tool. Calls that are required keep to the schema anyway, and the prefix cache
/// needs no marks.
const TOOL_FIELDS: [&str; 6] = [
    "name",
    "description",
    "input_schema",
    "type",
    "strict",
    "cache_control",
];

/// Tools as OpenAI's API describes them.
fn tools(tools: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let one = |(i, tool): (usize, Value)| {
        let wrong = |what: &str| {
            let param = format!("tools[{i}]");
            Err(ApiError::param(param.clone(), format!("{param}: {what}")))
        };
        let fields = tool.as_object().into_iter().flatten();
        if let Some((name, _)) = fields
            .into_iter()
            .find(|(name, value)| !TOOL_FIELDS.contains(&name.as_str()) && !value.is_null())
        {
            return Err(ApiError::unsupported(
                format!("tools[{i}].{name}"),
                "nothing here uses it",
            ));
        }
        match tool["type"].as_str() {
            None | Some("custom") => {}
            Some(kind) => return wrong(&format!("tools of type '{kind}' do not run here")),
        }
        if !tool["name"].is_string() || !tool["input_schema"].is_object() {
            return wrong("name and input_schema are needed");
        }
        let mut function = json!({ "name": tool["name"], "parameters": tool["input_schema"] });
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
    let parallel = (choice["disable_parallel_tool_use"] == true).then_some(false);
    Ok((calls, parallel))
}

/// How much the model is to think. A budget is a wish of how much, not a limit: templates have words
/// for three of them.
fn effort(thinking: Option<Thinking>) -> Result<Option<(&'static str, String)>, ApiError> {
    let Some(thinking) = thinking else {
        return Ok(None);
    };
    let effort = match (thinking.kind.as_str(), thinking.budget_tokens) {
        ("disabled", None) => "none",
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
    Ok(Some(("thinking", effort.to_owned())))
}

/// The form of the answer.
fn form(config: Option<Map<String, Value>>) -> Result<Option<zse::Constraint>, ApiError> {
    let mut form = None;
    for (name, value) in config.unwrap_or_default() {
        match name.as_str() {
            _ if value.is_null() => {}
            "format" if value["type"] == "json_schema" && value["schema"].is_object() => {
                form = Some(of_schema(value["schema"].clone()));
            }
            "format" => {
                let message =
                    "output_config.format must be {\"type\": \"json_schema\", \"schema\": {...}}";
                return Err(ApiError::param("output_config.format", message));
            }
            "effort" if value == "high" => {}
            name => {
                let param = format!("output_config.{name}");
                return Err(ApiError::unsupported(param, "models here have one effort"));
            }
        }
    }
    Ok(form)
}
