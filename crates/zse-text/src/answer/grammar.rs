//! The grammar of calls that are required, in each family's form.

use serde_json::{Value, json};

use super::{AnswerFormat, Family, deepseek, gemma, harmony, mistral, qwen_coder};
use crate::{Grammar, Notation, TOOL_CALL_CLOSE, TOOL_CALL_OPEN, TaggedCall};

impl AnswerFormat {
    /// What makes a model of this format call one of `functions`, each with the schema of its
    /// arguments, or several after each other where `repeat` and the form has that.
    pub fn calls(self, functions: &[(String, Value)], repeat: bool) -> Grammar {
        let named = |arguments: &'static str| {
            let call = |(name, schema): &(String, Value)| {
                json!({
                    "type": "object",
                    "properties": { "name": { "const": name }, arguments: schema },
                    "required": ["name", arguments],
                    "additionalProperties": false,
                })
            };
            json!({ "anyOf": functions.iter().map(call).collect::<Vec<_>>() })
        };
        let tagged = |open: &str, schema: Value, close: &str, repeat: bool| Grammar::Tagged {
            open: open.to_owned(),
            schema,
            close: close.to_owned(),
            repeat,
        };
        let owned = |marks: &[&str]| marks.iter().map(|&mark| mark.to_owned()).collect();
        let each = |around: [&[&str]; 2], open: &[&str], close: &[&str], notation: Notation| {
            let call = |(name, schema): &(String, Value)| TaggedCall {
                open: open.iter().map(|mark| mark.replace("NAME", name)).collect(),
                schema: schema.clone(),
                notation: notation.clone(),
                close: owned(close),
            };
            Grammar::Calls {
                begin: owned(around[0]),
                calls: functions.iter().map(call).collect(),
                end: owned(around[1]),
                repeat: repeat && self.family != Family::Harmony,
                separator: match self.family {
                    Family::QwenCoder => "\n".to_owned(),
                    Family::LlamaPython => ", ".to_owned(),
                    _ => String::new(),
                },
            }
        };
        match self.family {
            Family::Hermes => tagged(
                &format!("{TOOL_CALL_OPEN}\n"),
                named("arguments"),
                &format!("\n{TOOL_CALL_CLOSE}"),
                repeat,
            ),
            Family::QwenCoder => each(
                [&[], &[]],
                &[
                    TOOL_CALL_OPEN,
                    &format!("\n{}NAME>\n", qwen_coder::FUNCTION),
                ],
                &[&format!("{}\n", qwen_coder::FUNCTION_END), TOOL_CALL_CLOSE],
                Notation::Tags,
            ),
            Family::Llama => tagged("", named("parameters"), "", false),
            Family::LlamaPython => each([&["["], &["]"]], &["NAME", "("], &[")"], Notation::Python),
            Family::Mistral => {
                let mut list =
                    json!({ "type": "array", "items": named("arguments"), "minItems": 1 });
                if !repeat {
                    list["maxItems"] = 1.into();
                }
                tagged(mistral::CALLS, list, "", false)
            }
            Family::MistralArgs => each(
                [&[], &[]],
                &[mistral::CALLS, "NAME", mistral::ARGUMENTS],
                &[],
                Notation::Json,
            ),
            Family::DeepSeek => each(
                [&[deepseek::CALLS], &[deepseek::CALLS_END]],
                &[
                    deepseek::CALL,
                    "function",
                    deepseek::SEPARATOR,
                    &format!("NAME\n{}\n", deepseek::CODE),
                ],
                &["\n```", deepseek::CALL_END],
                Notation::Json,
            ),
            Family::DeepSeek31 => each(
                [&[deepseek::CALLS], &[deepseek::CALLS_END]],
                &[deepseek::CALL, "NAME", deepseek::SEPARATOR],
                &[deepseek::CALL_END],
                Notation::Json,
            ),
            Family::Harmony => each(
                [&[], &[]],
                &[
                    harmony::CHANNEL,
                    "commentary to=functions.NAME ",
                    harmony::CONSTRAIN,
                    "json",
                    harmony::MESSAGE,
                ],
                &[],
                Notation::Json,
            ),
            Family::Gemma => each(
                [&[], &[]],
                &[gemma::CALL, "call:NAME"],
                &[gemma::CALL_END],
                Notation::Quoted(gemma::QUOTE),
            ),
            Family::FunctionGemma => each(
                [&[], &[]],
                &[gemma::CALL_OF_FUNCTION_GEMMA, "call:NAME"],
                &[gemma::END_OF_FUNCTION_GEMMA],
                Notation::Quoted(gemma::ESCAPE),
            ),
        }
    }
}
