//! Arguments of calls in notations that are not JSON, as rules of a grammar.
//!
//! Types, properties, what is required and what is to choose from are kept to; properties come in
//! the schema's order. Numbers, strings and lists have no limits beyond that, and where a schema
//! refers to another (`$ref`), any value may stand, but for what is between tags.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::GrammarError;
use super::form::{literal, plainly_spaced, quoted};
use crate::Tokenizer;
use crate::schema::{Kinds, choices, resolved};

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

/// What ends an argument between tags, on a line of its own.
const TAG_END: &str = "</parameter>";

impl Notation {
    /// Whether who reads this notation takes `name` for the name of an argument, or of a property
    /// within one.
    fn has_name(&self, name: &str, is_top: bool) -> bool {
        let has_none_of = |marks: &[char]| !name.contains(marks);
        let is_plain = !name.is_empty() && name.trim() == name;
        match self {
            Self::Json => true,
            Self::Python if !is_top => true,
            Self::Tags => is_plain && has_none_of(&['>', '\n']),
            Self::Python => is_plain && is_python_name(name),
            Self::Quoted(quote) => {
                is_plain && has_none_of(&[':', '}', '\n']) && !name.contains(quote)
            }
        }
    }
}

/// Whether an argument may be called so where calls are written as in Python: more than Python
/// allows, as functions have parameters such as `$filter`.
pub(crate) fn is_python_name(name: &str) -> bool {
    !name.trim().is_empty() && !name.contains(is_no_part_of_python_name)
}

/// What cannot stand in the name of an argument in Python.
pub(crate) fn is_no_part_of_python_name(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '\\' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | '=' | '\n'
    )
}

/// The rules of arguments in one notation. What is the same in several of them is there once.
pub(super) struct Rules<'a> {
    /// All of them, in Lark.
    pub(super) lark: String,
    /// What their names begin with.
    name: String,
    /// Their names, by what they say.
    named: HashMap<String, String>,
    /// The rule of any value.
    any: Option<String>,
    pub(super) notation: &'a Notation,
    tokenizer: &'a Tokenizer,
    /// The schema that a call's arguments are described by.
    root: &'a Value,
}

impl<'a> Rules<'a> {
    /// None yet; their names are to begin with `name`.
    pub(super) fn new(name: String, notation: &'a Notation, tokenizer: &'a Tokenizer) -> Self {
        Self {
            lark: String::new(),
            name,
            named: HashMap::new(),
            any: None,
            notation,
            tokenizer,
            root: &Value::Null,
        }
    }

    /// The rule of arguments that `schema` describes.
    ///
    /// # Errors
    /// If an argument has a name that cannot be written.
    pub(super) fn arguments(&mut self, schema: &'a Value) -> Result<String, GrammarError> {
        self.root = schema;
        if *self.notation == Notation::Json {
            return Ok(self.json(schema));
        }
        let all = match schema["properties"].as_object() {
            Some(properties) => self.properties(properties, schema, true)?,
            None => self.any_pairs(true)?,
        };
        Ok(match self.notation {
            Notation::Quoted(_) => self.add("", &format!(r#""{{" {all} "}}""#)),
            _ => all,
        })
    }

    /// A value as JSON.
    fn json(&mut self, schema: &Value) -> String {
        let mut schema = plainly_spaced(schema);
        let Value::Object(keys) = &mut schema else {
            return self.add("", &format!("%json {schema}"));
        };
        // What is referred to stands beside the properties.
        for definitions in ["$defs", "definitions"] {
            if let Some(all) = self.root.get(definitions)
                && !keys.contains_key(definitions)
                && refers(keys.values())
            {
                keys.insert(definitions.to_owned(), all.clone());
            }
        }
        self.add("", &format!("%json {schema}"))
    }

    /// Adds a rule with these attributes, unless it is there, and gives its name.
    fn add(&mut self, attributes: &str, body: &str) -> String {
        let rule = format!("{attributes}: {body}");
        let name = format!("{}x{}", self.name, self.named.len());
        let named = self.named.entry(rule);
        let named = named.or_insert_with_key(|rule| {
            self.lark += &format!("\n{name}{rule}");
            name
        });
        named.clone()
    }

    /// What is between two properties.
    fn separator(&self) -> &'static str {
        match self.notation {
            Notation::Tags => "",
            Notation::Quoted(_) => r#"",""#,
            Notation::Json | Notation::Python => r#"", ""#,
        }
    }

    /// What is before the value of this property.
    ///
    /// # Errors
    /// If it has a name that cannot be written.
    fn key(&self, name: &str, is_top: bool) -> Result<String, GrammarError> {
        if !self.notation.has_name(name, is_top) {
            let name: String = name.chars().take(64).collect();
            return Err(GrammarError::Invalid(format!(
                "the parameter name {name:?} cannot be written in this model's form of calls"
            )));
        }
        let key = match self.notation {
            Notation::Python if !is_top => quoted(&Value::from(name).to_string()),
            _ => quoted(name),
        };
        Ok(self.key_of(&key, is_top))
    }

    /// What is before the value of any property.
    fn any_key(&self, is_top: bool) -> String {
        let name = "/[A-Za-z_][A-Za-z0-9_]{0,63}/";
        match self.notation {
            Notation::Python if !is_top => self.key_of(&format!(r#""\"" {name} "\"""#), is_top),
            _ => self.key_of(name, is_top),
        }
    }

    /// What is before the value of a property that `key` spells in the grammar.
    fn key_of(&self, key: &str, is_top: bool) -> String {
        match self.notation {
            Notation::Tags => format!(r#""<parameter=" {key} ">\n""#),
            Notation::Quoted(_) => format!(r#"{key} ":""#),
            Notation::Python if is_top => format!(r#"{key} "=""#),
            Notation::Json | Notation::Python => format!(r#"{key} ": ""#),
        }
    }

    /// Properties of an object, in order; those that are not required may be left out.
    fn properties(
        &mut self,
        properties: &Map<String, Value>,
        schema: &Value,
        is_top: bool,
    ) -> Result<String, GrammarError> {
        let required = schema["required"].as_array();
        let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|n| n == name));
        let nothing = self.add("", "\"\"");
        // What may follow, where nothing, and where something stands before.
        let (mut first, mut later) = (nothing.clone(), nothing);
        for (name, schema) in properties.iter().rev() {
            let key = self.key(name, is_top)?;
            let value = self.value(schema)?;
            let pair = self.add("", &format!("{key} {value}"));
            let separator = self.separator();
            let [begin, go_on] = match is_required(name) {
                true => [String::new(), String::new()],
                false => [format!(" | {first}"), format!(" | {later}")],
            };
            first = self.add("", &format!("{pair} {later}{begin}"));
            later = self.add("", &format!("{separator} {pair} {later}{go_on}"));
        }
        Ok(first)
    }

    /// Any properties.
    fn any_pairs(&mut self, is_top: bool) -> Result<String, GrammarError> {
        let key = self.any_key(is_top);
        let value = self.value(&Value::Null)?;
        let pair = self.add("", &format!("{key} {value}"));
        let separator = self.separator();
        Ok(self.add("", &format!("({pair} ({separator} {pair})*)?")))
    }

    fn value(&mut self, schema: &Value) -> Result<String, GrammarError> {
        if *self.notation == Notation::Tags {
            return self.tagged(schema);
        }
        if let Some(choices) = choices(schema) {
            let choices: Vec<String> = choices.iter().map(|choice| self.literal(choice)).collect();
            return Ok(self.add("", &choices.join(" | ")));
        }
        let alternatives = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| schema[key].as_array());
        if let Some(alternatives) = alternatives.filter(|all| !all.is_empty()) {
            let all: Result<Vec<String>, _> = alternatives.iter().map(|s| self.value(s)).collect();
            return Ok(self.add("", &all?.join(" | ")));
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            Value::String(kind) => vec![kind.as_str()],
            _ => Vec::new(),
        };
        if kinds.is_empty() {
            return self.any();
        }
        let all: Result<Vec<String>, _> = kinds
            .iter()
            .map(|kind| self.of_kind(kind, schema))
            .collect();
        Ok(self.add("", &all?.join(" | ")))
    }

    fn of_kind(&mut self, kind: &str, schema: &Value) -> Result<String, GrammarError> {
        Ok(match kind {
            "string" => self.string(),
            "integer" => self.add("", "/-?(0|[1-9][0-9]{0,17})/"),
            "number" => self.number(),
            "boolean" => {
                let words = [true, false].map(|word| self.literal(&word.into()));
                self.add("", &words.join(" | "))
            }
            "null" => self.literal(&Value::Null),
            "array" => {
                let item = self.value(&schema["items"])?;
                self.list(&item)
            }
            "object" => {
                let pairs = match schema["properties"].as_object() {
                    Some(properties) => self.properties(properties, schema, false)?,
                    None => self.any_pairs(false)?,
                };
                self.add("", &format!(r#""{{" {pairs} "}}""#))
            }
            _ => self.any()?,
        })
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
    fn any(&mut self) -> Result<String, GrammarError> {
        if let Some(any) = &self.any {
            return Ok(any.clone());
        }
        let any = format!("{}any", self.name);
        self.any = Some(any.clone());
        let words = [true.into(), false.into(), Value::Null].map(|word| self.literal(&word));
        let pairs = self.any_pairs(false)?;
        let parts = [self.string(), self.number(), self.list(&any)];
        let body = [&words[..], &parts[..]].concat().join(" | ");
        self.lark += &format!("\n{any}: {body} | \"{{\" {pairs} \"}}\"");
        Ok(any)
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
    ///
    /// # Errors
    /// If that tag is in a text to choose.
    fn tagged(&mut self, schema: &Value) -> Result<String, GrammarError> {
        let schema = resolved(schema, self.root);
        let end = literal(TAG_END, self.tokenizer);
        if let Some(choices) = choices(schema) {
            let choices: Vec<String> = choices.iter().map(|choice| self.literal(choice)).collect();
            if choices.iter().any(|choice| choice.contains(TAG_END)) {
                let what = format!("{TAG_END} ends an argument, so none to choose may hold it");
                return Err(GrammarError::Invalid(what));
            }
            let body = format!(r#"({}) "\n" {end} "\n""#, choices.join(" | "));
            return Ok(self.add("", &body));
        }
        let value = match Kinds::of(schema, self.root).have(Kinds::STRING) {
            // Up to the first that comes, as who reads it does.
            true => self.text_until(TAG_END),
            false => format!(r#"{} "\n" {end}"#, self.json(schema)),
        };
        Ok(self.add("", &format!(r#"{value} "\n""#)))
    }
}

/// Whether there is a reference within these schemas.
fn refers<'a>(schemas: impl Iterator<Item = &'a Value>) -> bool {
    let mut open: Vec<&Value> = schemas.collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(keys) if keys.contains_key("$ref") => return true,
            Value::Object(keys) => open.extend(keys.values()),
            Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    false
}
