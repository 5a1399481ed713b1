//! Which of the tools are called, and what the answer must be for that.

use serde_json::{Value, json};
use zse::{AnswerFormat, Grammar, Wanted};

use super::MAX_TOOLS;
use crate::error::ApiError;
use crate::json::only;

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
    /// These, of which at least one where `required`; the model hears of no others.
    Among { names: Vec<String>, required: bool },
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
            Some(choice) if choice["type"] == ALLOWED => {
                const AT: &str = "tool_choice.allowed_tools";
                only("tool_choice", choice, &["type", ALLOWED])?;
                only(AT, &choice[ALLOWED], &["mode", "tools"])?;
                Self::among(&choice[ALLOWED], AT, |tool| {
                    tool["function"]["name"].as_str()
                })
            }
            Some(choice) => match choice["function"]["name"].as_str() {
                Some(name) if choice["type"] == "function" => {
                    only("tool_choice", choice, &["type", "function"])?;
                    only("tool_choice.function", &choice["function"], &["name"])?;
                    Ok(Self::This(name.to_owned()))
                }
                _ => Err(wrong_choice()),
            },
        }
    }

    /// The choice of some of the tools, by `mode` and `tools` in `allowed`, which stands at `at`: `name` gives the
    /// name of one.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn among(
        allowed: &Value,
        at: &str,
        name: impl Fn(&Value) -> Option<&str>,
    ) -> Result<Self, ApiError> {
        let wrong = |field: &str, what: &str| {
            let param = format!("{at}.{field}");
            Err(ApiError::param(param.clone(), format!("{param} {what}")))
        };
        let required = match allowed["mode"].as_str() {
            Some("auto") => false,
            Some("required") => true,
            _ => return wrong("mode", "must be auto or required"),
        };
        let tools = allowed["tools"].as_array().map_or(&[][..], Vec::as_slice);
        for (i, tool) in tools.iter().take(MAX_TOOLS).enumerate() {
            let at = format!("{at}.tools[{i}]");
            only(&at, tool, &["type", "function", "name"])?;
            only(&format!("{at}.function"), &tool["function"], &["name"])?;
        }
        let names = tools.iter().map(|tool| match tool["type"] == "function" {
            true => Some(name(tool)?.to_owned()),
            false => None,
        });
        match names.take(MAX_TOOLS + 1).collect::<Option<Vec<_>>>() {
            Some(names) if (1..=MAX_TOOLS).contains(&names.len()) => {
                Ok(Self::Among { names, required })
            }
            _ => wrong(
                "tools",
                "must be a list of functions of the request, each by its name",
            ),
        }
    }

    /// Those of `tools` that the model is told of.
    ///
    /// # Errors
    /// If a choice is among tools that are not there.
    pub(super) fn told(&self, mut tools: Vec<Tool>) -> Result<Vec<Tool>, ApiError> {
        match self {
            Self::Never => Ok(Vec::new()),
            Self::Among { names, .. } => {
                let has = |name: &&String| tools.iter().any(|tool| tool.name() == name.as_str());
                if !names.iter().all(|name| has(&name)) {
                    return Err(no_such_tool());
                }
                tools.retain(|tool| names.iter().any(|name| name == tool.name()));
                Ok(tools)
            }
            _ => Ok(tools),
        }
    }

    /// What an answer of a model of this format must be that may call `tools`, several after each other where
    /// `parallel`, or else has this `form`; none where it is free. A call that is not required keeps to the
    /// schema of its function where that is strict.
    ///
    /// # Errors
    /// If none of `tools` may be called.
    pub(crate) fn wanted(
        &self,
        format: AnswerFormat,
        tools: &[Tool],
        parallel: bool,
        form: Option<Grammar>,
    ) -> Result<Option<Wanted>, ApiError> {
        let (only, repeat) = match self {
            Self::Never => return Ok(form.map(Wanted::Form)),
            Self::Free | Self::Among { .. } if tools.is_empty() => {
                return Ok(form.map(Wanted::Form));
            }
            Self::Free
            | Self::Among {
                required: false, ..
            } => {
                let functions: Vec<_> = tools.iter().map(Tool::if_called).collect();
                let calls = || format.calls(&functions, parallel);
                return Ok(match form {
                    Some(form) => Some(Wanted::CallsOrForm(calls(), form)),
                    None if parallel && !tools.iter().any(|tool| tool.is_strict) => None,
                    None => Some(Wanted::CallsOrText(calls())),
                });
            }
            Self::Some | Self::Among { .. } => (None, parallel),
            Self::This(name) => (Some(name.as_str()), false),
        };
        let functions = tools.iter().map(Tool::function);
        let functions: Vec<(String, Value)> = functions
            .filter(|(name, _)| only.is_none_or(|only| name == only))
            .collect();
        if functions.is_empty() {
            return Err(no_such_tool());
        }
        // There is no text that a form would be for.
        Ok(Some(Wanted::Calls(format.calls(&functions, repeat))))
    }
}

/// OpenAI's type of choices among some of the tools, and the field that has them.
pub(crate) const ALLOWED: &str = "allowed_tools";

fn no_such_tool() -> ApiError {
    let message = "tool_choice asks for a call of a tool that is not among tools";
    ApiError::param("tool_choice", message)
}

fn wrong_choice() -> ApiError {
    let message = "tool_choice must be 'auto', 'none', 'required', \
                   {\"type\": \"function\", \"function\": {\"name\": ...}} or of type allowed_tools";
    ApiError::param("tool_choice", message)
}

/// A function that may be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    /// As OpenAI's API describes it, and models are told.
    pub(crate) description: Value,
    /// Whether its calls keep to its schema where they are not required, too.
    is_strict: bool,
}

impl Tool {
    /// The tool that stands at `at`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn new(at: &str, mut tool: Value) -> Result<Self, ApiError> {
        let wrong = |field: &str, what: &str| {
            let param = format!("{at}{field}");
            Err(ApiError::param(param.clone(), format!("{param} {what}")))
        };
        if tool["type"] != "function" || !tool["function"]["name"].is_string() {
            return wrong("", "must be of type 'function' and have function.name");
        }
        only(at, &tool, &["type", "function"])?;
        let function = &mut tool["function"];
        let known = ["name", "description", "parameters", "strict"];
        only(&format!("{at}.function"), function, &known)?;
        if !matches!(function["description"], Value::Null | Value::String(_)) {
            return wrong(".function.description", "must be a text");
        }
        if !matches!(function["parameters"], Value::Null | Value::Object(_)) {
            return wrong(".function.parameters", "must be an object");
        }
        // The model need not hear of what is done about its calls.
        let strict = function
            .as_object_mut()
            .and_then(|all| all.remove("strict"));
        let is_strict = match strict {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_strict)) => is_strict,
            Some(_) => return wrong(".function.strict", "must be true or false"),
        };
        Ok(Self {
            description: tool,
            is_strict,
        })
    }

    fn name(&self) -> &str {
        self.description["function"]["name"]
            .as_str()
            .unwrap_or_default()
    }

    /// Its name, and the schema of its arguments.
    fn function(&self) -> (String, Value) {
        let function = &self.description["function"];
        let arguments = match &function["parameters"] {
            Value::Null => json!({ "type": "object" }),
            parameters => parameters.clone(),
        };
        (self.name().to_owned(), arguments)
    }

    /// The same, for a call that is not required.
    fn if_called(&self) -> (String, Value) {
        let (name, arguments) = self.function();
        match self.is_strict {
            true => (name, arguments),
            false => (name, json!({ "type": "object" })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_in_a_tool_is_refused() {
        let tool = |more: Value, function: Value| {
            let mut tool = json!({ "type": "function", "function": { "name": "f" } });
            let fields = tool["function"].as_object_mut().unwrap();
            fields.extend(function.as_object().unwrap().clone());
            tool.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            Tool::new("tools[1]", tool).map_err(|e| e.body()["error"]["param"].clone())
        };
        let none = || json!({});
        let strict = tool(none(), json!({ "strict": true, "description": "d" })).unwrap();
        assert!(strict.is_strict && strict.description["function"].get("strict").is_none());
        assert!(
            !tool(json!({ "id": null }), json!({ "strict": null }))
                .unwrap()
                .is_strict
        );
        for (more, function, param) in [
            (json!({ "cache": 1 }), none(), "tools[1].cache"),
            (none(), json!({ "returns": 1 }), "tools[1].function.returns"),
            (
                none(),
                json!({ "strict": "yes" }),
                "tools[1].function.strict",
            ),
            (
                none(),
                json!({ "parameters": [] }),
                "tools[1].function.parameters",
            ),
            (
                none(),
                json!({ "description": 1 }),
                "tools[1].function.description",
            ),
            (json!({ "type": "custom" }), none(), "tools[1]"),
        ] {
            assert_eq!(tool(more, function), Err(param.into()));
        }
    }
}
