//! What clients send in conversations reaches the model by the template of every family.

use std::path::Path;

use serde_json::{Map, Value, json};
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

/// How clients name two calls and their results: with ids, results with the function's name, or neither.
const NAMED: [(&str, [Option<&str>; 2], bool); 6] = [
    ("sound", [Some("abcdefghi"), Some("ABCDEFGH9")], false),
    (
        "the server's",
        [Some("call_0123456789abcdef"), Some("call_fedcba9876543210")],
        false,
    ),
    (
        "the chat's, twice the same",
        [Some("call_0"), Some("call_0")],
        true,
    ),
    (
        "of nine, not all letters",
        [Some("call_0001"), Some("call_0002")],
        false,
    ),
    ("Ollama's", [None, None], true),
    ("none", [None, None], false),
];

/// Two questions that each take a call.
fn two_turns(ids: [Option<&str>; 2], with_names: bool) -> Vec<Message> {
    let turn = |at: usize| {
        let name = ["get_weather", "get_time"][at];
        let question = ["Weather in Malmö?", "Time there?"][at];
        let answer = ["12 degrees", "noon"][at];
        let mut call = json!({ "function": { "name": name, "arguments": { "place": "Malmö" } } });
        let mut result = json!({ "role": "tool", "content": answer });
        if let Some(id) = ids[at] {
            call["id"] = id.into();
            result["tool_call_id"] = id.into();
        }
        if with_names {
            result["name"] = name.into();
        }
        [
            json!({ "role": "user", "content": question }),
            json!({ "role": "assistant", "content": "", "tool_calls": [call] }),
            result,
        ]
    };
    let answer = json!({ "role": "assistant", "content": "It has 12 degrees." });
    let [first, second] = [turn(0), turn(1)];
    let messages = first.into_iter().chain([answer]).chain(second);
    messages
        .map(|message| serde_json::from_value(message).unwrap())
        .collect()
}

fn tools() -> [Value; 2] {
    ["get_weather", "get_time"].map(|name| {
        let parameters =
            json!({ "type": "object", "properties": { "place": { "type": "string" } } });
        json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
    })
}

#[test]
fn second_turns_of_calls_render_in_every_family_that_has_tools() {
    for name in ["llama3", "qwen2_5", "qwen3", "mistral", "builtin"] {
        let source = source(name);
        for (kind, ids, with_names) in NAMED {
            let messages = two_turns(ids, with_names);
            // The first turn, the second, and what is asked then.
            for until in [3, 4, 5, 7] {
                let text = render(&source, &messages[..until], &tools())
                    .unwrap_or_else(|error| panic!("{name}, ids {kind}: {error}"));
                let said = [
                    "\"get_weather\"",
                    "12 degrees",
                    "Time there?",
                    "\"get_time\"",
                    "noon",
                ];
                let said = &said[..if until < 5 { 2 } else { until - 2 }];
                let mut rest = &text[text.find("Weather in Malmö?").unwrap()..];
                for what in said {
                    let at = rest.find(what);
                    rest = &rest[at.unwrap_or_else(|| panic!("{name}, ids {kind}: {text}"))..];
                }
            }
        }
    }
}

#[test]
fn ids_change_nothing_where_templates_do_not_write_them() {
    for name in [
        "llama3", "qwen2_5", "qwen3", "gemma2", "phi3", "chatml", "builtin", "CHATML", "PLAIN",
    ] {
        let source = source(name);
        let texts = NAMED.map(|(_, ids, with_names)| {
            let text = render(&source, &two_turns(ids, with_names), &[]);
            text.map_err(|error| error.to_string())
        });
        assert!(
            texts.iter().all(|text| *text == texts[0]),
            "{name}: {texts:?}"
        );
    }
}

/// What stands behind each `mark` in `text`, as far as it is letters and digits.
fn behind<'t>(text: &'t str, mark: &str) -> Vec<&'t str> {
    let end = |rest: &str| {
        rest.find(|c: char| !c.is_alphanumeric())
            .unwrap_or(rest.len())
    };
    text.split(mark)
        .skip(1)
        .map(|rest| &rest[..end(rest)])
        .collect()
}

/// How the newer of Mistral's templates write calls.
const MISTRAL_ARGS: &str = "\
{% for message in messages %}
{%- for call in message.tool_calls or [] %}
{%- if call.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}
{{- '[TOOL_CALLS]' + call.function.name + '[CALL_ID]' + call.id + '[ARGS]' }}
{%- endfor %}
{%- if message.role == 'tool' %}{{ '[TOOL_RESULTS]' + message.tool_call_id + '[TOOL_CONTENT]' }}{% endif %}
{%- endfor %}";

#[test]
fn mistrals_calls_and_results_have_ids_of_nine() {
    let mistral = (source("mistral"), "\"id\": \"", "\"call_id\": \"");
    let args = (MISTRAL_ARGS.to_owned(), "[CALL_ID]", "[TOOL_RESULTS]");
    for (source, call, result) in [mistral, args] {
        for (kind, given, with_names) in NAMED {
            let messages = two_turns(given, with_names);
            let text = render(&source, &messages, &[]).unwrap();
            let ids = behind(&text, call);
            assert_eq!(ids, behind(&text, result), "{kind}: {text}");
            assert_eq!(ids.len(), 2, "{kind}: {text}");
            assert!(ids.iter().all(|id| id.len() == 9), "{kind}: {text}");
            assert_eq!(
                ids[0] == ids[1],
                kind.ends_with("the same"),
                "{kind}: {text}"
            );
            if kind == "sound" {
                assert_eq!(ids, ["abcdefghi", "ABCDEFGH9"]);
            }
            // The prefix cache finds what earlier turns were made of.
            for until in [3, 4] {
                let before = render(&source, &messages[..until], &[]).unwrap();
                assert!(text.starts_with(&before), "{kind}: {before}\n{text}");
            }
        }
    }
}

#[test]
fn other_families_get_ids_as_they_are() {
    let source = "<tool_call>{% for m in messages %}{{ m.tool_calls[0].id if m.tool_calls }}{{ m.tool_call_id }} {% endfor %}";
    let text = render(
        source,
        &two_turns([Some("call_0"), Some("call_1")], false),
        &[],
    );
    assert_eq!(text.unwrap(), "<tool_call> call_0 call_0   call_1 call_1 ");
}
