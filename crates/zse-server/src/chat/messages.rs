//! The messages of a chat, refused where a model would not get to see all of them.

use serde_json::Value;
use zse::{Content, Message};

use crate::error::ApiError;
use crate::json::{only, only_of};

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

/// The fields of a part of text. Marks for the prefix cache ask for what it does anyway.
const PART_FIELDS: [&str; 3] = ["type", "text", "cache_control"];
/// The fields of a call. Clients that put it together from a stream send its place back, too.
const CALL_FIELDS: [&str; 4] = ["id", "type", "function", "index"];
/// The fields of a call's function: Ollama's clients have its place here, OpenAI's the arguments as they read
/// them, beside their text.
const FUNCTION_FIELDS: [&str; 4] = ["name", "arguments", "index", "parsed_arguments"];

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
    let calls = fields.get("tool_calls").and_then(Value::as_array);
    for (j, call) in calls.into_iter().flatten().enumerate() {
        check_call(&format!("messages[{i}].tool_calls[{j}]"), call)?;
    }
    let mut message: Message = match serde_json::from_value(message) {
        Ok(message) => message,
        Err(error) => return wrong("", error.to_string()),
    };
    if let Some(Content::Parts(parts)) = &mut message.content {
        for (j, part) in parts.iter_mut().enumerate() {
            part.retain(|_, value| *value != Value::Array(Vec::new()));
            if part.get("type").is_none_or(|kind| kind != "text")
                || !part.get("text").is_some_and(Value::is_string)
            {
                let what = "only parts {\"type\": \"text\", \"text\": ...} are supported";
                return wrong(&format!(".content[{j}]"), what.to_owned());
            }
            only_of(&format!("messages[{i}].content[{j}]"), part, &PART_FIELDS)?;
        }
    }
    Ok(message)
}

/// Whether a call, which stands at `at`, is one of a function, and all of it is read.
fn check_call(at: &str, call: &Value) -> Result<(), ApiError> {
    match call["type"].as_str() {
        None | Some("function") => {}
        Some(kind) => {
            let why = format!("calls of type '{kind}' are not known here");
            return Err(ApiError::unsupported(format!("{at}.type"), &why));
        }
    }
    only(at, call, &CALL_FIELDS)?;
    only(
        &format!("{at}.function"),
        &call["function"],
        &FUNCTION_FIELDS,
    )
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
        // As put together from a stream, by OpenAI's helpers and by Ollama's clients.
        let streamed = json!({
            "role": "assistant", "parsed": null,
            "content": [{ "type": "text", "text": "so", "annotations": [], "logprobs": null,
                          "cache_control": { "type": "ephemeral" } }],
            "tool_calls": [
                { "index": 0, "id": "c", "type": "function",
                  "function": { "name": "f", "arguments": "{}", "parsed_arguments": {} } },
                { "function": { "index": 1, "name": "g", "arguments": { "a": 1 } } },
            ],
        });
        let messages = read(vec![parts, answer, streamed]).unwrap();
        assert_eq!(messages[0].text(), "hi");
        assert_eq!(messages[1].tool_calls[0].function.name, "f");
        assert_eq!(messages[2].text(), "so");
        assert_eq!(messages[2].tool_calls[1].function.arguments, r#"{"a":1}"#);
    }

    #[test]
    fn what_a_model_cannot_see_is_refused_by_name() {
        let called = |call: Value| json!({ "role": "assistant", "tool_calls": [call] });
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
            (
                json!({ "role": "user", "content": [{ "type": "text", "text": "hi", "tone": 1 }] }),
                "messages[0].content[0].tone",
            ),
            (
                called(
                    json!({ "type": "custom", "custom": { "name": "f", "input": "" },
                               "function": { "name": "f" } }),
                ),
                "messages[0].tool_calls[0].type",
            ),
            (
                called(json!({ "function": { "name": "f" }, "result": 1 })),
                "messages[0].tool_calls[0].result",
            ),
            (
                called(json!({ "function": { "name": "f", "input": {} } })),
                "messages[0].tool_calls[0].function.input",
            ),
        ] {
            let error = read(vec![message]).unwrap_err().body();
            assert_eq!(error["error"]["param"], name);
        }
        assert!(read(Vec::new()).is_err());
    }
}
