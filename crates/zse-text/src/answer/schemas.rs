//! What arguments mean that are written as plain text: the schemas of their functions say.

use std::collections::HashMap;

use serde_json::Value;

/// The schemas of arguments, by function and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas(HashMap<(String, String), Value>);

impl Schemas {
    /// Those of functions as OpenAI's API describes them.
    pub(super) fn new(tools: &[Value]) -> Self {
        let mut schemas = HashMap::new();
        for function in tools.iter().map(|tool| &tool["function"]) {
            let name = function["name"].as_str().unwrap_or_default();
            let properties = function["parameters"]["properties"].as_object();
            for (parameter, schema) in properties.into_iter().flatten() {
                schemas.insert((name.to_owned(), parameter.clone()), schema.clone());
            }
        }
        Self(schemas)
    }

    /// An argument as JSON: a string where the schema says so, and where it is nothing else.
    pub(super) fn json(&self, function: &str, name: &str, text: &str) -> String {
        let schema = self.0.get(&(function.to_owned(), name.to_owned()));
        let kind = schema.map(|schema| &schema["type"]);
        let may_be = |wanted: &str| match kind {
            Some(Value::String(kind)) => kind == wanted,
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == wanted),
            _ => false,
        };
        let word = text.trim();
        let word = match word {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            word => word,
        };
        let is_null = word == "null" && may_be("null");
        let is_json = serde_json::from_str::<Value>(word).is_ok();
        match is_null || is_json && !may_be("string") {
            true => word.to_owned(),
            false => Value::from(text).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_say_what_is_text() {
        let properties = json!({
            "text": { "type": "string" }, "count": { "type": "integer" },
            "some": { "type": ["string", "null"] }, "any": {},
        });
        let tools = [json!({ "type": "function", "function": {
            "name": "f", "parameters": { "type": "object", "properties": properties },
        }})];
        let schemas = Schemas::new(&tools);
        for (name, text, json) in [
            ("text", "12", "\"12\""),
            ("text", " {\"a\"}\n", "\" {\\\"a\\\"}\\n\""),
            ("count", " 12 ", "12"),
            ("count", "many", "\"many\""),
            ("some", "None", "null"),
            ("some", "1", "\"1\""),
            ("any", "True", "true"),
            ("any", "[1, {\"a\": 2}]", "[1, {\"a\": 2}]"),
            ("other", "a b", "\"a b\""),
        ] {
            assert_eq!(schemas.json("f", name, text), json, "{name}: {text}");
        }
    }
}
