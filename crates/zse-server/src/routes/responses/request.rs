//! The parameters of a request, and the conversation that they ask for.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use zse::{Message, Role};

use super::object::{EchoFields, ReasoningEcho, TextEcho};
use super::store::Store;
use super::{input, items};
use crate::chat::{ALLOWED, Calls, Chat};
use crate::error::ApiError;
use crate::form::Form;
use crate::json::only;
use crate::request::{Fields, Unsupported, if_false, never, unsupported};
use crate::sampling::check_top;

/// What makes the texts of an answer come with their log-probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

#[derive(Debug, Deserialize, ToSchema)]
#[schema(
    as = ResponseRequest,
    example = json!({ "input": "How do I quantize a model?", "temperature": 0 }),
)]
pub(super) struct Question {
    model: Option<String>,
    /// A text, or items.
    input: Value,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    max_output_tokens: Option<usize>,
    /// Functions that may be called.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    /// `auto`, `none`, `required`, a function by its name, or `allowed_tools`.
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    /// Its `format` is of type `text`, `json_object` or `json_schema`.
    #[schema(value_type = Option<Object>)]
    text: Option<Map<String, Value>>,
    #[serde(default)]
    include: Vec<String>,
    top_logprobs: Option<u32>,
    store: Option<bool>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// `effort`.
    #[schema(value_type = Option<Object>)]
    reasoning: Option<Map<String, Value>>,
    user: Option<String>,
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Option<String>,
}

/// What the answer says of its request, and what it is kept with.
#[derive(Debug)]
pub(super) struct Echo {
    /// The fields that an answer has of its request.
    pub(super) fields: EchoFields,
    /// The items of the conversation, where it is kept.
    pub(super) items: Vec<Value>,
    /// The conversation, but for instructions.
    pub(super) messages: Vec<Message>,
    pub(super) logprobs: bool,
    pub(super) store: bool,
}

const UNSUPPORTED: [Unsupported; 11] = [
    unsupported("background", "an answer is waited for", if_false),
    unsupported("conversation", "use previous_response_id", never),
    unsupported("prompt", "there are no stored prompts", never),
    unsupported("truncation", "a conversation is never cut here", |v| {
        v == "disabled"
    }),
    unsupported("service_tier", "there is one", |v| {
        v == "auto" || v == "default"
    }),
    unsupported("max_tool_calls", "tools run at the client", never),
    unsupported("prompt_cache_key", "the prefix cache needs no key", never),
    unsupported("prompt_cache_retention", "the prefix cache has one", |v| {
        v == "in_memory"
    }),
    unsupported("stream_options", "streams have one form", |v| {
        v.as_object().is_some_and(|o| {
            o.iter()
                .all(|(k, v)| k == "include_obfuscation" && v == false)
        })
    }),
    unsupported(
        "context_management",
        "a conversation is never cut here",
        never,
    ),
    unsupported("moderation", "nothing moderates here", never),
];

impl Question {
    /// The conversation, begun by a stored one where that is asked for; `fields` has the parameters
    /// of sampling, and nothing else.
    ///
    /// # Errors
    /// Names the parameter that is wrong.
    pub(super) fn chat(self, mut fields: Fields, store: &Store) -> Result<(Chat, Echo), ApiError> {
        if fields.has("n") {
            return Err(ApiError::unknown("n"));
        }
        let tenant = fields.tenant();
        let drawing = ["temperature", "top_p"].map(|name| fields.get(name).cloned());
        let [temperature, top_p] = drawing.map(|value| value.unwrap_or(json!(1.0)));
        let sampling = fields.sampling()?;
        fields.finish(&UNSUPPORTED)?;
        check_metadata(self.metadata.as_ref())?;
        let effort = effort(self.reasoning.as_ref())?;
        let logprobs = self.include.iter().any(|name| name == LOGPROBS);
        if let Some(other) = self.include.iter().find(|name| *name != LOGPROBS) {
            let why = format!("'{other}' is not known here");
            return Err(ApiError::unsupported("include", &why));
        }
        let top_logprobs = check_top("top_logprobs", self.top_logprobs.unwrap_or(0))?;
        if top_logprobs > 0 && !logprobs {
            let message = format!("top_logprobs needs {LOGPROBS} in include");
            return Err(ApiError::param("top_logprobs", message));
        }
        let store_it = self.store.unwrap_or(true);
        let (mut messages, mut items) = match &self.previous_response_id {
            None => <(Vec<_>, Vec<_>)>::default(),
            Some(id) => {
                let found = store.find(&tenant, id);
                let found =
                    found.ok_or_else(|| ApiError::no_response("previous_response_id", id))?;
                let mut items = Vec::new();
                if store_it {
                    items.clone_from(&found.items);
                    items.extend(
                        found.response["output"]
                            .as_array()
                            .cloned()
                            .unwrap_or_default(),
                    );
                }
                (found.messages.clone(), items)
            }
        };
        let given = store_it.then(|| self.input.clone());
        input::read(self.input, &mut messages)?;
        items.extend(given.map(items::kept).unwrap_or_default());
        let format = format(self.text.as_ref())?;
        let calls = calls(self.tool_choice.as_ref())?;
        let echo = Echo {
            fields: EchoFields {
                instructions: self.instructions.clone(),
                max_output_tokens: self.max_output_tokens,
                metadata: self.metadata.unwrap_or_default(),
                parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
                previous_response_id: self.previous_response_id,
                reasoning: ReasoningEcho {
                    effort: effort.as_ref().map(|(_, effort)| effort.clone()),
                    summary: (),
                },
                store: store_it,
                temperature,
                text: TextEcho {
                    format: format.clone().unwrap_or(json!({ "type": "text" })),
                },
                tool_choice: self.tool_choice.unwrap_or(json!("auto")),
                tools: self.tools.clone(),
                top_logprobs,
                top_p,
                truncation: "disabled",
                user: self.user,
            },
            items,
            messages: messages.clone(),
            logprobs,
            store: store_it,
        };
        let instructions = self
            .instructions
            .map(|text| Message::new(Role::System, text));
        let chat = Chat {
            model: self.model,
            messages: instructions.into_iter().chain(messages).collect(),
            tools: tools(self.tools)?,
            calls,
            parallel: self.parallel_tool_calls,
            form: form(format)?,
            sampling,
            max_tokens: self.max_output_tokens,
            effort,
            top_logprobs,
            ..Chat::default()
        };
        Ok((chat, echo))
    }
}

/// Labels of the client's own, as many as OpenAI takes.
fn check_metadata(metadata: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    let is_label = |(key, value): (&String, &Value)| {
        key.len() <= 64 && value.as_str().is_some_and(|text| text.len() <= 512)
    };
    match metadata {
        Some(map) if map.len() > 16 || !map.iter().all(is_label) => {
            let message = "metadata may have 16 texts of 512 bytes, with names of 64";
            Err(ApiError::param("metadata", message))
        }
        _ => Ok(()),
    }
}

/// How much the model is to think.
fn effort(
    reasoning: Option<&Map<String, Value>>,
) -> Result<Option<(&'static str, String)>, ApiError> {
    let mut effort = None;
    for (name, value) in reasoning.into_iter().flatten() {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("effort", Value::String(text)) => {
                effort = Some(("reasoning.effort", text.clone()));
            }
            ("effort", _) => {
                let message = "reasoning.effort must be a text";
                return Err(ApiError::param("reasoning.effort", message));
            }
            (name, _) => {
                let name = format!("reasoning.{name}");
                return Err(ApiError::unsupported(
                    name,
                    "thoughts are given as they are",
                ));
            }
        }
    }
    Ok(effort)
}

/// `text.format`.
fn format(text: Option<&Map<String, Value>>) -> Result<Option<Value>, ApiError> {
    let mut format = None;
    for (name, value) in text.into_iter().flatten() {
        match name.as_str() {
            _ if value.is_null() => {}
            "format" => format = Some(value.clone()),
            "verbosity" if value == "medium" => {}
            name => {
                let param = format!("text.{name}");
                return Err(ApiError::unsupported(
                    param,
                    "models here have one verbosity",
                ));
            }
        }
    }
    Ok(format)
}

/// The form that `text.format` asks for: as chat completions have it, but for the schema, which stands one
/// level higher.
fn form(format: Option<Value>) -> Result<Option<Form>, ApiError> {
    const AT: &str = "text.format";
    let Some(mut format) = format else {
        return Ok(None);
    };
    if format["type"] != "json_schema" {
        return Form::of_response(format, AT);
    }
    // Answers keep to the schema whatever `strict` says; models are told neither name nor description.
    only(
        AT,
        &format,
        &["type", "name", "description", "schema", "strict"],
    )?;
    match format["schema"].take() {
        schema @ Value::Object(_) => Ok(Some(Form::of_schema(schema, AT))),
        _ => Err(ApiError::param(AT, "text.format.schema must be an object")),
    }
}

/// Tools as chat completions have them: the function one level deeper.
fn tools(tools: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    const OF_FUNCTION: [&str; 4] = ["name", "description", "parameters", "strict"];
    let one = |(i, mut tool): (usize, Value)| match tool["type"].as_str() {
        Some("function") => {
            let known = [&OF_FUNCTION[..], &["type"]].concat();
            only(&format!("tools[{i}]"), &tool, &known)?;
            let mut function = Map::new();
            for name in OF_FUNCTION {
                if !tool[name].is_null() {
                    function.insert(name.to_owned(), tool[name].take());
                }
            }
            Ok(json!({ "type": "function", "function": function }))
        }
        kind => {
            let param = format!("tools[{i}]");
            let why = format!(
                "tools of type '{}' do not run here",
                kind.unwrap_or_default()
            );
            Err(ApiError::unsupported(param, &why))
        }
    };
    tools.into_iter().enumerate().map(one).collect()
}

/// Whether tools are called.
fn calls(choice: Option<&Value>) -> Result<Calls, ApiError> {
    match choice {
        Some(named @ Value::Object(_)) if named["type"] == "function" => {
            only("tool_choice", named, &["type", "name"])?;
            let nested = json!({ "type": "function", "function": { "name": named["name"] } });
            Calls::of(Some(&nested))
        }
        Some(allowed) if allowed["type"] == ALLOWED => {
            only("tool_choice", allowed, &["type", "mode", "tools"])?;
            Calls::among(allowed, "tool_choice", |tool| tool["name"].as_str())
        }
        other => Calls::of(other),
    }
}
