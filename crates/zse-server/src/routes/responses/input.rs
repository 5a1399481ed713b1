//! The items of a request, as the messages that chat templates know.

use serde_json::{Map, Value};
use zse::{Content, Message, Role, ToolCall};

use crate::chat::MAX_MESSAGES;
use crate::error::ApiError;
use crate::json::only;

/// Adds `input`, a text or items, to a conversation.
///
/// # Errors
/// Names the item that is wrong.
pub(super) fn read(input: Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let items = match input {
        Value::String(text) => {
            messages.push(Message::new(Role::User, text));
            return Ok(());
        }
        Value::Array(items) => items,
        _ => return Err(wrong("input", "must be a text or a list of items")),
    };
    if items.is_empty() || items.len() + messages.len() > MAX_MESSAGES {
        let what =
            format!("must have at least one item, and the conversation {MAX_MESSAGES} at most");
        return Err(wrong("input", &what));
    }
    // What was thought belongs to the model's message after it.
    let mut thought = None;
    for (i, item) in items.into_iter().enumerate() {
        one(&format!("input[{i}]"), item, &mut thought, messages)?;
    }
    Ok(())
}

fn one(
    at: &str,
    mut item: Value,
    thought: &mut Option<String>,
    messages: &mut Vec<Message>,
) -> Result<(), ApiError> {
    if !item.is_object() {
        return Err(wrong(at, "must be an object"));
    }
    let text = |item: &Value, name: &str| match item[name].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(wrong(&format!("{at}.{name}"), "must be a text")),
    };
    // Answers come back with their ids and states, which mean nothing to a model.
    let known = |own: &[&str]| only(at, &item, &[&["type", "id", "status"], own].concat());
    match item["type"].as_str() {
        None | Some("message") => {
            known(&["role", "content"])?;
            let role = serde_json::from_value(item["role"].take());
            let role = match role {
                Ok(Role::Tool) | Err(_) => {
                    let what = "must be user, assistant, system or developer";
                    return Err(wrong(&format!("{at}.role"), what));
                }
                Ok(role) => role,
            };
            let content = content(&format!("{at}.content"), item["content"].take())?;
            messages.push(Message {
                content: Some(content),
                reasoning_content: thought.take().filter(|_| role == Role::Assistant),
                ..Message::new(role, "")
            });
        }
        Some("function_call") => {
            known(&["call_id", "name", "arguments"])?;
            let (id, name) = (text(&item, "call_id")?, text(&item, "name")?);
            let call = ToolCall::new(id, name, text(&item, "arguments")?);
            match messages.last_mut() {
                Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                _ => messages.push(Message {
                    content: None,
                    tool_calls: vec![call],
                    reasoning_content: thought.take(),
                    ..Message::new(Role::Assistant, "")
                }),
            }
        }
        Some("function_call_output") => {
            known(&["call_id", "output"])?;
            let id = text(&item, "call_id")?;
            let output = content(&format!("{at}.output"), item["output"].take())?;
            messages.push(Message {
                content: Some(output),
                tool_call_id: Some(id),
                ..Message::new(Role::Tool, "")
            });
        }
        Some("reasoning") => {
            known(&["content", "summary"])?;
            let parts = ["content", "summary"].map(|name| item[name].as_array().cloned());
            let parts = parts.into_iter().flatten().find(|parts| !parts.is_empty());
            let texts = parts.unwrap_or_default();
            let texts = texts.iter().filter_map(|part| part["text"].as_str());
            *thought = Some(texts.collect::<Vec<_>>().join("\n"));
        }
        Some(kind) => {
            let why = format!("items of type '{kind}' are not known here");
            return Err(ApiError::unsupported(at, &why));
        }
    }
    Ok(())
}

/// A text, or parts of text.
fn content(at: &str, content: Value) -> Result<Content, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(Content::Text(text)),
        Value::Array(parts) => parts,
        _ => return Err(wrong(at, "must be a text or a list of parts")),
    };
    let part = |(i, part): (usize, Value)| {
        let at = format!("{at}[{i}]");
        match (part["type"].as_str(), &part["text"]) {
            (Some("input_text" | "output_text" | "text"), text @ Value::String(_)) => {
                only(&at, &part, &["type", "text", "annotations", "logprobs"])?;
                Ok(Map::from_iter([
                    ("type".to_owned(), "text".into()),
                    ("text".to_owned(), text.clone()),
                ]))
            }
            (Some("input_image" | "input_file" | "input_audio"), _) => {
                Err(ApiError::unsupported(at, "models here read text"))
            }
            _ => Err(wrong(
                &at,
                "must be {\"type\": \"input_text\", \"text\": ...}",
            )),
        }
    };
    let parts = parts.into_iter().enumerate().map(part);
    Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
}

fn wrong(at: &str, what: &str) -> ApiError {
    ApiError::param(at, format!("{at}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_become_messages() {
        let mut messages = Vec::new();
        let items = json!([
            { "role": "developer", "content": "Be brief." },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "2 + 2?" }] },
            { "type": "reasoning", "id": "r", "summary": [], "content": [{ "type": "reasoning_text", "text": "Hm." }] },
            { "type": "function_call", "call_id": "a", "name": "f", "arguments": "{}" },
            { "type": "function_call", "call_id": "b", "name": "g", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "a", "output": "4" },
            { "role": "assistant", "content": [{ "type": "output_text", "text": "4", "annotations": [] }] },
        ]);
        read(items, &mut messages).unwrap();
        let roles: Vec<Role> = messages.iter().map(|m| m.role).collect();
        use Role::{Assistant, Developer, Tool, User};
        assert_eq!(roles, [Developer, User, Assistant, Tool, Assistant]);
        assert_eq!(messages[2].tool_calls.len(), 2);
        assert_eq!(messages[2].reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(messages[4].text(), "4");
    }

    #[test]
    fn what_a_model_cannot_see_is_refused_by_name() {
        for (input, name) in [
            (json!(1), "input"),
            (json!([]), "input"),
            (
                json!([{ "role": "user", "content": [{ "type": "input_image" }] }]),
                "input[0].content[0]",
            ),
            (json!(["hi"]), "input[0]"),
            (json!([1]), "input[0]"),
            (json!([[]]), "input[0]"),
            (json!([null]), "input[0]"),
            (json!([{ "role": "king", "content": "" }]), "input[0].role"),
            (json!([{ "type": "item_reference", "id": "x" }]), "input[0]"),
            (
                json!([{ "type": "function_call", "name": "f" }]),
                "input[0].call_id",
            ),
            (
                json!([{ "role": "user", "content": "hi", "mood": "bad" }]),
                "input[0].mood",
            ),
            (
                json!([{ "type": "reasoning", "summary": [], "encrypted_content": "x" }]),
                "input[0].encrypted_content",
            ),
            (
                json!([{ "role": "user", "content": [{ "type": "input_text", "text": "", "tone": 1 }] }]),
                "input[0].content[0].tone",
            ),
        ] {
            let error = read(input, &mut Vec::new()).unwrap_err().body();
            assert_eq!(error["error"]["param"], name);
        }
    }
}
