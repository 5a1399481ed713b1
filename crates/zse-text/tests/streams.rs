//! What comes of a thought, a text and calls in each family's form while they stream in, piece by piece:
//! `tests/streams/`. A line that begins with `>` is a piece that the model wrote; below it stands what was certain
//! then, and at the end what was held back until there. A change of one is a change that clients may see;
//! `ZSE_WRITE_TRANSCRIPTS=1` writes them anew from their pieces.

use std::path::PathBuf;

use serde_json::json;
use zse_text::{AnswerFormat, AnswerPiece, Family};

/// Each family's transcript.
fn name(family: Family) -> &'static str {
    match family {
        Family::Hermes => "hermes",
        Family::QwenCoder => "qwen-coder",
        Family::Llama => "llama",
        Family::LlamaPython => "llama-python",
        Family::Mistral => "mistral",
        Family::MistralArgs => "mistral-args",
        Family::DeepSeek => "deepseek",
        Family::DeepSeek31 => "deepseek-3.1",
        Family::Gemma => "gemma",
        Family::FunctionGemma => "function-gemma",
        Family::Harmony => "harmony",
    }
}

fn line(piece: &AnswerPiece) -> String {
    let (kind, text) = match piece {
        AnswerPiece::Text(text) => ("text", text),
        AnswerPiece::Thought(text) => ("thought", text),
        AnswerPiece::Call(name) => ("call", name),
        AnswerPiece::Arguments(text) => ("arguments", text),
    };
    format!("    {kind} {}\n", json!(text))
}

#[test]
fn thoughts_texts_and_calls_of_each_family() {
    let function = |name: &str, parameters| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
    let properties = json!({ "expression": { "type": "string" }, "digits": { "type": "integer" } });
    let tools = [
        function(
            "calculator",
            json!({ "type": "object", "properties": properties }),
        ),
        function("now", json!({ "type": "object", "properties": {} })),
    ];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    for family in Family::ALL {
        let file = folder.join(format!("{}.txt", name(family)));
        let kept = std::fs::read_to_string(&file).expect("a transcript");
        let reader = AnswerFormat::of_family(family).reader(true, false);
        let mut reader = reader.with_tools(&tools);
        let mut found = String::new();
        for written in kept.lines().filter_map(|line| line.strip_prefix("> ")) {
            let piece: String = serde_json::from_str(written).expect("a text");
            found += &format!("> {written}\n");
            found.extend(reader.push(&piece).iter().map(line));
        }
        found += "end\n";
        found.extend(reader.finish().iter().map(line));
        if std::env::var_os("ZSE_WRITE_TRANSCRIPTS").is_some() {
            std::fs::write(&file, &found).expect("a folder");
        } else {
            assert!(found == kept, "{family:?} is now\n{found}\nand was\n{kept}");
        }
        assert_eq!(reader.calls(), 2, "{family:?}");
    }
}
