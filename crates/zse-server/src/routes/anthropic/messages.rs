//! Anthropic's messages of blocks, as the messages that chat templates know.

use serde_json::{Map, Value};
use zse::{Content, Message, Role, ToolCall};

use crate::chat::MAX_MESSAGES;
use crate::error::ApiError;
use crate::json::only;

/// What any block may have beside its own fields: a mark for the prefix cache, which needs none, and its place,
/// which clients keep that put an answer together from a stream.
const OF_BLOCKS: [&str; 3] = ["type", "cache_control", "index"];

/// Reads a conversation. Where the model spoke last, what it said is apart: the beginning of its
/// answer.
///
/// # Errors
/// Names the message and the block that is wrong.
pub(super) fn read(
    system: Option<Value>,
    messages: Vec<Value>,
) -> Result<(Vec<Message>, Option<String>), ApiError> {
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        let message = format!("messages must have from 1 to {MAX_MESSAGES} messages");
        return Err(ApiError::param("messages", message));
    }
    let mut read = Vec::with_capacity(messages.len() + 1);
    if let Some(system) = system {
        let text = texts("system", system)?;
        read.push(Message::new(Role::System, text));
    }
    for (i, message) in messages.into_iter().enumerate() {
        one(&format!("messages[{i}]"), message, &mut read)?;
    }
    let prefill = match read.last() {
        Some(last) if last.role == Role::Assistant && last.tool_calls.is_empty() => read.pop(),
        _ => None,
    };
    Ok((read, prefill.map(|message| message.text())))
}

/// A message, which becomes one for each result of a tool and one for the rest.
fn one(at: &str, mut message: Value, read: &mut Vec<Message>) -> Result<(), ApiError> {
    let role = match message["role"].as_str() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(wrong(&format!("{at}.role"), "must be user or assistant")),
    };
    only(at, &message, &["role", "content"])?;
    let at = format!("{at}.content");
    let blocks = match message["content"].take() {
        Value::String(text) => {
            read.push(Message::new(role, text));
            return Ok(());
        }
        Value::Array(blocks) if !blocks.is_empty() => blocks,
        _ => return Err(wrong(&at, "must be a text or a list of blocks, not empty")),
    };
    let mut parts: Vec<Map<String, Value>> = Vec::new();
    let mut message = Message::new(role, "");
    for (j, mut block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{j}]");
        let kind = block["type"].as_str().unwrap_or_default().to_owned();
        match (kind.as_str(), role) {
            ("text", _) => parts.push(text_part(&at, &block)?),
            ("tool_result", Role::User) => read.push(result(&at, block)?),
            ("tool_use", Role::Assistant) => {
                let (Some(id), Some(name)) = (block["id"].as_str(), block["name"].as_str()) else {
                    return Err(wrong(&at, "id and name are needed"));
                };
                check(&at, &block, &["id", "name", "input", "caller", JSON_BUFFER])?;
                if !block["caller"].is_null() && block["caller"]["type"] != "direct" {
                    let param = format!("{at}.caller");
                    return Err(ApiError::unsupported(
                        param,
                        "only the model calls tools here",
                    ));
                }
                let input = match &block["input"] {
                    Value::Null => "{}".to_owned(),
                    input @ Value::Object(_) => input.to_string(),
                    _ => return Err(wrong(&format!("{at}.input"), "must be an object")),
                };
                message.tool_calls.push(ToolCall::new(id, name, input));
            }
            ("thinking", Role::Assistant) => match block["thinking"].take() {
                Value::String(text) => {
                    check(&at, &block, &["thinking", "signature"])?;
                    let thoughts = message.reasoning_content.take();
                    let thoughts = thoughts.map(|before| before + "\n").unwrap_or_default();
                    message.reasoning_content = Some(thoughts + &text);
                }
                _ => return Err(wrong(&at, "thinking must be a text")),
            },
            ("image" | "document", _) => {
                return Err(ApiError::unsupported(at, "models here read text"));
            }
            _ => {
                let what = format!("blocks of type '{kind}' are not supported in this role");
                return Err(wrong(&at, &what));
            }
        }
    }
    let is_results_only = role == Role::User && parts.is_empty();
    message.content = (!parts.is_empty()).then_some(Content::Parts(parts));
    if !is_results_only {
        read.push(message);
    }
    Ok(())
}

/// Where Anthropic's client for Python keeps the text of a streamed `input`, which it may send back.
const JSON_BUFFER: &str = "__json_buf";

/// Refuses what a block, which stands at `at`, has beside the fields of all blocks and its `own`.
fn check(at: &str, block: &Value, own: &[&str]) -> Result<(), ApiError> {
    only(at, block, &[&OF_BLOCKS[..], own].concat())
}

/// The message with a tool's result.
fn result(at: &str, mut block: Value) -> Result<Message, ApiError> {
    let Some(id) = block["tool_use_id"].as_str().map(str::to_owned) else {
        return Err(wrong(at, "tool_use_id is needed"));
    };
    check(at, &block, &["tool_use_id", "content", "is_error"])?;
    if !matches!(block["is_error"], Value::Null | Value::Bool(_)) {
        return Err(wrong(&format!("{at}.is_error"), "must be true or false"));
    }
    let text = match block["content"].take() {
        Value::Null => String::new(),
        content => texts(&format!("{at}.content"), content)?,
    };
    // Templates have no other word for it.
    let text = match block["is_error"] == true {
        true => format!("Error: {text}"),
        false => text,
    };
    Ok(Message {
        tool_call_id: Some(id),
        ..Message::new(Role::Tool, text)
    })
}

/// A text, or blocks of text on lines of their own.
fn texts(at: &str, content: Value) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text),
        Value::Array(blocks) => {
            let parts = blocks.iter().enumerate();
            let parts = parts.map(|(i, block)| text_part(&format!("{at}[{i}]"), block));
            let content = Content::Parts(parts.collect::<Result<_, _>>()?);
            let message = Message {
                content: Some(content),
                ..Message::new(Role::System, "")
            };
            Ok(message.text())
        }
        _ => Err(wrong(at, "must be a text or a list of blocks of text")),
    }
}

/// A block of text as OpenAI has it.
fn text_part(at: &str, block: &Value) -> Result<Map<String, Value>, ApiError> {
    match (block["type"].as_str(), &block["text"]) {
        (Some("text"), text @ Value::String(_)) => {
            check(at, block, &["text", "citations", "parsed_output"])?;
            // An answer comes back with what it did not cite.
            if !block["citations"].is_null() && block["citations"] != Value::Array(Vec::new()) {
                let param = format!("{at}.citations");
                return Err(ApiError::unsupported(param, "models here cite nothing"));
            }
            Ok(Map::from_iter([
                ("type".to_owned(), "text".into()),
                ("text".to_owned(), text.clone()),
            ]))
        }
        (Some("image" | "document"), _) => Err(ApiError::unsupported(at, "models here read text")),
        _ => Err(wrong(at, "must be {\"type\": \"text\", \"text\": ...}")),
    }
}

fn wrong(at: &str, what: &str) -> ApiError {
    ApiError::param(at, format!("{at}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_and_calls_become_messages_of_their_own() {
        let system = json!([{ "type": "text", "text": "Be brief.", "cache_control": {} }]);
        let messages = json!([
            { "role": "user", "content": "What is 2 + 2?" },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "Hm.", "signature": "" },
                { "type": "text", "text": "Let me see." },
                { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } },
            ]},
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "4" }] },
                { "type": "tool_result", "tool_use_id": "u", "content": "no", "is_error": true },
                { "type": "text", "text": "And?" },
            ]},
            { "role": "assistant", "content": "It is" },
        ]);
        let Value::Array(messages) = messages else {
            panic!("a list")
        };
        let (read, prefill) = read(Some(system), messages).unwrap();
        let roles: Vec<Role> = read.iter().map(|m| m.role).collect();
        use Role::{Assistant, System, Tool, User};
        assert_eq!(roles, [System, User, Assistant, Tool, Tool, User]);
        assert_eq!(read[2].tool_calls[0].function.arguments, r#"{"a":1}"#);
        assert_eq!(read[2].reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(
            (read[3].text(), read[4].text()),
            ("4".to_owned(), "Error: no".to_owned())
        );
        assert_eq!(prefill.as_deref(), Some("It is"));
    }

    #[test]
    fn what_clients_send_back_is_taken() {
        let mark = json!({ "type": "ephemeral" });
        let messages = json!([
            { "role": "user", "content": [{ "type": "text", "text": "Hi", "cache_control": mark }] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "Hm.", "signature": "", "index": 0 },
                { "type": "thinking", "thinking": "So.", "signature": "" },
                { "type": "text", "text": "Yes", "citations": null, "parsed_output": null, "index": 1 },
                { "type": "text", "text": ".", "citations": [] },
                { "type": "tool_use", "id": "t", "name": "f", "input": {}, "index": 2,
                  "caller": { "type": "direct" }, "__json_buf": "{}", "cache_control": mark },
                { "type": "tool_use", "id": "u", "name": "g" },
            ]},
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t", "content": [], "is_error": false,
                  "cache_control": mark },
            ]},
        ]);
        let Value::Array(messages) = messages else {
            panic!("a list")
        };
        let (read, _) = read(None, messages).unwrap();
        assert_eq!(read[1].reasoning_content.as_deref(), Some("Hm.\nSo."));
        let arguments = read[1].tool_calls.iter();
        let arguments: Vec<&str> = arguments.map(|c| c.function.arguments.as_str()).collect();
        assert_eq!(arguments, ["{}", "{}"], "no input is an empty one");
    }

    #[test]
    fn what_a_model_cannot_see_is_refused_by_name() {
        let block = |role: &str, block: Value| json!({ "role": role, "content": [block] });
        for (message, name) in [
            (
                json!({ "role": "user", "content": "Hi", "mood": 1 }),
                "messages[0].mood",
            ),
            (
                block("user", json!({ "type": "text", "text": "a", "tone": 1 })),
                "messages[0].content[0].tone",
            ),
            (
                block(
                    "user",
                    json!({ "type": "text", "text": "a", "citations": [1] }),
                ),
                "messages[0].content[0].citations",
            ),
            (
                block(
                    "assistant",
                    json!({ "type": "tool_use", "id": "t", "name": "f", "input": "{}" }),
                ),
                "messages[0].content[0].input",
            ),
            (
                block(
                    "assistant",
                    json!({ "type": "tool_use", "id": "t", "name": "f", "server": "s" }),
                ),
                "messages[0].content[0].server",
            ),
            (
                block(
                    "assistant",
                    json!({ "type": "tool_use", "id": "t", "name": "f",
                            "caller": { "type": "code_execution_20250825" } }),
                ),
                "messages[0].content[0].caller",
            ),
            (
                block(
                    "assistant",
                    json!({ "type": "thinking", "thinking": "a", "data": "x" }),
                ),
                "messages[0].content[0].data",
            ),
            (
                block(
                    "user",
                    json!({ "type": "tool_result", "tool_use_id": "t", "status": "x" }),
                ),
                "messages[0].content[0].status",
            ),
            (
                block(
                    "user",
                    json!({ "type": "tool_result", "tool_use_id": "t", "is_error": 1 }),
                ),
                "messages[0].content[0].is_error",
            ),
            (
                json!({ "role": "user", "content": [{ "type": "image" }] }),
                "messages[0].content[0]",
            ),
            (
                json!({ "role": "user", "content": [{ "type": "tool_use" }] }),
                "messages[0].content[0]",
            ),
            (json!({ "role": "king", "content": "" }), "messages[0].role"),
            (json!({ "role": "user" }), "messages[0].content"),
            (json!([]), "messages[0].role"),
        ] {
            let error = read(None, vec![message]).unwrap_err().body();
            assert_eq!(error["error"]["param"], name);
        }
    }
}
