//! The grammar of calls that are required, in each family's form.

use serde_json::{Value, json};

use super::{AnswerFormat, Family, deepseek, harmony, mistral};
use crate::{Grammar, TOOL_CALL_CLOSE, TOOL_CALL_OPEN, TaggedCall};

impl AnswerFormat {
    /// What makes a model of this format call one of `functions`, each with the schema of its
    /// arguments, or several after each other where `repeat` and the form has that. `None` for a form
    /// that no grammar is written for.
    pub fn calls(self, functions: &[(String, Value)], repeat: bool) -> Option<Grammar> {
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
        let each = |begin: &[&str], open: &[&str], close: &[&str], end: &[&str], repeat: bool| {
            let owned = |marks: &[&str]| marks.iter().map(|&mark| mark.to_owned()).collect();
            let call = |(name, schema): &(String, Value)| TaggedCall {
                open: open.iter().map(|mark| mark.replace("NAME", name)).collect(),
                schema: schema.clone(),
                close: owned(close),
            };
            Grammar::Calls {
                begin: owned(begin),
                calls: functions.iter().map(call).collect(),
                end: owned(end),
                repeat,
            }
        };
        Some(match self.family {
            Family::Hermes => tagged(
                &format!("{TOOL_CALL_OPEN}\n"),
                named("arguments"),
                &format!("\n{TOOL_CALL_CLOSE}"),
                repeat,
            ),
            Family::Llama => tagged("", named("parameters"), "", false),
            Family::Mistral => {
                let mut list =
                    json!({ "type": "array", "items": named("arguments"), "minItems": 1 });
                if !repeat {
                    list["maxItems"] = 1.into();
                }
                tagged(mistral::CALLS, list, "", false)
            }
            Family::MistralArgs => each(
                &[],
                &[mistral::CALLS, "NAME", mistral::ARGUMENTS],
                &[],
                &[],
                repeat,
            ),
            Family::DeepSeek => each(
                &[deepseek::CALLS],
                &[
                    deepseek::CALL,
                    "function",
                    deepseek::SEPARATOR,
                    &format!("NAME\n{}\n", deepseek::CODE),
                ],
                &["\n```", deepseek::CALL_END],
                &[deepseek::CALLS_END],
                repeat,
            ),
            Family::DeepSeek31 => each(
                &[deepseek::CALLS],
                &[deepseek::CALL, "NAME", deepseek::SEPARATOR],
                &[deepseek::CALL_END],
                &[deepseek::CALLS_END],
                repeat,
            ),
            Family::Harmony => each(
                &[],
                &[
                    harmony::CHANNEL,
                    "commentary to=functions.NAME ",
                    harmony::CONSTRAIN,
                    "json",
                    harmony::MESSAGE,
                ],
                &[],
                &[],
                false,
            ),
            Family::Gemma => return None,
        })
    }
}
