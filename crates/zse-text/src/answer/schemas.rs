//! What arguments mean that are written as plain text: the schemas of their functions say.

use std::collections::HashMap;

use serde_json::Value;

use crate::schema::{Kinds, choices, resolved};

/// The schemas of functions' arguments, by the function's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas(HashMap<String, Value>);

impl Schemas {
    /// Those of functions as OpenAI's API describes them.
    pub(super) fn new(tools: &[Value]) -> Self {
        let functions = tools.iter().map(|tool| &tool["function"]);
        let schemas = functions.filter_map(|function| {
            let name = function["name"].as_str()?;
            Some((name.to_owned(), function["parameters"].clone()))
        });
        Self(schemas.collect())
    }

    /// Whether there is a function of this name.
    pub(super) fn has(&self, function: &str) -> bool {
        self.0.contains_key(function)
    }

    /// An argument as JSON: a string where the schema says so, and where it is nothing else.
    pub(super) fn json(&self, function: &str, name: &str, text: &str) -> String {
        let root = self.0.get(function).unwrap_or(&Value::Null);
        let schema = resolved(&root["properties"][name], root);
        let kinds = Kinds::of(schema, root);
        let word = match text.trim() {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            word => word,
        };
        let value = serde_json::from_str::<Value>(word).ok();
        let is_choice = |choice: Option<&Value>| {
            let choices = choices(schema).unwrap_or_default();
            choice.is_some_and(|choice| choices.contains(choice))
        };
        let is_json = match &value {
            _ if is_choice(Some(&text.into())) => false,
            None => false,
            Some(Value::Null) if kinds.have(Kinds::NULL) => true,
            Some(_) => kinds.are_any() || !kinds.have(Kinds::STRING) || is_choice(value.as_ref()),
        };
        match is_json {
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
            "maybe": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
            "version": { "enum": ["1", "1.10"] }, "speed": { "enum": ["auto", 5] },
            "size": { "$ref": "#/$defs/size" },
        });
        let definitions = json!({ "size": { "const": "10" } });
        let tools = [json!({ "type": "function", "function": {
            "name": "f", "parameters": {
                "type": "object", "properties": properties, "$defs": definitions,
            },
        }})];
        let schemas = Schemas::new(&tools);
        for (name, text, json) in [
            ("text", "12", "\"12\""),
            ("text", " {\"a\"}\n", "\" {\\\"a\\\"}\\n\""),
            ("count", " 12 ", "12"),
            ("count", "many", "\"many\""),
            ("some", "None", "null"),
            ("some", "1", "\"1\""),
            ("maybe", "123", "\"123\""),
            ("maybe", "null", "null"),
            ("version", "1.10", "\"1.10\""),
            ("speed", "auto", "\"auto\""),
            ("speed", "5", "5"),
            ("size", "10", "\"10\""),
            ("any", "True", "true"),
            ("any", "[1, {\"a\": 2}]", "[1, {\"a\": 2}]"),
            ("other", "a b", "\"a b\""),
        ] {
            assert_eq!(schemas.json("f", name, text), json, "{name}: {text}");
        }
    }
}
