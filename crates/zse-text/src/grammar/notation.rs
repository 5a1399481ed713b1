//! Arguments of calls in notations that are not JSON, as rules of a grammar.
//!
//! Types, properties, what is required and what is to choose from are kept to; properties come in
//! the schema's order. Numbers, strings and lists have no limits beyond that.

use serde_json::{Map, Value};

use super::form::{literal, plainly_spaced, quoted};
use crate::Tokenizer;

/// How the arguments of a call are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notation {
    /// An object of JSON.
    Json,
    /// Each between tags, text as it is: Qwen3-Coder's.
    Tags,
    /// Behind their names, as Python calls functions: Llama's.
    Python,
    /// An object with bare names, whose strings have this on both sides: Gemma's.
    Quoted(&'static str),
}

/// What ends an argument between tags.
const TAG_END: &str = "\n</parameter>\n";

/// The rule `name` of what `schema` describes, and those that it needs.
pub(super) fn rules(
    name: &str,
    notation: &Notation,
    schema: &Value,
    tokenizer: &Tokenizer,
) -> String {
    let mut rules = Rules {
        lark: String::new(),
        name,
        next: 0,
        any: None,
        notation,
        tokenizer,
    };
    let all = match schema["properties"].as_object() {
        Some(properties) => rules.properties(properties, schema, true),
        None => rules.any_pairs(true),
    };
    let all = match notation {
        Notation::Quoted(_) => format!(r#""{{" {all} "}}""#),
        _ => all,
    };
    format!("\n{name}: {all}{}", rules.lark)
}

struct Rules<'a> {
    lark: String,
    /// What their names begin with.
    name: &'a str,
    next: usize,
    /// The rule of any value.
    any: Option<String>,
    notation: &'a Notation,
    tokenizer: &'a Tokenizer,
}

impl Rules<'_> {
    /// Adds a rule with these attributes, and gives its name.
    fn add(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("{}x{}", self.name, self.next);
        self.next += 1;
        self.lark += &format!("\n{name}{attributes}: {body}");
        name
    }

    /// What is between two properties.
    fn separator(&self) -> &'static str {
        match self.notation {
            Notation::Tags => "",
            Notation::Quoted(_) => r#"",""#,
            Notation::Json | Notation::Python => r#"", ""#,
        }
    }

    /// What is before the value of a property that `key` spells in the grammar.
    fn key(&self, key: &str, is_top: bool) -> String {
        match self.notation {
            Notation::Tags => format!(r#""<parameter=" {key} ">\n""#),
            Notation::Quoted(_) => format!(r#"{key} ":""#),
            Notation::Python if is_top => format!(r#"{key} "=""#),
            Notation::Json | Notation::Python => format!(r#""\"" {key} "\": ""#),
        }
    }

    /// Properties of an object, in order; those that are not required may be left out.
    fn properties(
        &mut self,
        properties: &Map<String, Value>,
        schema: &Value,
        is_top: bool,
    ) -> String {
        let required = schema["required"].as_array();
        let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|n| n == name));
        let nothing = self.add("", "\"\"");
        // What may follow, where nothing, and where something stands before.
        let (mut first, mut later) = (nothing.clone(), nothing);
        for (name, schema) in properties.iter().rev() {
            let key = self.key(&quoted(name), is_top);
            let value = self.value(schema);
            let pair = self.add("", &format!("{key} {value}"));
            let separator = self.separator();
            let [begin, go_on] = match is_required(name) {
                true => [String::new(), String::new()],
                false => [format!(" | {first}"), format!(" | {later}")],
            };
            first = self.add("", &format!("{pair} {later}{begin}"));
            later = self.add("", &format!("{separator} {pair} {later}{go_on}"));
        }
        first
    }

    /// Any properties.
    fn any_pairs(&mut self, is_top: bool) -> String {
        let key = self.key("/[A-Za-z_][A-Za-z0-9_]{0,63}/", is_top);
        let value = self.value(&Value::Null);
        let pair = self.add("", &format!("{key} {value}"));
        let separator = self.separator();
        self.add("", &format!("({pair} ({separator} {pair})*)?"))
    }

    fn value(&mut self, schema: &Value) -> String {
        if *self.notation == Notation::Tags {
            return self.tagged(schema);
        }
        if let Some(choices) = choices(schema) {
            let choices: Vec<String> = choices.iter().map(|choice| self.literal(choice)).collect();
            return self.add("", &choices.join(" | "));
        }
        let alternatives = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| schema[key].as_array());
        if let Some(alternatives) = alternatives.filter(|all| !all.is_empty()) {
            let all: Vec<String> = alternatives.iter().map(|s| self.value(s)).collect();
            return self.add("", &all.join(" | "));
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            Value::String(kind) => vec![kind.as_str()],
            _ => Vec::new(),
        };
        if kinds.is_empty() {
            return self.any();
        }
        let all: Vec<String> = kinds
            .iter()
            .map(|kind| self.of_kind(kind, schema))
            .collect();
        self.add("", &all.join(" | "))
    }

    fn of_kind(&mut self, kind: &str, schema: &Value) -> String {
        match kind {
            "string" => self.string(),
            "integer" => self.add("", "/-?(0|[1-9][0-9]{0,17})/"),
            "number" => self.number(),
            "boolean" => {
                let words = [true, false].map(|word| self.literal(&word.into()));
                self.add("", &words.join(" | "))
            }
            "null" => self.literal(&Value::Null),
            "array" => {
                let item = self.value(&schema["items"]);
                self.list(&item)
            }
            "object" => {
                let pairs = match schema["properties"].as_object() {
                    Some(properties) => self.properties(properties, schema, false),
                    None => self.any_pairs(false),
                };
                self.add("", &format!(r#""{{" {pairs} "}}""#))
            }
            _ => self.any(),
        }
    }

    fn list(&mut self, item: &str) -> String {
        let separator = self.separator();
        let body = format!(r#""[" ({item} ({separator} {item})*)? "]""#);
        self.add("", &body)
    }

    fn number(&mut self) -> String {
        let number = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?/";
        self.add("", number)
    }

    fn string(&mut self) -> String {
        match self.notation {
            Notation::Quoted(quote) => {
                let mark = literal(quote, self.tokenizer);
                let rest = self.text_until(quote);
                self.add("", &format!("{mark} {rest}"))
            }
            _ => self.add("", r#"/"([^"\\\x00-\x1f]|\\["\\nrt])*"/"#),
        }
    }

    /// Any text up to `end`, and that.
    fn text_until(&mut self, end: &str) -> String {
        let mark = literal(end, self.tokenizer);
        match mark == quoted(end) {
            true => self.add(&format!("[suffix={mark}]"), "/(?s:.*)/"),
            // A token that no text spells.
            false => self.add("", &format!("/(?s:.+)/? {mark}")),
        }
    }

    /// Any value.
    fn any(&mut self) -> String {
        if let Some(any) = &self.any {
            return any.clone();
        }
        let any = format!("{}any", self.name);
        self.any = Some(any.clone());
        let words = [true.into(), false.into(), Value::Null].map(|word| self.literal(&word));
        let pairs = self.any_pairs(false);
        let parts = [self.string(), self.number(), self.list(&any)];
        let body = [&words[..], &parts[..]].concat().join(" | ");
        self.lark += &format!("\n{any}: {body} | \"{{\" {pairs} \"}}\"");
        any
    }

    /// This value and no other.
    fn literal(&self, value: &Value) -> String {
        match (self.notation, value) {
            (Notation::Quoted(quote), Value::String(text)) => {
                let mark = literal(quote, self.tokenizer);
                format!("{mark} {} {mark}", quoted(text))
            }
            (Notation::Tags, Value::String(text)) => quoted(text),
            (Notation::Python, Value::Bool(true)) => quoted("True"),
            (Notation::Python, Value::Bool(false)) => quoted("False"),
            (Notation::Python, Value::Null) => quoted("None"),
            (_, value) => quoted(&value.to_string()),
        }
    }

    /// A value with the tag that ends it.
    fn tagged(&mut self, schema: &Value) -> String {
        let end = quoted(TAG_END);
        if let Some(choices) = choices(schema) {
            let choices: Vec<String> = choices.iter().map(|choice| self.literal(choice)).collect();
            return self.add("", &format!("({}) {end}", choices.join(" | ")));
        }
        let is_json = |kind: &Value| kind.as_str().is_some_and(|kind| kind != "string");
        let is_json = match &schema["type"] {
            Value::Array(kinds) => !kinds.is_empty() && kinds.iter().all(is_json),
            kind => is_json(kind),
        };
        if !is_json {
            return self.text_until(TAG_END);
        }
        let json = self.add("", &format!("%json {}", plainly_spaced(schema)));
        self.add("", &format!("{json} {end}"))
    }
}

/// The values that a schema lets one choose from.
fn choices(schema: &Value) -> Option<Vec<Value>> {
    let choices = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(choices)), _) => choices.clone(),
        (_, Some(value)) => vec![value.clone()],
        _ => return None,
    };
    (!choices.is_empty()).then_some(choices)
}
