//! Messages of a chat, with the field names of OpenAI's API.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole chat.
    System,
    /// Instructions, in the newer spelling of some models; templates that do not know it get it as `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; absent where the model only calls tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// A name of the one who says it, or of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The calls that the model makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that this message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What the model thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

/// A message's content: text, or parts of several kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts such as `{"type": "text", "text": "..."}`.
    Parts(Vec<Map<String, Value>>),
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call in the message that answers it; empty where the model gives none.
    #[serde(default)]
    pub id: String,
    /// `"function"`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What is called.
    pub function: FunctionCall,
}

/// The function that is called and what with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The function's name.
    pub name: String,
    /// The arguments: a JSON object as text. Read as an object too, which is how Hugging Face's
    /// chats and models write it; `{}` where there are none.
    #[serde(default = "no_arguments", deserialize_with = "object_or_text")]
    pub arguments: String,
}

fn no_arguments() -> String {
    "{}".to_owned()
}

fn object_or_text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Arguments {
        Text(String),
        Object(Map<String, Value>),
    }
    Ok(match Arguments::deserialize(from)? {
        Arguments::Text(text) => text,
        Arguments::Object(map) => Value::Object(map).to_string(),
    })
}

fn function() -> String {
    "function".to_owned()
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning_content: None,
        }
    }

    /// The text of the message, parts of text put on lines of their own; parts of other kinds are
    /// left out.
    pub fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                texts.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// The message as chat templates expect it: parts that are all text as one text, arguments of
    /// calls as a map.
    pub(super) fn for_template(&self) -> Value {
        let mut message = serde_json::to_value(self).unwrap_or_default();
        let is_text = |part: &Map<String, Value>| part.get("text").is_some_and(Value::is_string);
        if let Some(Content::Parts(parts)) = &self.content
            && parts.iter().all(is_text)
        {
            message["content"] = self.text().into();
        }
        for (i, call) in self.tool_calls.iter().enumerate() {
            let arguments = serde_json::from_str::<Map<String, Value>>(&call.function.arguments);
            if let Ok(arguments) = arguments {
                message["tool_calls"][i]["function"]["arguments"] = arguments.into();
            }
        }
        message
    }
}

impl ToolCall {
    /// A call of the function `name` with `arguments`, a JSON object as text.
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            kind: function(),
            function: FunctionCall {
                name: name.into(),
                arguments: arguments.into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_written_as_openai_spells_them() {
        let json = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"b\":1,\"a\":2}"}}]}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), json);
        let value = message.for_template();
        assert_eq!(
            value["tool_calls"][0]["function"]["arguments"].to_string(),
            r#"{"b":1,"a":2}"#
        );
        assert!(value["content"].is_null());
    }

    #[test]
    fn arguments_may_be_an_object() {
        let json = r#"{"name":"f","arguments":{"b":1,"a":"x"}}"#;
        let call: FunctionCall = serde_json::from_str(json).unwrap();
        assert_eq!(call.arguments, r#"{"b":1,"a":"x"}"#);
    }

    #[test]
    fn parts_of_text_become_one_text() {
        let json =
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        assert_eq!(message.for_template()["content"], "a\nb");
        let json = r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image"}]}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        assert!(message.for_template()["content"].is_array());
        assert_eq!(message.text(), "a");
    }
}
