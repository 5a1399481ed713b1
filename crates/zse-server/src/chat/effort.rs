//! How much a model is to think before it answers, as its chat template can be told.

use serde_json::{Map, Value, json};
use zse::{AnswerFormat, Engine, template_reads};

use crate::error::ApiError;

/// Anthropic's parameter for how much work an answer is worth, without a word of whether to think.
pub(crate) const EFFORT: &str = "output_config.effort";
/// Anthropic's parameter for whether to think: its budget is a wish of how much.
pub(crate) const THINKING: &str = "thinking";

/// OpenAI's words for how much.
const WORDS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];
/// The variables of chat templates that turn thinking on and off: of Qwen and DeepSeek, and of DeepSeek V3.1.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];
/// The variable that says how much, as of gpt-oss.
const AMOUNT: &str = "reasoning_effort";

/// What the chat template is told of an effort, and the parameter that gave it.
///
/// # Errors
/// Names the parameter, if it has no such word, or the model's template could do nothing about it.
pub(super) fn variables(
    engine: &Engine,
    has_tools: bool,
    effort: Option<(&'static str, String)>,
) -> Result<Map<String, Value>, ApiError> {
    let Some((param, effort)) = effort else {
        return Ok(Map::new());
    };
    if !WORDS.contains(&&*effort) {
        let message = format!("{param} must be one of {}", WORDS.join(", "));
        return Err(ApiError::param(param, message));
    }
    let known = Known::of(
        engine.chat_template(has_tools),
        engine.answer_format().thinks(),
    );
    let variables = known.variables(param, &effort);
    variables.map_err(|why| ApiError::unsupported(param, why))
}

/// Whether a model with this chat template and format thinks first, and so may be asked to.
pub(crate) fn thinks(template: &str, format: AnswerFormat) -> bool {
    Known::of(template, format.thinks()).thinks
}

/// What a chat template knows of thinking.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Whether its model thinks first.
    thinks: bool,
    has_switch: bool,
    has_amount: bool,
    /// Whether no thinking is an amount, too.
    has_none: bool,
}

impl Known {
    /// What is known of `template`, whose model may write thoughts.
    fn of(template: &str, may_think: bool) -> Self {
        let has_switch = SWITCHES.iter().any(|name| template_reads(template, name));
        let has_amount = template_reads(template, AMOUNT);
        Self {
            // Models that do not think share vocabularies with those that do.
            thinks: may_think && (has_switch || has_amount || template.contains("think>")),
            has_switch,
            has_amount,
            has_none: ["'none'", "\"none\""]
                .iter()
                .any(|word| template.contains(word)),
        }
    }

    /// What the template is told of an effort, or why it cannot be.
    fn variables(self, param: &str, effort: &str) -> Result<Map<String, Value>, &'static str> {
        let mut variables = Map::new();
        let mut switch = |to: bool| {
            let names = SWITCHES.iter().map(|name| (*name).to_owned());
            variables.extend(names.map(|name| (name, json!(to))));
        };
        match effort {
            "none" if self.has_switch => switch(false),
            "none" if !self.thinks => {}
            "none" if self.has_amount && self.has_none => {
                variables.insert(AMOUNT.to_owned(), json!(effort));
            }
            "none" => return Err("this model's chat template cannot turn thinking off"),
            _ if !self.thinks => return Err("this model does not think first"),
            // How much says nothing of whether.
            _ if param == EFFORT => {
                if !self.has_amount {
                    return Err("this model's chat template has no word for how much to think");
                }
                variables.insert(AMOUNT.to_owned(), json!(effort));
            }
            _ if self.has_switch || self.has_amount => {
                if self.has_switch {
                    switch(true);
                }
                variables.insert(AMOUNT.to_owned(), json!(effort));
            }
            // It does so anyway.
            _ if param == THINKING || effort == "medium" => {}
            _ => return Err("this model's chat template has no word for how much to think"),
        }
        Ok(variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &str = "{% if enable_thinking is false %}<think></think>{% endif %}";
    const AMOUNTS: &str = "Reasoning: {{ reasoning_effort or 'medium' }} {{ message.thinking }}";
    const WITH_NONE: &str = "{% if reasoning_effort != 'none' %}[THINK]{% endif %}";
    const ALWAYS: &str = "{{ messages }}<think>\n";
    const NEVER: &str = "{# thinking #}{{ messages }}";

    fn told(template: &str, param: &str, effort: &str) -> Option<Value> {
        let variables = Known::of(template, true).variables(param, effort);
        variables.ok().map(Value::Object)
    }

    #[test]
    fn an_effort_is_told_to_templates_that_can_do_something_about_it() {
        let amount = |word: &str| json!({ "reasoning_effort": word });
        let on = json!({ "enable_thinking": true, "thinking": true, "reasoning_effort": "low" });
        let off = json!({ "enable_thinking": false, "thinking": false });
        for (template, low, none) in [
            (SWITCH, Some(on), Some(off)),
            (AMOUNTS, Some(amount("low")), None),
            (WITH_NONE, Some(amount("low")), Some(amount("none"))),
            (ALWAYS, None, None),
            (NEVER, None, Some(json!({}))),
        ] {
            assert_eq!(told(template, "reasoning_effort", "low"), low, "{template}");
            assert_eq!(
                told(template, "reasoning_effort", "none"),
                none,
                "{template}"
            );
        }
    }

    #[test]
    fn what_happens_anyway_may_be_asked_for() {
        assert_eq!(told(ALWAYS, "reasoning_effort", "medium"), Some(json!({})));
        assert_eq!(told(ALWAYS, THINKING, "high"), Some(json!({})));
        assert_eq!(told(NEVER, "reasoning_effort", "medium"), None);
        // Anthropic's effort is no word on whether to think.
        let low = json!({ "reasoning_effort": "low" });
        assert_eq!(told(AMOUNTS, EFFORT, "low"), Some(low));
        assert_eq!(told(SWITCH, EFFORT, "low"), None);
    }
}
