//! What a schema of JSON says of a value's type.

use serde_json::Value;

/// Schemas that are looked at for one value: those that refer to one another have no end.
const MOST_SCHEMAS: usize = 256;

/// Types that a value may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    const NONE: Self = Self(0);
    const ANY: Self = Self(0b111_1111);
    pub(crate) const STRING: Self = Self(1);
    pub(crate) const NULL: Self = Self(2);
    const BOOLEAN: Self = Self(4);
    const INTEGER: Self = Self(8);
    /// Integers are numbers.
    const NUMBER: Self = Self(16 | 8);
    const ARRAY: Self = Self(32);
    const OBJECT: Self = Self(64);

    /// Those of what `schema` describes, as far as it says so, with its alternatives, its choices
    /// and what it refers to within `root`.
    pub(crate) fn of(schema: &Value, root: &Value) -> Self {
        let mut left = MOST_SCHEMAS;
        Self::within(schema, root, &mut left)
    }

    fn within(schema: &Value, root: &Value, left: &mut usize) -> Self {
        let Some(rest) = left.checked_sub(1) else {
            return Self::ANY;
        };
        *left = rest;
        let mut kinds = match &schema["type"] {
            Value::String(name) => Self::named(name),
            Value::Array(names) => {
                let names = names.iter().filter_map(Value::as_str);
                Self::any_of(names.map(Self::named))
            }
            _ => Self::ANY,
        };
        if let Some(choices) = choices(schema) {
            kinds = kinds.and(Self::any_of(choices.iter().map(Self::of_value)));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(all) = schema[key].as_array() {
                let all = all.iter().map(|schema| Self::within(schema, root, left));
                kinds = kinds.and(Self::any_of(all));
            }
        }
        for schema in schema["allOf"].as_array().into_iter().flatten() {
            kinds = kinds.and(Self::within(schema, root, left));
        }
        match referred(schema, root) {
            Some(schema) => kinds.and(Self::within(schema, root, left)),
            None => kinds,
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::NONE,
        }
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::STRING,
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn any_of(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::NONE, |all, kinds| Self(all.0 | kinds.0))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether a value may have this type.
    pub(crate) fn have(self, kind: Self) -> bool {
        self.and(kind) == kind
    }

    /// Whether nothing is said.
    pub(crate) fn are_any(self) -> bool {
        self == Self::ANY
    }
}

/// The values that a schema lets one choose from.
pub(crate) fn choices(schema: &Value) -> Option<Vec<Value>> {
    let choices = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(choices)), _) => choices.clone(),
        (_, Some(value)) => vec![value.clone()],
        _ => return None,
    };
    (!choices.is_empty()).then_some(choices)
}

/// `schema`, or the one within `root` that it does nothing but refer to.
pub(crate) fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..MOST_SCHEMAS {
        match referred(schema, root) {
            Some(next) if choices(schema).is_none() => schema = next,
            _ => break,
        }
    }
    schema
}

/// What `schema` refers to within `root`.
fn referred<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    root.pointer(schema["$ref"].as_str()?.strip_prefix('#')?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_found_behind_alternatives_choices_and_references() {
        let root = json!({ "$defs": {
            "color": { "enum": ["red", "blue"] },
            "again": { "anyOf": [{ "$ref": "#/$defs/again" }, { "$ref": "#/$defs/again" }] },
        }});
        let text_or_null = Kinds(Kinds::STRING.0 | Kinds::NULL.0);
        for (schema, kinds) in [
            (json!({}), Kinds::ANY),
            (json!(true), Kinds::ANY),
            (json!({ "type": "string" }), Kinds::STRING),
            (json!({ "type": ["string", "null"] }), text_or_null),
            (
                json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
                text_or_null,
            ),
            (
                json!({ "oneOf": [{ "type": "string" }, { "const": null }] }),
                text_or_null,
            ),
            (json!({ "enum": ["a", "b", null] }), text_or_null),
            (json!({ "const": true }), Kinds::BOOLEAN),
            (json!({ "type": "integer", "enum": [1, 2] }), Kinds::INTEGER),
            (json!({ "type": "number" }), Kinds::NUMBER),
            (
                json!({ "allOf": [{ "type": ["array", "object"] }, { "type": "object" }] }),
                Kinds::OBJECT,
            ),
            (json!({ "$ref": "#/$defs/color" }), Kinds::STRING),
            (json!({ "$ref": "#/$defs/again" }), Kinds::ANY),
            (json!({ "$ref": "#/$defs/none" }), Kinds::ANY),
            (json!({ "type": "elephant" }), Kinds::NONE),
        ] {
            assert_eq!(Kinds::of(&schema, &root), kinds, "{schema}");
        }
        let color = json!({ "$ref": "#/$defs/color" });
        assert_eq!(resolved(&color, &root), &root["$defs"]["color"]);
    }
}
