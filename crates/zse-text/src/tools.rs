//! Tool calls in a model's text, in the form that Hermes, Qwen and the built-in model write:
//!
//! ```text
//! <tool_call>
//! {"name": "calculator", "arguments": {"expression": "2 + 2"}}
//! </tool_call>
//! ```

use serde_json::{Map, Value};

use crate::chat::{FunctionCall, ToolCall};

/// What a tool call begins with in a model's text: who shows the text while it is written may hold
/// it back from here on, and ask [`parse_tool_calls`] once all of it is there.
pub const TOOL_CALL_OPEN: &str = "<tool_call>";
/// What it ends with.
pub const TOOL_CALL_CLOSE: &str = "</tool_call>";

/// Takes the tool calls out of a model's complete answer. Returns the text around them, without the
/// spaces beside them, and the calls in order, named `call_0`, `call_1`, ...
///
/// What does not parse as a call stays in the text, tags and all; a last call whose closing tag is
/// missing counts if it is complete otherwise.
pub fn parse_tool_calls(text: &str) -> (String, Vec<ToolCall>) {
    let mut content = String::new();
    let mut calls = Vec::new();
    // Up to where the text is dealt with, and where the next closing tag was found.
    let (mut done, mut close) = (0, 0);
    let mut from = 0;
    while let Some(open) = text[from..].find(TOOL_CALL_OPEN).map(|at| from + at) {
        let body = open + TOOL_CALL_OPEN.len();
        if close < body {
            close = text[body..]
                .find(TOOL_CALL_CLOSE)
                .map_or(text.len(), |at| body + at);
        }
        from = body;
        if let Some(FunctionCall { name, arguments }) = call(&text[body..close]) {
            calls.push(ToolCall::new(
                format!("call_{}", calls.len()),
                name,
                arguments,
            ));
            append(&mut content, &text[done..open]);
            from = (close + TOOL_CALL_CLOSE.len()).min(text.len());
            done = from;
        }
    }
    if calls.is_empty() {
        return (text.to_owned(), calls);
    }
    append(&mut content, &text[done..]);
    (content, calls)
}

/// The call that `body` spells as a JSON object.
pub(crate) fn call(body: &str) -> Option<FunctionCall> {
    // By way of a map: serde would take an array for the fields in order.
    let object: Map<String, Value> = serde_json::from_str(body.trim_start()).ok()?;
    serde_json::from_value(object.into()).ok()
}

/// Appends text that stood between calls.
fn append(content: &mut String, text: &str) {
    let text = text.trim();
    if !text.is_empty() {
        if !content.is_empty() {
            content.push('\n');
        }
        content.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str) -> (String, Vec<(String, String)>) {
        let (content, calls) = parse_tool_calls(text);
        (
            content,
            calls
                .into_iter()
                .map(|c| (c.function.name, c.function.arguments))
                .collect(),
        )
    }

    #[test]
    fn calls_are_taken_out_of_the_text() {
        let text = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": [2.0]}}\n</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>";
        let (content, found) = calls(text);
        assert_eq!(content, "Let me see.");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(found, [pair("f", r#"{"b":1,"a":[2.0]}"#), pair("g", "{}")]);
        assert_eq!(parse_tool_calls(text).1[1].id, "call_1");
    }

    #[test]
    fn a_missing_closing_tag_is_forgiven() {
        let (content, found) = calls("<tool_call>\n{\"name\": \"f\", \"arguments\": \"{}\"}\n");
        assert_eq!((&*content, found.len()), ("", 1));
    }

    #[test]
    fn what_is_no_call_stays_as_it_was() {
        for text in [
            "plain",
            " <tool_call>{\"nam\": 1}</tool_call> ",
            "<tool_call>[\"f\"]</tool_call>",
            "<tool_call>[\"f\", {\"a\": 1}]</tool_call>",
            "a <tool_call> b",
            "</tool_call>",
        ] {
            assert_eq!(calls(text), (text.to_owned(), vec![]));
        }
        let (content, found) = calls("<tool_call> oops <tool_call>{\"name\": \"f\"}</tool_call>");
        assert_eq!((&*content, found.len()), ("<tool_call> oops", 1));
    }
}
