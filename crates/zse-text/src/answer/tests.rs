//! Every family's form, and that pieces give what the whole gives.

use proptest::prelude::*;

use super::*;

/// What was found: text, thoughts, and calls with their arguments.
type Found = (String, String, Vec<(String, String)>);

fn read(family: Family, pieces: &[&str]) -> Found {
    let tools = [serde_json::json!({ "type": "function", "function": { "name": "known" } })];
    let reader = AnswerFormat::of_family(family).reader(true, false);
    read_by(reader.with_tools(&tools), pieces)
}

fn read_by(mut reader: AnswerReader, pieces: &[&str]) -> Found {
    let mut found = Found::default();
    let all = pieces.iter().flat_map(|piece| reader.push(piece));
    let mut all: Vec<AnswerPiece> = all.collect();
    all.extend(reader.finish());
    for piece in all {
        match piece {
            AnswerPiece::Text(text) => found.0 += &text,
            AnswerPiece::Thought(text) => found.1 += &text,
            AnswerPiece::Call(name) => found.2.push((name, String::new())),
            AnswerPiece::Arguments(text) => found.2.last_mut().expect("a call").1 += &text,
        }
    }
    assert_eq!(reader.calls(), found.2.len());
    found
}

#[test]
fn whether_it_is_in_a_thought_is_known_after_each_piece() {
    let mut reader = AnswerFormat::of_family(Family::Hermes).reader(false, false);
    let states = ["", "<thi", "nk>", "Hm", ".</th", "ink>", "Yes"].map(|piece| {
        reader.push(piece);
        reader.is_thinking()
    });
    assert_eq!(states, [false, false, true, true, true, false, false]);
}

/// A family, what a model of it wrote, and the text, the thought and the calls in that.
type Sample = (Family, &'static str, &'static str, &'static str, Calls);
type Calls = &'static [(&'static str, &'static str)];

/// Answers of each family.
fn answers() -> Vec<Sample> {
    use Family::{
        DeepSeek, DeepSeek31, Gemma, Harmony, Hermes, Llama, LlamaPython, Mistral, MistralArgs,
        QwenCoder,
    };
    vec![
        (Hermes, "plain text, 1 < 2 ", "plain text, 1 < 2 ", "", &[]),
        (
            Hermes,
            " leading and trailing \n",
            " leading and trailing \n",
            "",
            &[],
        ),
        (
            Hermes,
            "<think>\nHm. <b>\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"{\"}}\n</tool_call>\n",
            "Let me see.",
            "Hm. <b>",
            &[("f", "{\"a\": \"}\\\"{\"}")],
        ),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\"}</tool_call>\n<tool_call>{\"arguments\": {\"a\":1}, \"name\": \"g\"}</tool_call> c",
            "c",
            "",
            &[("f", "{}"), ("g", "{\"a\":1}")],
        ),
        (
            Hermes,
            "a <tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call> b <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
            "a\nb",
            "",
            &[("f", "{}"), ("g", "{}")],
        ),
        (
            Hermes,
            "a <tool_call> no call </tool_call> b",
            "a <tool_call> no call </tool_call> b",
            "",
            &[],
        ),
        (
            Hermes,
            "<tool_call> oops <tool_call>{\"name\": \"f\"}",
            "<tool_call> oops",
            "",
            &[("f", "{}")],
        ),
        (Hermes, "größer <tool_c", "größer <tool_c", "", &[]),
        (Hermes, "<think>never ends ", "", "never ends", &[]),
        (
            Hermes,
            " \n<think>a</think> <think>b</think> c <think> d",
            "c <think> d",
            "ab",
            &[],
        ),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}\nIt is 4.",
            "It is 4.",
            "",
            &[("f", "{}")],
        ),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}} a\n<tool_call>{\"name\": \"g\", \"arguments\": {}}",
            "a",
            "",
            &[("f", "{}"), ("g", "{}")],
        ),
        (
            Hermes,
            "Write <think> and </think>.",
            "Write <think> and </think>.",
            "",
            &[],
        ),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\"}</tool_call> <think> b",
            "<think> b",
            "",
            &[("f", "{}")],
        ),
        (
            Llama,
            "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": [1, {}]}}",
            "",
            "",
            &[("f", "{\"a\": [1, {}]}")],
        ),
        (
            Llama,
            " <|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}",
            "",
            "",
            &[("f", "{}"), ("g", "{}")],
        ),
        (
            Llama,
            "{\"name\": \"f\"} is JSON",
            "{\"name\": \"f\"} is JSON",
            "",
            &[],
        ),
        (
            Llama,
            "see {\"name\": \"f\", \"parameters\": {}}",
            "see {\"name\": \"f\", \"parameters\": {}}",
            "",
            &[],
        ),
        (
            LlamaPython,
            "[f(a=\"x, )\\\"\", b=[1, {'c': None}],), g()]",
            "",
            "",
            &[
                ("f", "{\"a\": \"x, )\\\"\", \"b\": [1,{\"c\":null}]}"),
                ("g", "{}"),
            ],
        ),
        (
            LlamaPython,
            "<|python_start|>[f(a=True)]<|python_end|> b",
            "b",
            "",
            &[("f", "{\"a\": true}")],
        ),
        (
            LlamaPython,
            "[f(a=1), {\"name\": \"g\", \"parameters\": {}}]",
            "",
            "",
            &[("f", "{\"a\": 1}"), ("g", "{}")],
        ),
        (LlamaPython, "[see(1)] or [1]", "[see(1)] or [1]", "", &[]),
        (
            LlamaPython,
            "<|python_tag|>print(1)",
            "<|python_tag|>print(1)",
            "",
            &[],
        ),
        (
            LlamaPython,
            "[f(a=1, b=x)] c",
            "b=x)] c",
            "",
            &[("f", "{\"a\": 1}")],
        ),
        (LlamaPython, "[f(a=1, b=\"x", "", "", &[("f", "{\"a\": 1")]),
        (
            LlamaPython,
            "[f(größe=1, $filter='a', user id=\"\"\"b \"c\", )\"\"\", größe=2)]",
            "",
            "",
            &[(
                "f",
                "{\"größe\": 1, \"$filter\": \"a\", \"user id\": \"b \\\"c\\\", )\"}",
            )],
        ),
        (
            LlamaPython,
            "<|python_tag|>df.plot(kind='bar')",
            "<|python_tag|>df.plot(kind='bar')",
            "",
            &[],
        ),
        (
            LlamaPython,
            "<|python_tag|>known(a=1)",
            "",
            "",
            &[("known", "{\"a\": 1}")],
        ),
        (
            LlamaPython,
            "[f(x, y=1)] or [f(g(x)=1)]",
            "[f(x, y=1)] or [f(g(x)=1)]",
            "",
            &[],
        ),
        (
            QwenCoder,
            "<think>Hm.</think>So.\n<tool_call>\n<function=f>\n<parameter=a>\n\nif 1 < 2:\n\n</parameter>\n<parameter=n>\n12\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>",
            "So.",
            "Hm.",
            &[
                ("f", "{\"a\": \"\\nif 1 < 2:\\n\", \"n\": 12}"),
                ("g", "{}"),
            ],
        ),
        (
            QwenCoder,
            "<function=f><parameter=a>x</parameter></tool_call> b <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
            "b",
            "",
            &[("f", "{\"a\": \"x\"}"), ("g", "{}")],
        ),
        (
            QwenCoder,
            "<function=f><parameter=a>x</parameter><parameter=a>y</parameter></function>",
            "",
            "",
            &[("f", "{\"a\": \"x\"}")],
        ),
        (
            QwenCoder,
            "<function=f><parameter=a>\n[\"</parameter>\\\"\", 1]\n</parameter><parameter=b>[a \" b\n</parameter></function>",
            "",
            "",
            &[(
                "f",
                "{\"a\": [\"</parameter>\\\"\", 1], \"b\": \"[a \\\" b\"}",
            )],
        ),
        (
            QwenCoder,
            "<tool_call>\n<function=f>\n<parameter=a>\nnever ends",
            "",
            "",
            &[("f", "")],
        ),
        (
            QwenCoder,
            "<tool_call>\n<function=f g>\n",
            "<tool_call>\n<function=f g>\n",
            "",
            &[],
        ),
        (
            Mistral,
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"123456789\"}, {\"name\": \"g\", \"arguments\": {}}]",
            "",
            "",
            &[("f", "{\"a\": 1}"), ("g", "{}")],
        ),
        (
            MistralArgs,
            "[THINK]Hm.[/THINK]So:[TOOL_CALLS]f[CALL_ID]abc[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}",
            "So:",
            "Hm.",
            &[("f", "{\"a\": 1}"), ("g", "{}")],
        ),
        (
            DeepSeek,
            "<think>\nHm.</think>I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "I look.",
            "Hm.",
            &[("f", "{\"a\": 1}"), ("g", "{}")],
        ),
        (
            DeepSeek31,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": \"ü\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "",
            "",
            &[("f", "{\"a\": \"ü\"}")],
        ),
        (
            Gemma,
            "<|channel>thought\nHm.\n<channel|>Well.<|tool_call>call:f{a:<|\"|>x, {y}<|\"|>,n:[1,-2.5],b:true,o:{k:null}}<tool_call|>",
            "Well.",
            "Hm.",
            &[(
                "f",
                "{\"a\":\"x, {y}\",\"n\":[1,-2.5],\"b\":true,\"o\":{\"k\":null}}",
            )],
        ),
        (
            Gemma,
            "<start_function_call>call:f{a:<escape>x<escape>}<end_function_call>",
            "",
            "",
            &[("f", "{\"a\":\"x\"}")],
        ),
        (
            Harmony,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>",
            "",
            "Hm.",
            &[("f", "{\"a\": 1}")],
        ),
        (
            Harmony,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It is 4 < 5.",
            "It is 4 < 5.",
            "Hm.",
            &[],
        ),
        // Cut off within a header.
        (Harmony, "<|channel|>analysis", "", "", &[]),
        (
            Harmony,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final",
            "",
            "Hm.",
            &[],
        ),
        (
            Harmony,
            "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}",
            "",
            "",
            &[("f", "{}")],
        ),
    ]
}

#[test]
fn each_familys_form_is_read() {
    for (family, answer, text, thought, calls) in answers() {
        let calls: Vec<_> = calls
            .iter()
            .map(|(n, a)| ((*n).to_owned(), (*a).to_owned()))
            .collect();
        let found = read(family, &[answer]);
        assert_eq!(
            found,
            (text.to_owned(), thought.to_owned(), calls),
            "{family:?}: {answer}"
        );
    }
}

#[test]
fn text_is_not_held_back_longer_than_needed() {
    let mut reader = AnswerFormat::of_family(Family::Hermes).reader(true, false);
    let text = |text: &str| vec![AnswerPiece::Text(text.to_owned())];
    assert_eq!(reader.push("Hello"), text("Hello"));
    assert_eq!(reader.push(" <"), []);
    assert_eq!(reader.push("b"), text(" <b"));
    assert_eq!(
        reader.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\""),
        [
            AnswerPiece::Call("f".to_owned()),
            AnswerPiece::Arguments("{\"a\"".to_owned()),
        ]
    );
    assert_eq!(
        reader.push(": 1"),
        [AnswerPiece::Arguments(": 1".to_owned())]
    );
    let mut plain = AnswerFormat {
        thinks: false,
        ..AnswerFormat::of_family(Family::Hermes)
    }
    .reader(false, false);
    assert_eq!(plain.push("a <tool_call> "), text("a <tool_call> "));
}

/// A family, what an answer begins with, what comes behind again and again, and how many calls that
/// are.
const ENDLESS: &[(Family, &str, &str, usize)] = &[
    (Family::Hermes, "<tool_call>{\"name\": \"", "x", 0),
    (Family::Hermes, "<tool_call>{\"a\": \"", "<x", 0),
    (
        Family::Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": {}}",
        "x",
        1,
    ),
    (
        Family::Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": {}}",
        "tool_call>",
        1,
    ),
    (Family::Hermes, "<tool_call>", " ", 0),
    (Family::Hermes, "a", "\n", 0),
    (Family::Hermes, "<think>a", "\n", 0),
    (Family::Llama, "", "\t", 0),
    (Family::LlamaPython, "[f(a='", "x", 1),
    (Family::LlamaPython, "[f(", "x", 0),
    (
        Family::QwenCoder,
        "<tool_call><function=f><parameter=a>",
        "</x",
        1,
    ),
    (Family::Gemma, "<|tool_call>call:f{", "<", 0),
    (Family::Harmony, "<|channel|>", "x", 0),
    (Family::DeepSeek, "<｜tool▁calls▁begin｜>", "x", 0),
    (Family::Mistral, "[TOOL_CALLS]", "x", 0),
];

#[test]
fn what_never_ends_costs_no_more_than_its_length() {
    // Were all of it read again for each piece, that were 500 million bytes.
    let pieces = 32_000;
    // A beginning is read again until it is too long for one.
    let beginning = 2 * 4096 * 4096;
    for &(family, begin, more, calls) in ENDLESS {
        let mut reader = AnswerFormat::of_family(family).reader(true, false);
        reader.push(begin);
        for _ in 0..pieces {
            reader.push(more);
        }
        reader.finish();
        assert_eq!(reader.calls(), calls, "{family:?}: {begin}");
        let bound = beginning + 600 * pieces;
        assert!(
            reader.looked < bound,
            "{family:?}: {begin}: {} bytes of {bound}",
            reader.looked
        );
    }
}

#[test]
fn long_beginnings_are_no_calls_however_they_are_cut() {
    let spaces = " ".repeat(4200);
    for (family, begin, ..) in ENDLESS {
        let text = [begin, &*spaces, "<think>", "{", &spaces, "<tool_call>"];
        check_cuts(*family, &text.concat(), vec![4000, 4096, 5000]);
    }
}

#[test]
fn a_thought_may_have_been_begun_by_the_prompt() {
    let format = AnswerFormat::of_family(Family::Hermes);
    assert!(format.begins_thought("<|im_start|>assistant\n<think>\n"));
    let mut reader = format.reader(false, true);
    let mut pieces = reader.push("\nHm.\n</think>\n\nYes.");
    pieces.extend(reader.finish());
    let thought = AnswerPiece::Thought("Hm.".to_owned());
    assert_eq!(pieces, [thought, AnswerPiece::Text("Yes.".to_owned())]);
}

#[test]
fn families_are_known_by_their_templates() {
    for (template, family) in [
        ("{{ messages }}", Family::Hermes),
        ("<tool_call> <|python_tag|>", Family::Hermes),
        ("<tool_call> <function=", Family::QwenCoder),
        ("<|start_header_id|> \"parameters\":", Family::Llama),
        ("[func_name1(params_name1=", Family::LlamaPython),
        ("[TOOL_CALLS]", Family::Mistral),
        ("[TOOL_CALLS] [ARGS]", Family::MistralArgs),
        ("<｜tool▁call▁begin｜> ```json", Family::DeepSeek),
        ("<｜tool▁call▁begin｜>", Family::DeepSeek31),
        ("<|tool_call>call:", Family::Gemma),
        ("<start_function_call>", Family::FunctionGemma),
        ("<|channel|>final<|message|>", Family::Harmony),
    ] {
        assert_eq!(Family::of_template(template), family, "{template}");
    }
}

/// Texts of the words that answers are made of, in any order.
fn words() -> impl Strategy<Value = String> {
    let words = [
        "<tool_call>",
        "</tool_call>",
        "{\"name\": \"f\", \"arguments\": ",
        "{\"a\": \"}\"}",
        "}",
        " ",
        "\n",
        "<think>",
        "</think>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[",
        "]",
        ",",
        "f",
        "<|python_tag|>",
        "{\"name\": \"f\", \"parameters\": {}",
        ";",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "```json\n",
        "```",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
        "<|tool_call>",
        "call:f{a:1}",
        "<tool_call|>",
        "<|channel>",
        "thought",
        "<channel|>",
        "<|channel|>",
        "<|message|>",
        "analysis",
        "to=functions.f ",
        "<|end|>",
        "<|start|>",
        "<|call|>",
        "<function=f>",
        "<parameter=a>",
        "</parameter>",
        "</function>",
        "[f(a=",
        "f(a=",
        "'x, )'",
        "\"\"\"",
        "(",
        ")",
        "<|python_start|>",
        "<start_function_call>",
        "ü",
        "<",
        "\"",
        "\\",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..14)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_give_what_the_whole_gives(
        text in words(),
        family in proptest::sample::select(Family::ALL.to_vec()),
        cuts in proptest::collection::vec(0..200_usize, 0..8),
    ) {
        check_cuts(family, &text, cuts);
    }

    #[test]
    fn answers_may_be_cut_anywhere(
        which in 0..64_usize,
        cuts in proptest::collection::vec(0..300_usize, 0..8),
    ) {
        let all = answers();
        let (family, text, ..) = all[which % all.len()];
        check_cuts(family, text, cuts);
    }
}

fn check_cuts(family: Family, text: &str, mut cuts: Vec<usize>) {
    cuts.retain(|&cut| cut <= text.len() && text.is_char_boundary(cut));
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
    let letters: Vec<String> = text.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    for (has_tools, in_thought) in [(true, false), (true, true), (false, false), (false, true)] {
        let format = AnswerFormat::of_family(family);
        let read = |pieces: &[&str]| read_by(format.reader(has_tools, in_thought), pieces);
        let whole = read(&[text]);
        for pieces in [&pieces, &letters] {
            assert_eq!(read(pieces), whole, "{family:?}: {pieces:?}");
        }
    }
}
