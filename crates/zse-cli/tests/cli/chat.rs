//! `zse chat`, piped.

use crate::common::{zse, zse_with_input};

const GREEDY: [&str; 4] = ["--temp", "0", "-n", "24"];

fn chat(input: &str) -> String {
    zse_with_input(&[&["chat"], &GREEDY[..]].concat(), input).ok()
}

#[test]
fn a_piped_line_is_answered_plainly() {
    let answer = chat("What is ZSE?\n");
    assert!(
        !answer.contains('\u{1b}') && !answer.contains("> "),
        "{answer:?}"
    );
    let alone = zse(&[&["run", "-p", "What is ZSE?"], &GREEDY[..]].concat()).ok();
    assert_eq!(answer.trim_end(), alone.trim_end());
}

#[test]
fn no_arguments_are_a_chat() {
    assert!(!zse_with_input(&[], "Hello!\n").ok().trim().is_empty());
    assert_eq!(zse_with_input(&[], "/exit\n").ok(), "");
}

#[test]
fn earlier_messages_are_remembered_until_cleared() {
    let again = chat("Hello!\n/clear\nHello!\n");
    let (first, second) = again.split_once("cleared\n").unwrap();
    assert_eq!(first, second);
    let stats = chat("Hello!\nWhat is ZSE?\n/stats\n");
    assert!(stats.contains("all 2 answers"), "{stats}");
}

#[test]
fn a_message_may_have_several_lines() {
    let one = chat("\"\"\"\nHello!\nWhat is ZSE?\n\"\"\"\n");
    assert_eq!(one, chat("Hello!\\\nWhat is ZSE?\n"));
    assert_eq!(chat("\"\"\"Hello!\"\"\"\n"), chat("Hello!\n"));
}

#[test]
fn settings_change_and_mistakes_are_told() {
    let out = chat("/set temp 0.5\n/set top_k 7\n/set\n/help\n");
    assert!(out.contains("temp 0.5, top-k 7, top-p 0.95"), "{out}");
    assert!(out.contains("/save FILE"), "{out}");
    for wrong in [
        "/set warmth 3",
        "/set temp warm",
        "/set top-p 2",
        "/sing",
        "/save",
    ] {
        let done = zse_with_input(&["chat"], &format!("{wrong}\n"));
        assert_ne!(done.code, 0, "{wrong}");
        assert!(done.err.starts_with("error: "), "{wrong}: {}", done.err);
    }
}

#[test]
fn a_saved_conversation_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json").display().to_string();
    let whole = chat(&format!(
        "/system Be brief.\nHello!\n/save {file}\nWhat is ZSE?\n"
    ));
    let last = whole
        .split_once(&format!("saved 2 messages to {file}\n"))
        .unwrap()
        .1;
    let loaded = chat(&format!("/load {file}\n/system\nWhat is ZSE?\n"));
    let expected = format!("loaded 2 messages from {file}\nBe brief.\n{last}");
    assert_eq!(loaded, expected);
    let args = [&["chat", "--load", &file], &GREEDY[..]].concat();
    assert_eq!(zse_with_input(&args, "What is ZSE?\n").ok(), last);
}
