//! What clients send in conversations reaches the model by the template of every family.

use std::path::Path;

use serde_json::{Map, Value};
use zse_text::{CHATML, ChatInput, ChatTemplate, Message, PLAIN, Role, TextError};

/// The templates that know system messages.
const WITH_SYSTEM: [&str; 9] = [
    "llama3", "qwen2_5", "qwen3", "mistral", "phi3", "chatml", "builtin", "CHATML", "PLAIN",
];

fn source(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = match name {
        "CHATML" => return CHATML.to_owned(),
        "PLAIN" => return PLAIN.to_owned(),
        "builtin" => root.join("../../models/builtin/chat_template.jinja"),
        name => root.join(format!("tests/templates/{name}.jinja")),
    };
    std::fs::read_to_string(path).unwrap()
}

fn render(source: &str, messages: &[Message], tools: &[Value]) -> Result<String, TextError> {
    let mut extra = Map::from_iter([("adds_bos".to_owned(), true.into())]);
    extra.insert("bos_token".to_owned(), "<s>".into());
    extra.insert("eos_token".to_owned(), "</s>".into());
    ChatTemplate::from_source(source)?.render(&ChatInput {
        messages,
        tools,
        add_generation_prompt: true,
        extra,
        ..ChatInput::default()
    })
}

#[test]
fn developers_are_heard_as_the_system_is() {
    let chat = |role| {
        [
            Message::new(role, "Answer in Danish."),
            Message::new(Role::User, "Hi"),
        ]
    };
    for name in WITH_SYSTEM {
        let source = source(name);
        let text = render(&source, &chat(Role::Developer), &[]).unwrap();
        assert!(text.contains("Answer in Danish."), "{name}: {text}");
        assert!(!text.contains("You are"), "{name}: {text}"); // no system prompt of the template's own
        assert_eq!(text, render(&source, &chat(Role::System), &[]).unwrap());
    }
    // A template without system messages says so.
    let refused = render(&source("gemma2"), &chat(Role::Developer), &[]);
    assert!(
        matches!(&refused, Err(TextError::Refused { message }) if message == "System role not supported"),
        "{refused:?}"
    );
}

#[test]
fn developers_are_heard_beside_the_system() {
    let chat = [
        Message::new(Role::System, "Be brief."),
        Message::new(Role::Developer, "Answer in Danish."),
        Message::new(Role::User, "Hi"),
    ];
    // Mistral's template takes one message of the system.
    for name in WITH_SYSTEM.iter().filter(|&&name| name != "mistral") {
        let text = render(&source(name), &chat, &[]).unwrap();
        assert!(text.contains("Be brief."), "{name}: {text}");
        assert!(text.contains("Answer in Danish."), "{name}: {text}");
    }
}

#[test]
fn templates_that_know_developers_get_them() {
    let chat = [Message::new(Role::Developer, "Be brief.")];
    let role = "{{ messages[0].role }}";
    for (known, expected) in [
        ("{% if messages[0].role == 'developer' %}{% endif %}", true),
        ("{% set roles = ['system', \"developer\"] %}", true),
        ("{# developer #}", false),
        ("{{ '<|developer|>' }}", false),
        ("developer", false),
        ("", false),
    ] {
        let text = render(&format!("{known}{role}"), &chat, &[]).unwrap();
        let expected = if expected { "developer" } else { "system" };
        assert!(text.ends_with(expected), "{known}: {text}");
    }
}
