//! Which family a model is of, and so how it writes calls and thoughts.

use std::collections::HashSet;

use super::form::Form;
use super::schemas::Schemas;
use super::{
    AnswerReader, State, THINK, deepseek, gemma, harmony, hermes, llama, mistral, qwen_coder,
};
use crate::Tokenizer;

/// How a model writes calls and thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFormat {
    pub(super) family: Family,
    /// Whether `<think>` begins a thought.
    pub(super) thinks: bool,
    /// Whether what calls begin with is made of control tokens, whose spelling is needed then.
    pub(super) shows_special: bool,
}

/// A family of models with one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Hermes, Qwen, the built-in model, and all that have no form of their own.
    Hermes,
    /// Qwen3-Coder and Qwen3.5.
    QwenCoder,
    /// Llama 3.x.
    Llama,
    /// Llama 4, and others that are told to call in Python.
    LlamaPython,
    /// Mistral.
    Mistral,
    /// Mistral since the eleventh version of its form.
    MistralArgs,
    /// DeepSeek V3 and R1.
    DeepSeek,
    /// DeepSeek V3.1.
    DeepSeek31,
    /// Gemma 4.
    Gemma,
    /// FunctionGemma.
    FunctionGemma,
    /// gpt-oss.
    Harmony,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Hermes,
        Self::QwenCoder,
        Self::Llama,
        Self::LlamaPython,
        Self::Mistral,
        Self::MistralArgs,
        Self::DeepSeek,
        Self::DeepSeek31,
        Self::Gemma,
        Self::FunctionGemma,
        Self::Harmony,
    ];

    /// The family whose chat template this is.
    pub fn of_template(template: &str) -> Self {
        let has = |mark: &str| template.contains(mark);
        if has(harmony::CHANNEL) && has(harmony::MESSAGE) {
            Self::Harmony
        } else if has(crate::TOOL_CALL_OPEN) && has(qwen_coder::FUNCTION) {
            Self::QwenCoder
        } else if has(crate::TOOL_CALL_OPEN) {
            Self::Hermes
        } else if has(gemma::CALL) {
            Self::Gemma
        } else if has(gemma::CALL_OF_FUNCTION_GEMMA) {
            Self::FunctionGemma
        } else if has(mistral::CALLS) && has(mistral::ARGUMENTS) {
            Self::MistralArgs
        } else if has(mistral::CALLS) {
            Self::Mistral
        } else if has(deepseek::CALL) && has(deepseek::CODE) {
            Self::DeepSeek
        } else if has(deepseek::CALL) {
            Self::DeepSeek31
        } else if has(llama::PYTHON_START) || has("[func_name1(") {
            Self::LlamaPython
        } else if has(llama::PYTHON) || has("<|start_header_id|>") && has("\"parameters\"") {
            Self::Llama
        } else {
            Self::Hermes
        }
    }

    fn form(self) -> &'static dyn Form {
        match self {
            Self::Hermes => &hermes::Hermes,
            Self::QwenCoder => &qwen_coder::QwenCoder,
            Self::Llama | Self::LlamaPython => &llama::Llama,
            Self::Mistral | Self::MistralArgs => &mistral::Mistral,
            Self::DeepSeek | Self::DeepSeek31 => &deepseek::DeepSeek,
            Self::Gemma | Self::FunctionGemma => &gemma::Gemma,
            Self::Harmony => &harmony::Harmony,
        }
    }
}

impl AnswerFormat {
    /// The format of a model with this chat template and vocabulary.
    pub fn new(template: &str, tokenizer: &Tokenizer) -> Self {
        let family = Family::of_template(template);
        let is_control = |mark: &&str| {
            let id = tokenizer.token_id(mark);
            id.is_some_and(|id| tokenizer.is_special(id))
        };
        let thinks = template.contains(THINK) || tokenizer.token_id(THINK).is_some();
        Self {
            family,
            thinks,
            shows_special: family.form().marks().iter().any(is_control)
                || thinks && is_control(&THINK),
        }
    }

    /// The format of a family whose models think, and have no control tokens.
    pub fn of_family(family: Family) -> Self {
        Self {
            family,
            thinks: true,
            shows_special: false,
        }
    }

    /// Whether the spelling of control tokens has to be part of the text that is read.
    pub fn shows_special(self, has_tools: bool) -> bool {
        self.shows_special && (has_tools || self.thinks || self.family.form().always())
    }

    /// Whether models of this format may think before they answer.
    pub fn thinks(self) -> bool {
        self.thinks || matches!(self.family, Family::Harmony | Family::Gemma)
    }

    /// Whether a prompt that ends so has begun a thought for the model.
    pub fn begins_thought(self, prompt: &str) -> bool {
        self.thinks && prompt.trim_end().ends_with(THINK)
    }

    /// Whether a model of this format may begin a thought by itself.
    pub(super) fn may_begin_thought(self) -> bool {
        self.thinks || self.opening_of_thought() != THINK
    }

    /// The token that begins a thought, if the model does so.
    pub(super) fn opening_of_thought(self) -> &'static str {
        self.family.form().opening_of_thought()
    }

    /// What ends a thought.
    pub fn end_of_thought(self) -> &'static str {
        self.family.form().end_of_thought()
    }

    /// A reader of an answer: `has_tools` if calls are looked for, `in_thought` if the prompt has
    /// [begun one](Self::begins_thought).
    pub fn reader(self, has_tools: bool, in_thought: bool) -> AnswerReader {
        let form = self.family.form();
        let mut marks: Vec<&'static str> = Vec::new();
        if has_tools || form.always() {
            marks.extend(form.marks());
        }
        if self.thinks {
            marks.push(THINK);
        }
        AnswerReader {
            form,
            marks,
            has_tools,
            held: String::new(),
            state: match in_thought {
                true => State::Thought,
                false => State::Text,
            },
            has_text: false,
            after_mark: in_thought,
            bare: if has_tools { form.bare() } else { &[] },
            calls: 0,
            wait: None,
            #[cfg(test)]
            looked: 0,
            schemas: Schemas::default(),
            function: String::new(),
            arguments: HashSet::new(),
        }
    }
}
