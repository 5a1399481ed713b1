//! `zse chat`, piped.

use serde_json::Value;

use crate::common::{calculator, zse, zse_with_input};

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
    let asked = chat("My name is Ada.\nWhat is my name?\n/stats\n/clear\nWhat is my name?\n");
    let (before, after) = asked.split_once("cleared\n").unwrap();
    let mut answers = before.lines();
    assert!(answers.next().unwrap().contains("Ada"), "{asked}");
    assert!(answers.next().unwrap().contains("Ada"), "{asked}");
    assert!(before.contains("all 2 answers"), "{asked}");
    assert!(!after.contains("Ada"), "{asked}");
    assert_eq!(after, chat("What is my name?\n"));
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
    assert!(out.contains("ignore-eos false, stop []"), "{out}");
    assert!(out.contains("/save FILE"), "{out}");
    for wrong in [
        "/set warmth 3",
        "/set temp warm",
        "/set top-p 2",
        "/sing",
        "/save",
        "/set temp",
        "/set ignore-eos maybe",
        "/save /no/such/folder/file",
        "/load /no/such/file",
    ] {
        let done = zse_with_input(&["chat"], &format!("{wrong}\n"));
        assert_ne!(done.code, 0, "{wrong}");
        assert!(done.err.starts_with("error: "), "{wrong}: {}", done.err);
    }
}

#[test]
fn a_setting_changes_no_other() {
    let set = |input: &str| {
        let args = ["chat", "--ignore-eos", "--stop", "one", "--stop", "-two"];
        zse_with_input(&args, &format!("{input}/set\n")).ok()
    };
    let out = set("/set temp 0.5\n");
    assert!(
        out.contains(r#"ignore-eos true, stop ["one", "-two"]"#),
        "{out}"
    );
    let out = set("/set ignore-eos false\n/set stop three\n");
    assert!(out.contains(r#"ignore-eos false, stop ["three"]"#), "{out}");
    let out = set("/set ignore_eos=false\n/set ignore-eos\n/set stop\n");
    assert!(out.contains("ignore-eos true, stop []"), "{out}");
}

#[test]
fn tools_are_called_and_told_what_they_gave() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (tools, file) = (path("tools.json"), path("talk.json"));
    let list = calculator();
    std::fs::write(&tools, list.to_string()).unwrap();
    let args = ["chat", "--temp", "0", "--tools", &tools];
    let out = zse_with_input(&args, &format!("What is 37 * 12?\n444\n/save {file}\n")).ok();
    assert!(out.contains("calls calculator("), "{out}");
    assert!(out.contains("saved 4 messages"), "{out}");
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(saved["tools"], list);
    let messages = saved["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages
        .iter()
        .map(|m| m["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
}

#[test]
fn a_call_of_a_tool_that_was_not_given_is_text() {
    let system = format!(
        "You are ZSE, a small and helpful assistant.\n\n# Tools\n\n\
         Call a function when the request needs one.\n<tools>\n{}\n</tools>\n\
         A call looks like this:\n<tool_call>\n\
         {{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>",
        calculator()[0]
    );
    let args = ["chat", "--temp", "0", "--system", &system];
    let out = zse_with_input(&args, "What is 37 * 12?\n/stats\n").ok();
    assert!(out.starts_with("<tool_call>"), "{out}");
    assert!(!out.contains("calls calculator("), "{out}");
    assert!(out.contains("all 1 answers"), "{out}");
}

#[test]
fn what_no_longer_fits_the_context_is_not_sent_but_saved() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json").display().to_string();
    let input = format!(
        "{}/save {file}\n",
        "Tell me a story about a fox.\n".repeat(4)
    );
    let args = ["chat", "--temp", "0", "-n", "24", "--ctx", "128"];
    let done = zse_with_input(&args, &input);
    assert!(
        done.err.contains("oldest messages are left out"),
        "{}",
        done.err
    );
    assert!(done.out.contains("saved 8 messages"), "{}", done.out);
}

#[test]
fn what_is_given_counts_more_than_what_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json").display().to_string();
    chat(&format!("/system Be brief.\nHello!\n/save {file}\n"));
    let args = ["chat", "--load", &file, "--system", "-1 is a number."];
    let out = zse_with_input(&args, "/system\n").ok();
    assert_eq!(out, "-1 is a number.\n");
    let out = zse_with_input(&args[..3], "/system\n").ok();
    assert_eq!(out, "Be brief.\n");
}

#[test]
fn a_saved_conversation_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json").display().to_string();
    let whole = chat(&format!(
        "/system Be brief.\nMy name is Ada.\n/save {file}\nWhat is my name?\n"
    ));
    let last = whole
        .split_once(&format!("saved 2 messages to {file}\n"))
        .unwrap()
        .1;
    assert!(last.contains("Ada"), "{last}");
    let loaded = chat(&format!("/load {file}\n/system\nWhat is my name?\n"));
    let expected = format!("loaded 2 messages from {file}\nBe brief.\n{last}");
    assert_eq!(loaded, expected);
    let args = [&["chat", "--load", &file], &GREEDY[..]].concat();
    assert_eq!(zse_with_input(&args, "What is my name?\n").ok(), last);
}
