//! Renders any text as a chat template: it comes to an end, and what it panics is caught.
#![no_main]

use std::panic::{self, PanicHookInfo};
use std::process::abort;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use zse_text::{ChatInput, ChatTemplate, Message, Role, ToolCall};

/// A chat with every kind of message, and a tool.
static CHAT: LazyLock<(Vec<Message>, Vec<serde_json::Value>)> = LazyLock::new(|| {
    let mut call = Message::new(Role::Assistant, "");
    call.tool_calls = vec![ToolCall::new(
        "c1",
        "add",
        r#"{"a": 1, "b": [2.5, null, "x"]}"#,
    )];
    let mut result = Message::new(Role::Tool, "3.5");
    result.tool_call_id = Some("c1".to_owned());
    let messages = vec![
        Message::new(Role::System, "Be brief.\n"),
        Message::new(Role::User, " Add 1 and 2.5, na\u{ef}ve one! "),
        call,
        result,
    ];
    let tool = serde_json::json!({
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}},
    });
    (messages, vec![tool])
});

/// The engine may panic, which rendering catches; what is ours may not.
fn ours_may_not_panic(info: &PanicHookInfo<'_>) {
    if info
        .location()
        .is_none_or(|at| !at.file().contains("minijinja"))
    {
        eprintln!("{info}");
        abort();
    }
}

fuzz_target!(
    init: panic::set_hook(Box::new(ours_may_not_panic)),
    |source: &str| {
        let Ok(template) = ChatTemplate::from_source(source) else {
            return;
        };
        let (messages, tools) = &*CHAT;
        let input = ChatInput {
            messages,
            tools,
            add_generation_prompt: true,
            now: Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000)),
            ..ChatInput::default()
        };
        let once = template.render(&input).map_err(|error| error.to_string());
        let again = template.render(&input).map_err(|error| error.to_string());
        assert_eq!(once, again);
        // 4 MiB, and 16 bytes for each of the source and the chat.
        assert!(once.is_err() || once.is_ok_and(|text| text.len() < 5 << 20));
    }
);
