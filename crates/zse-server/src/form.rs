//! The form that a request wants its answer in: OpenAI's `response_format`, and the parameters of vLLM
//! and llama.cpp's server.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zse::Grammar;

use crate::error::ApiError;
use crate::json::only;
use crate::request::Fields;

/// The form of an answer, and the parameter that asked for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    pub(crate) grammar: Grammar,
    pub(crate) param: String,
}

/// The parameters that ask for a form, one at most, for the document: [`Form::take`] reads them.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct FormParameters {
    /// Of type `text`, `json_object` or `json_schema`.
    #[schema(value_type = Option<Object>)]
    #[serde(rename = "response_format")]
    _response_format: Option<Value>,
    /// vLLM's: one of `json`, `json_object`, `regex`, `choice` and `grammar`.
    #[schema(value_type = Option<Object>)]
    #[serde(rename = "structured_outputs")]
    _structured_outputs: Option<Value>,
    /// vLLM's: a JSON schema, or one as a text.
    #[serde(rename = "guided_json")]
    _guided_json: Option<Value>,
    /// vLLM's: a regular expression that the whole answer matches.
    #[serde(rename = "guided_regex")]
    _guided_regex: Option<String>,
    /// vLLM's: the answers to choose from.
    #[serde(rename = "guided_choice")]
    _guided_choice: Option<Vec<String>>,
    /// vLLM's: a grammar in Lark.
    #[serde(rename = "guided_grammar")]
    _guided_grammar: Option<String>,
    /// llama.cpp's: a JSON schema.
    #[schema(value_type = Option<Object>)]
    #[serde(rename = "json_schema")]
    _json_schema: Option<Value>,
}

/// llama.cpp's parameter for grammars of a kind that is not known here.
const GBNF: &str = "grammar";

/// The names of parameters that mean the same, and of the fields of `structured_outputs`.
const GUIDED: [(&str, &str); 5] = [
    ("guided_json", "json"),
    ("json_schema", "json"),
    ("guided_regex", "regex"),
    ("guided_choice", "choice"),
    ("guided_grammar", "grammar"),
];

impl Form {
    /// Takes the parameters that ask for a form.
    ///
    /// # Errors
    /// Names the one that is wrong, or one too many.
    pub(crate) fn take(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        if fields.take_whole(GBNF).is_some_and(|text| text != "") {
            let why = "grammars in GBNF are not known here: guided_grammar takes one in Lark";
            return Err(ApiError::unsupported(GBNF, why));
        }
        let mut forms = Vec::new();
        if let Some(format) = fields.take_whole("response_format") {
            forms.extend(Self::of_response(format, "response_format")?);
        }
        for (param, kind) in GUIDED {
            if let Some(value) = fields.take_whole(param) {
                forms.push(guided(param.to_owned(), kind, value)?);
            }
        }
        if let Some(outputs) = fields.take_whole("structured_outputs") {
            forms.extend(structured(outputs)?);
        }
        match <[Self; 1]>::try_from(forms) {
            Ok([form]) => Ok(Some(form)),
            Err(none) if none.is_empty() => Ok(None),
            Err(several) => {
                let (one, other) = (&several[0].param, &several[1].param);
                let message = format!("{one} and {other} ask for a form each: give one of them");
                Err(ApiError::param(other.clone(), message))
            }
        }
    }

    /// What OpenAI's `response_format` asks for, which stands at `at`: none for text.
    ///
    /// # Errors
    /// Names the field, if it is none of OpenAI's formats.
    pub(crate) fn of_response(mut format: Value, at: &str) -> Result<Option<Self>, ApiError> {
        let schema = match format["type"].as_str() {
            Some("text") => {
                only(at, &format, &["type"])?;
                return Ok(None);
            }
            Some("json_object") => {
                only(at, &format, &["type"])?;
                json!({ "type": "object" })
            }
            Some("json_schema") => {
                only(at, &format, &["type", "json_schema"])?;
                let inner = &mut format["json_schema"];
                // Answers keep to the schema whatever `strict` says; models are told neither name nor
                // description.
                let known = ["name", "description", "schema", "strict"];
                only(&format!("{at}.json_schema"), inner, &known)?;
                match inner.get_mut("schema") {
                    Some(schema @ Value::Object(_)) => schema.take(),
                    _ => {
                        let message = format!("{at}.json_schema.schema must be an object");
                        return Err(ApiError::param(at, message));
                    }
                }
            }
            _ => {
                let message = format!("{at}.type must be text, json_object or json_schema");
                return Err(ApiError::param(at, message));
            }
        };
        Ok(Some(Self::of_schema(schema, at)))
    }

    /// JSON that keeps to `schema`, which the parameter `param` has.
    pub(crate) fn of_schema(schema: Value, param: &str) -> Self {
        Self {
            grammar: Grammar::JsonSchema(schema),
            param: param.to_owned(),
        }
    }
}

/// vLLM's parameter for all kinds of forms.
fn structured(outputs: Value) -> Result<Option<Form>, ApiError> {
    const AT: &str = "structured_outputs";
    let Value::Object(fields) = outputs else {
        return Err(ApiError::param(AT, format!("{AT} must be an object")));
    };
    let mut forms = Vec::new();
    for (name, value) in fields {
        let param = format!("{AT}.{name}");
        match &*name {
            _ if value.is_null() => {}
            "json_object" if value == true => {
                forms.push(Form::of_schema(json!({ "type": "object" }), &param));
            }
            "json_object" if value == false => {}
            kind if GUIDED.iter().any(|(_, known)| *known == kind) => {
                forms.push(guided(param, kind, value)?);
            }
            _ => return Err(ApiError::unknown(&param)),
        }
    }
    match forms.len() {
        0 | 1 => Ok(forms.pop()),
        _ => {
            let message =
                format!("{AT} must have one of json, json_object, regex, choice, grammar");
            Err(ApiError::param(AT, message))
        }
    }
}

/// The form of a `kind` that `value` describes.
fn guided(param: String, kind: &str, value: Value) -> Result<Form, ApiError> {
    let wrong = |what: &str| {
        Err(ApiError::param(
            param.clone(),
            format!("{param} must be {what}"),
        ))
    };
    let grammar = match (kind, value) {
        ("json", schema @ Value::Object(_)) => Grammar::JsonSchema(schema),
        ("json", Value::String(text)) => match crate::json::read(text.as_bytes()) {
            Ok(schema @ Value::Object(_)) => Grammar::JsonSchema(schema),
            _ => return wrong("a JSON schema"),
        },
        ("json", _) => return wrong("a JSON schema"),
        ("regex", Value::String(pattern)) => Grammar::Regex(pattern),
        ("regex", _) => return wrong("a regular expression"),
        ("choice", list) => match serde_json::from_value(list) {
            Ok(texts) => Grammar::Choice(texts),
            Err(_) => return wrong("a list of texts"),
        },
        (_, Value::String(text)) if text.contains("::=") => {
            let why = "it is written as GBNF or EBNF, and grammars here are in Lark";
            return Err(ApiError::unsupported(param, why));
        }
        (_, Value::String(text)) => Grammar::Lark(text),
        _ => return wrong("a grammar in Lark"),
    };
    Ok(Form { grammar, param })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &Value) -> Result<Option<Form>, String> {
        let form = Form::take(&mut Fields::of(body.clone()));
        form.map_err(|e| e.body()["error"]["param"].to_string())
    }

    #[test]
    fn forms_are_asked_for_in_many_ways() {
        let schema = json!({ "type": "integer" });
        let of_schema = Grammar::JsonSchema(schema.clone());
        let nested = json!({ "type": "json_schema", "json_schema": { "name": "n", "strict": true, "schema": schema } });
        for (body, grammar) in [
            (
                json!({ "response_format": nested }),
                Some(of_schema.clone()),
            ),
            (json!({ "response_format": { "type": "text" } }), None),
            (json!({ "guided_json": schema }), Some(of_schema.clone())),
            (
                json!({ "guided_json": schema.to_string() }),
                Some(of_schema.clone()),
            ),
            (json!({ "json_schema": schema }), Some(of_schema.clone())),
            (
                json!({ "structured_outputs": { "json": schema } }),
                Some(of_schema),
            ),
            (
                json!({ "guided_regex": "a+" }),
                Some(Grammar::Regex("a+".into())),
            ),
            (
                json!({ "structured_outputs": { "choice": ["a", "b"], "regex": null } }),
                Some(Grammar::Choice(vec!["a".into(), "b".into()])),
            ),
            (
                json!({ "guided_grammar": "start: \"a\"" }),
                Some(Grammar::Lark("start: \"a\"".into())),
            ),
            (
                json!({ "structured_outputs": {}, "guided_json": null }),
                None,
            ),
        ] {
            let form = take(&body).expect("a form");
            assert_eq!(form.map(|form| form.grammar), grammar, "{body}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused_by_name() {
        for (body, param) in [
            (json!({ "grammar": "root ::= \"a\"" }), "grammar"),
            (
                json!({ "guided_grammar": "root ::= \"a\"" }),
                "guided_grammar",
            ),
            (json!({ "guided_regex": 1 }), "guided_regex"),
            (json!({ "guided_choice": "a" }), "guided_choice"),
            (json!({ "guided_json": "{" }), "guided_json"),
            (
                json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }),
                "structured_outputs",
            ),
            (
                json!({ "structured_outputs": { "whitespace_pattern": " " } }),
                "structured_outputs.whitespace_pattern",
            ),
            (
                json!({ "guided_regex": "a", "guided_choice": ["a"] }),
                "guided_choice",
            ),
            (
                json!({ "response_format": { "type": "text", "strict": true } }),
                "response_format.strict",
            ),
            (
                json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": {}, "mode": 1 } } }),
                "response_format.json_schema.mode",
            ),
        ] {
            assert_eq!(take(&body), Err(format!("\"{param}\"")), "{body}");
        }
    }
}
