//! `zse run`.

use serde_json::{Value, json};

use crate::common::{zse, zse_with_input};

const GREEDY: [&str; 4] = ["--temp", "0", "-n", "24"];

fn run(args: &[&str]) -> Value {
    zse(&[&["run", "--json"], args].concat()).json()
}

#[test]
fn json_has_text_ids_reason_usage_and_timings() {
    let object = run(&[
        "-p",
        "Tell me a story about a fox.",
        "--seed",
        "1",
        "-n",
        "40",
    ]);
    let ids = object["ids"].as_array().unwrap();
    assert!(!object["text"].as_str().unwrap().is_empty());
    assert_eq!(object["usage"]["completion_tokens"], ids.len());
    let total = object["usage"]["prompt_tokens"].as_u64().unwrap() + ids.len() as u64;
    assert_eq!(object["usage"]["total_tokens"], total);
    assert!(["stop", "length"].contains(&object["finish_reason"].as_str().unwrap()));
    assert!(object["timings"]["prompt_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(object["timings"]["predicted_n"], ids.len() - 1);
    assert_eq!(object["seed"], 1);
}

#[test]
fn a_seed_repeats_a_text_and_another_changes_it() {
    let story = |seed: &str| {
        run(&[
            "-p",
            "Tell me a story about a fox.",
            "-n",
            "40",
            "--temp",
            "1",
            "--seed",
            seed,
        ])["ids"]
            .clone()
    };
    assert_eq!(story("7"), story("7"));
    assert_ne!(story("7"), story("8"));
}

#[test]
fn text_is_plain_and_the_same_as_in_json() {
    let args = [&["run", "-p", "What is ZSE?"], &GREEDY[..]].concat();
    let text = zse(&args).ok();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let object = run(&[&["-p", "What is ZSE?"], &GREEDY[..]].concat());
    assert_eq!(
        text.trim_end_matches('\n'),
        object["text"].as_str().unwrap().trim_end_matches('\n')
    );
}

#[test]
fn a_piped_prompt_is_the_prompt() {
    let args = [&["run"], &GREEDY[..]].concat();
    let piped = zse_with_input(&args, "What is ZSE?\n").ok();
    assert_eq!(
        piped,
        zse(&[&args[..], &["-p", "What is ZSE?"]].concat()).ok()
    );
}

#[test]
fn limits_and_stop_strings_end_the_text() {
    let args = ["-p", "Tell me a story.", "--temp", "0"];
    let args = [&args[..], &["-n", "30", "--ignore-eos"]].concat();
    let long = run(&args);
    assert_eq!(long["finish_reason"], "length");
    assert_eq!(long["usage"]["completion_tokens"], 30);
    let text = long["text"].as_str().unwrap();
    let word = text.split_whitespace().nth(4).unwrap();
    let stopped = run(&[&args[..], &["--stop", word]].concat());
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(
        stopped["text"].as_str().unwrap(),
        &text[..text.find(word).unwrap()]
    );
    assert_eq!(run(&["-p", "Hi", "-n", "0"])["ids"], json!([]));
}

#[test]
fn a_text_may_begin_with_a_dash() {
    for args in [
        &["-p", "-5"][..],
        &["-p", "--json"],
        &["-p", "a", "--system", "-5"],
        &["-p", "a", "--stop", "-5"],
        &["-p", "a", "--dry-sequence-breaker", "-"],
    ] {
        assert!(run(&[args, &["-n", "2"]].concat())["ids"].is_array());
    }
    let tokens = zse(&["tokenize", "--no-bos", "--json", "-p", "-5"]).json();
    assert_eq!(tokens["pieces"], json!(["-", "5"]));
}

#[test]
fn raw_continues_and_the_template_answers() {
    let prompt_tokens = |extra: &[&str]| {
        let args = [&["-p", "Once upon a time"], &GREEDY[..], extra].concat();
        run(&args)["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let raw = prompt_tokens(&["--raw"]);
    assert!(raw < prompt_tokens(&[]));
    let system = "Answer in one word, whatever you are asked, and never explain anything.";
    assert!(prompt_tokens(&[]) != prompt_tokens(&["--system", system]));
}

#[test]
fn logprobs_are_reported_best_first() {
    let object = run(&["-p", "Hi", "--temp", "0", "-n", "3", "--logprobs", "4"]);
    let tokens = object["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len(), object["ids"].as_array().unwrap().len());
    for (token, id) in tokens.iter().zip(object["ids"].as_array().unwrap()) {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &token["id"]), (4, id));
        assert_eq!(&top[0]["id"], id, "greedy takes the first");
        let values: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(values.is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn a_file_of_conversations_gives_what_each_gives_alone_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines.jsonl").display().to_string();
    let questions = [
        "What is ZSE?",
        "Hello!",
        "How do I measure the speed of a model?",
        "Tell me a story.",
    ];
    let lines = questions.map(|q| json!({ "messages": [{ "role": "user", "content": q }] }));
    std::fs::write(&file, lines.map(|l| l.to_string()).join("\n\n")).unwrap();
    let args = [&["run", "--json", "--messages", &file], &GREEDY[..]].concat();
    for parallel in ["1", "3"] {
        let out = zse(&[&args[..], &["--parallel", parallel]].concat()).ok();
        let answers: Vec<Value> = out
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(answers.len(), questions.len());
        for (question, answer) in questions.iter().zip(&answers) {
            let alone = run(&[&["-p", question], &GREEDY[..]].concat());
            assert_eq!(answer["ids"], alone["ids"], "{question}");
            assert_eq!(answer["text"], alone["text"], "{question}");
        }
    }
}

#[test]
fn a_conversation_that_fails_leaves_the_others_their_answers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines.jsonl").display().to_string();
    let long = "What is ZSE? ".repeat(40);
    let lines = ["Hello!", &long, "What is ZSE?"]
        .map(|q| json!({ "messages": [{ "role": "user", "content": q }] }).to_string());
    std::fs::write(&file, lines.join("\n\n")).unwrap();
    let args = [&["run", "--messages", &file, "--ctx", "96"], &GREEDY[..]].concat();
    let done = zse(&[&args[..], &["--json", "--seed", "5"]].concat());
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.err.contains("1 of 3 conversations"), "{}", done.err);
    let answers: Vec<Value> = done
        .out
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(answers.len(), 3);
    let error = answers[1]["error"].as_str().unwrap();
    assert!(error.contains("the context holds 96"), "{error}");
    for i in [0, 2] {
        assert!(answers[i]["text"].is_string(), "{}", answers[i]);
        assert_eq!(answers[i]["seed"], 5);
    }
    let done = zse(&args);
    assert_eq!(done.code, 1, "{}", done.err);
    let place = format!("error: {file}:3: the request needs");
    assert!(done.err.starts_with(&place), "{}", done.err);
    for i in [0, 2] {
        assert!(
            done.out
                .contains(answers[i]["text"].as_str().unwrap().trim_end())
        );
    }
}

#[test]
fn a_context_beyond_what_the_model_was_made_for_is_warned_of() {
    let done = zse(&["run", "-p", "Hi", "-n", "2", "--ctx", "2100"]);
    assert_eq!(done.code, 0);
    assert!(
        done.err.starts_with("warn: ") && done.err.contains("2100") && done.err.contains("2048"),
        "{}",
        done.err
    );
}
