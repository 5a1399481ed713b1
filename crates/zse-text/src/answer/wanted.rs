//! What an answer must be, in each family's form: calls, text of a form, or either.

use super::{AnswerFormat, Family, deepseek, gemma, harmony, llama, mistral, qwen_coder};
use crate::{Constraint, Grammar, Part, TOOL_CALL_OPEN, Triggers};

/// What an answer must be, behind what the model thinks.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Calls, as [`AnswerFormat::calls`] describes them.
    Calls(Grammar),
    /// Text of this form.
    Form(Grammar),
    /// Calls, or text of this form.
    CallsOrForm(Grammar, Grammar),
    /// Any text, in which calls, if there are any, are of this form and end it.
    CallsOrText(Grammar),
}

impl AnswerFormat {
    /// What makes a model of this format answer so behind `prompt`. It may think first, in its own way.
    pub fn constraint(self, wanted: Wanted, prompt: &str) -> Constraint {
        if self.family == Family::Harmony {
            return in_channels(wanted).into();
        }
        let (grammar, triggers) = match wanted {
            Wanted::Calls(grammar) | Wanted::Form(grammar) => (grammar, None),
            Wanted::CallsOrForm(calls, form) => {
                let all = [calls, form].map(|grammar| vec![Part::Of(grammar)]);
                (Grammar::Parts(vec![Part::OneOf(all.into())]), None)
            }
            Wanted::CallsOrText(calls) => (calls, Some(self.triggers())),
        };
        let end = self.end_of_thought();
        let is_begun = self.begins_thought(prompt);
        // A thought that the prompt has ended is not begun again.
        let may_begin = self.may_begin_thought() && !prompt.trim_end().ends_with(end);
        let opening = may_begin.then(|| self.opening_of_thought().to_owned());
        Constraint {
            grammar: grammar.into(),
            after: (is_begun || may_begin).then(|| end.to_owned()),
            opening: opening.filter(|_| !is_begun),
            triggers,
        }
    }

    /// What the reader of this format takes for the beginning of calls.
    fn triggers(self) -> Triggers {
        let marks: &[&[&str]] = match self.family {
            Family::Hermes => &[&[TOOL_CALL_OPEN]],
            Family::QwenCoder => &[
                &[TOOL_CALL_OPEN],
                &[TOOL_CALL_OPEN, "\n", qwen_coder::FUNCTION],
            ],
            Family::Mistral | Family::MistralArgs => &[&[mistral::CALLS]],
            Family::DeepSeek | Family::DeepSeek31 => {
                &[&[deepseek::CALLS], &[deepseek::CALLS, deepseek::CALL]]
            }
            Family::Gemma => &[&[gemma::CALL]],
            Family::FunctionGemma => &[&[gemma::CALL_OF_FUNCTION_GEMMA]],
            Family::Llama | Family::LlamaPython => {
                let marks = [llama::PYTHON, llama::PYTHON_START];
                return Triggers {
                    // The calls behind them have no other mark.
                    marks: marks.map(|mark| (mark.to_owned(), Vec::new())).into(),
                    bare: "{[",
                };
            }
            // Its grammar has all of an answer.
            Family::Harmony => &[],
        };
        let begun = |all: &&[&str]| {
            let parts: Vec<String> = all.iter().map(|&part| part.to_owned()).collect();
            Some((parts.last()?.clone(), parts))
        };
        Triggers {
            marks: marks.iter().filter_map(begun).collect(),
            bare: "",
        }
    }
}

/// An answer of gpt-oss: thoughts and what it says of its calls, then calls, or the final message.
fn in_channels(wanted: Wanted) -> Grammar {
    let mark = |mark: &str| Part::Mark(mark.to_owned());
    let aside = vec![
        mark(harmony::CHANNEL),
        Part::OneOf(
            ["analysis", "commentary"]
                .map(|name| vec![mark(name)])
                .into(),
        ),
        mark(harmony::MESSAGE),
        Part::Until(harmony::END.to_owned()),
        mark(harmony::START),
        mark("assistant"),
    ];
    let last = |what: Part| {
        vec![
            mark(harmony::CHANNEL),
            mark("final"),
            mark(harmony::MESSAGE),
            what,
        ]
    };
    let calls = |grammar: Grammar| vec![Part::Of(grammar)];
    let ends = match wanted {
        Wanted::Calls(grammar) => vec![calls(grammar)],
        Wanted::Form(form) => vec![last(Part::Of(form))],
        Wanted::CallsOrForm(grammar, form) => vec![calls(grammar), last(Part::Of(form))],
        Wanted::CallsOrText(grammar) => vec![calls(grammar), last(Part::Text)],
    };
    Grammar::Parts(vec![Part::Repeated(aside), Part::OneOf(ends)])
}
