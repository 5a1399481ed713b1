//! The form that a request wants its answer in, as a constraint.

use serde_json::{Value, json};
use zse::{AnswerFormat, Constraint, Grammar};

use crate::error::ApiError;

/// The constraint of `response_format`: none for text.
///
/// # Errors
/// Names the parameter, if it is none of OpenAI's formats.
pub(crate) fn of_response(format: Option<Value>) -> Result<Option<Constraint>, ApiError> {
    let wrong = |what: &str| Err(ApiError::param("response_format", what));
    let Some(mut format) = format else {
        return Ok(None);
    };
    let schema = match format["type"].as_str() {
        Some("text") => return Ok(None),
        Some("json_object") => json!({ "type": "object" }),
        Some("json_schema") => match format.pointer_mut("/json_schema/schema") {
            Some(schema @ Value::Object(_)) => schema.take(),
            _ => return wrong("response_format.json_schema.schema must be an object"),
        },
        _ => return wrong("response_format.type must be text, json_object or json_schema"),
    };
    Ok(Some(of_schema(schema)))
}

/// The constraint to JSON that keeps to `schema`.
pub(crate) fn of_schema(schema: Value) -> Constraint {
    Grammar::JsonSchema(schema).into()
}

/// Whether tools are called, as `tool_choice` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Calls {
    /// As the model likes.
    #[default]
    Free,
    /// The model hears of no tools.
    Never,
    /// At least one of the tools.
    Some,
    /// This one.
    This(String),
}

impl Calls {
    /// What `choice` asks for.
    ///
    /// # Errors
    /// Names the parameter, if that is none of OpenAI's choices.
    pub(crate) fn of(choice: Option<&Value>) -> Result<Self, ApiError> {
        match choice {
            None => Ok(Self::Free),
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Ok(Self::Free),
                "none" => Ok(Self::Never),
                "required" => Ok(Self::Some),
                _ => Err(wrong_choice()),
            },
            Some(choice) => match choice["function"]["name"].as_str() {
                Some(name) if choice["type"] == "function" => Ok(Self::This(name.to_owned())),
                _ => Err(wrong_choice()),
            },
        }
    }

    /// The constraint that makes a model of this format call one of `tools`, or several after each other where
    /// `parallel`; none where it is free.
    ///
    /// # Errors
    /// If none of `tools` may be called.
    pub(crate) fn constraint(
        &self,
        format: AnswerFormat,
        tools: &[Value],
        parallel: bool,
    ) -> Result<Option<Constraint>, ApiError> {
        let (only, repeat) = match self {
            Self::Free | Self::Never => return Ok(None),
            Self::Some => (None, parallel),
            Self::This(name) => (Some(name.as_str()), false),
        };
        let functions = tools.iter().map(|tool| &tool["function"]);
        let functions: Vec<(String, Value)> = functions
            .filter(|f| only.is_none_or(|name| f["name"] == name))
            .map(function)
            .collect();
        if functions.is_empty() {
            let message = "tool_choice asks for a call of a tool that is not among tools";
            return Err(ApiError::param("tool_choice", message));
        }
        Ok(Some(format.calls(&functions, repeat).into()))
    }
}

fn wrong_choice() -> ApiError {
    let message = "tool_choice must be 'auto', 'none', 'required' or \
                   {\"type\": \"function\", \"function\": {\"name\": ...}}";
    ApiError::param("tool_choice", message)
}

/// The name of a function and the schema of its arguments.
fn function(function: &Value) -> (String, Value) {
    let arguments = match &function["parameters"] {
        Value::Null => json!({ "type": "object" }),
        parameters => parameters.clone(),
    };
    let name = function["name"].as_str().unwrap_or_default();
    (name.to_owned(), arguments)
}
