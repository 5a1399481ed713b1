//! The messages of a chat, refused where a model would not get to see all of them.

use serde_json::Value;
use zse::{Content, Message};

use crate::error::ApiError;

/// Most messages of a conversation.
pub(crate) const MAX_MESSAGES: usize = 10_000;
/// The fields of a message that have a meaning.
const FIELDS: [&str; 6] = [
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "reasoning_content",
];

/// Reads OpenAI's messages.
///
/// # Errors
/// Names the message and the field that is wrong.
pub(crate) fn read(messages: Vec<Value>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        let message = format!("messages must have from 1 to {MAX_MESSAGES} messages");
        return Err(ApiError::param("messages", message));
    }
    let numbered = messages.into_iter().enumerate();
    numbered.map(|(i, message)| one(i, message)).collect()
}

fn one(i: usize, mut message: Value) -> Result<Message, ApiError> {
    let wrong = |field: &str, what: String| {
        let param = format!("messages[{i}]{field}");
        Err(ApiError::param(param.clone(), format!("{param}: {what}")))
    };
    let Some(fields) = message.as_object_mut() else {
        return wrong("", "must be an object".to_owned());
    };
    // Clients send answers back as they got them, with fields that are null or empty.
    fields.retain(|_, value| !value.is_null() && *value != Value::Array(Vec::new()));
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return wrong(&format!(".{name}"), "is not supported".to_owned());
    }
    let message: Message = match serde_json::from_value(message) {
        Ok(message) => message,
        Err(error) => return wrong("", error.to_string()),
    };
    if let Some(Content::Parts(parts)) = &message.content {
        for (j, part) in parts.iter().enumerate() {
            if part.get("type").is_none_or(|kind| kind != "text")
                || !part.get("text").is_some_and(Value::is_string)
            {
                let what = "only parts {\"type\": \"text\", \"text\": ...} are supported";
                return wrong(&format!(".content[{j}]"), what.to_owned());
            }
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_clients_send_back_is_taken() {
        let answer = json!({
            "role": "assistant", "content": null, "refusal": null, "annotations": [],
            "audio": null, "function_call": null,
            "tool_calls": [{ "id": "c", "type": "function",
                             "function": { "name": "f", "arguments": "{}" } }],
        });
        let parts = json!({ "role": "user", "content": [{ "type": "text", "text": "hi" }] });
        let messages = read(vec![parts, answer]).unwrap();
        assert_eq!(messages[0].text(), "hi");
        assert_eq!(messages[1].tool_calls[0].function.name, "f");
    }

    #[test]
    fn what_a_model_cannot_see_is_refused_by_name() {
        for (message, name) in [
            (json!("hi"), "messages[0]"),
            (json!({ "role": "king", "content": "hi" }), "messages[0]"),
            (json!({ "content": "hi" }), "messages[0]"),
            (
                json!({ "role": "user", "content": "hi", "mood": "bad" }),
                "messages[0].mood",
            ),
            (
                json!({ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }),
                "messages[0].content[0]",
            ),
        ] {
            let error = read(vec![message]).unwrap_err().body();
            assert_eq!(error["error"]["param"], name);
        }
        assert!(read(Vec::new()).is_err());
    }
}
