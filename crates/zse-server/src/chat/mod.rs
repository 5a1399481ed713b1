//! A conversation that wants its next message: what the request of every wire format becomes, and
//! what their answers are written from.

mod calls;
mod effort;
pub(crate) mod messages;
mod talk;

use std::sync::Arc;

use serde_json::Value;
use zse::{AnswerFormat, ChatRequest, Constraint, Generate, Message, Wanted};

use crate::error::ApiError;
use crate::form::Form;
use crate::gap;
use crate::models::Model;
use crate::request::Prompt;
use crate::sampling::Sampling;
use crate::state::{App, Slot};
use calls::Tool;
pub(crate) use calls::{ALLOWED, Calls};
pub(crate) use effort::{EFFORT, THINKING, thinks};
pub(crate) use messages::MAX_MESSAGES;
pub(crate) use talk::{Event, Part, Reply, Talk, arguments};

/// Most tools of a request.
const MAX_TOOLS: usize = 128;

/// A request for the next message of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    /// The model's name; may be absent where one model is served.
    pub(crate) model: Option<String>,
    pub(crate) messages: Vec<Message>,
    /// A text to continue as it is, instead of messages.
    pub(crate) raw: Option<String>,
    /// What stands behind the text that `raw` begins: what is missing between them is wanted.
    pub(crate) suffix: Option<String>,
    /// The beginning of the answer, which the model goes on with.
    pub(crate) prefill: Option<String>,
    /// Functions, as OpenAI's API describes them.
    pub(crate) tools: Vec<Value>,
    /// Whether they are called.
    pub(crate) calls: Calls,
    /// Whether several may be called at once.
    pub(crate) parallel: Option<bool>,
    /// The form of the answer.
    pub(crate) form: Option<Form>,
    pub(crate) sampling: Sampling,
    /// Most tokens of the answer; `None`: as many as the context holds.
    pub(crate) max_tokens: Option<usize>,
    /// How much the model is to think before it answers: the parameter that says so, and what it
    /// says, such as `low`; `none` for not at all.
    pub(crate) effort: Option<(&'static str, String)>,
    /// How many other tokens' log-probabilities are wanted at each place.
    pub(crate) top_logprobs: u32,
}

/// A request that is sound, and its loaded model.
pub(crate) struct Ready {
    pub(crate) model: Model,
    app: Arc<App>,
    slot: Slot,
    request: ChatRequest,
    raw: Option<String>,
    suffix: Option<String>,
    prefill: Option<String>,
    /// What the answer must be, and the parameter that says so.
    wanted: Option<(Wanted, String)>,
    settings: Generate,
}

impl Chat {
    /// Checks what can be checked before the conversation is rendered, and loads the model.
    ///
    /// # Errors
    /// Names what is wrong.
    pub(crate) async fn ready(self, app: &Arc<App>) -> Result<Ready, ApiError> {
        let tools = check_tools(self.tools, &self.calls)?;
        let parallel = self.parallel.unwrap_or(true);
        let n = self.sampling.n() as usize;
        app.can_admit("n", n)?;
        let mut slot = app.admit(1)?;
        let wanted = self.sampling.adapters();
        let model = app.model_with(self.model.as_deref(), &wanted).await?;
        if self.suffix.is_some() {
            gap::check(&model)?;
        }
        if !tools.is_empty() && !takes_tools(model.engine.chat_template(true)) {
            let why = "this model's chat template has no tools";
            return Err(ApiError::unsupported("tools", why));
        }
        let format = model.engine.answer_format();
        let (form, param) = self.form.map(|form| (form.grammar, form.param)).unzip();
        let wanted = self.calls.wanted(format, &tools, parallel, form)?;
        let param = param.unwrap_or_else(|| "tools".to_owned());
        if wanted.is_some() && self.prefill.is_some() {
            let message = "an answer that has to be a call, or has a form, cannot be begun: \
                           leave out the last message";
            return Err(ApiError::param("messages", message));
        }
        let tokenizer = model.engine.tokenizer();
        let settings = self
            .sampling
            .settings(tokenizer, self.max_tokens, self.top_logprobs)?;
        check_choices(&model, "n", n)?;
        let extra = effort::variables(&model.engine, !tools.is_empty(), self.effort)?;
        app.admit_all(&mut slot, n)?;
        Ok(Ready {
            app: Arc::clone(app),
            slot,
            request: ChatRequest {
                messages: self.messages,
                extra,
                tools: tools.into_iter().map(|tool| tool.description).collect(),
            },
            raw: self.raw,
            suffix: self.suffix,
            prefill: self.prefill,
            wanted: wanted.map(|wanted| (wanted, param)),
            settings,
            model,
        })
    }
}

impl Ready {
    /// Renders the conversation and submits it; takes its time.
    ///
    /// # Errors
    /// If the template refuses the conversation, or it does not fit.
    pub(crate) fn start(self) -> Result<Talk, ApiError> {
        let text = self.text()?;
        let prompt = match &self.suffix {
            Some(suffix) => gap::prompt(&self.model, &Prompt::Text(text.clone()), suffix)?,
            None => prompt_tokens(&self.model, &text)?,
        };
        let mut settings = self.settings;
        let format = self.model.engine.answer_format();
        let (wanted, param) = self.wanted.unzip();
        settings.constraint = wanted.map(|wanted| match (wanted, &self.raw) {
            // A text that goes on as it is has no thoughts to tell apart.
            (Wanted::Form(grammar), Some(_)) => Constraint::from(grammar),
            (wanted, _) => format.constraint(wanted, &text),
        });
        let reader = self.raw.is_none().then(|| {
            let tools = self.request.tools;
            let has_tools = !tools.is_empty();
            let in_thought = format.begins_thought(&text);
            settings.show_special = format.shows_special(has_tools);
            move || format.reader(has_tools, in_thought).with_tools(&tools)
        });
        let talk = Talk::start(&self.app, self.slot, self.model, prompt, &settings, reader);
        talk.map_err(|error| error.of_form(param.as_deref()))
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub(crate) fn tokens(&self) -> Result<Vec<u32>, ApiError> {
        Ok(self.model.engine.open_tokens(&self.text()?, true))
    }

    /// The prompt.
    fn text(&self) -> Result<String, ApiError> {
        let prompt = match &self.raw {
            Some(text) => text.clone(),
            None => self.model.engine.chat_prompt(&self.request)?,
        };
        let format = self.model.engine.answer_format();
        Ok(begin(format, prompt, self.prefill.as_deref()))
    }
}

/// A prompt with the beginning of its answer: what it begins is no thought.
fn begin(format: AnswerFormat, prompt: String, answer: Option<&str>) -> String {
    match answer.unwrap_or_default() {
        "" => prompt,
        answer if format.begins_thought(&prompt) => prompt + format.end_of_thought() + answer,
        answer => prompt + answer,
    }
}

/// The tokens of a prompt, if they leave room for one more.
///
/// # Errors
/// Says how many there are, or that there are so many at least, and how many there may be.
pub(crate) fn prompt_tokens(model: &Model, text: &str) -> Result<Vec<u32>, ApiError> {
    let tokens = model.engine.prompt_tokens(text, true);
    tokens.map_err(|tokens| ApiError::too_long(tokens, model.engine.limits().sequence()))
}

/// Whether a prompt of so many tokens leaves room for one more.
///
/// # Errors
/// As [`prompt_tokens`].
pub(crate) fn fits(model: &Model, tokens: usize) -> Result<(), ApiError> {
    let limit = model.engine.limits().sequence();
    match tokens < limit {
        true => Ok(()),
        false => Err(ApiError::too_long(tokens, limit)),
    }
}

/// Whether so many continuations may be asked for by the parameter `param`, before a prompt is
/// looked at.
pub(crate) fn check_choices(model: &Model, param: &str, n: usize) -> Result<(), ApiError> {
    let limit = model.engine.limits().choices as usize;
    match (1..=limit).contains(&n) {
        true => Ok(()),
        false => Err(ApiError::param(
            param,
            format!("{n} continuations are asked for, there may be from 1 to {limit}"),
        )),
    }
}

/// Whether a model with this chat template is told of tools.
pub(crate) fn takes_tools(template: &str) -> bool {
    zse::template_reads(template, "tools")
}

/// The tools that the model is told of, once they are known to be sound.
fn check_tools(tools: Vec<Value>, calls: &Calls) -> Result<Vec<Tool>, ApiError> {
    if tools.len() > MAX_TOOLS {
        let message = format!("there may be {MAX_TOOLS} tools at most");
        return Err(ApiError::param("tools", message));
    }
    let tools = tools.into_iter().enumerate();
    let tools = tools.map(|(i, tool)| Tool::new(&format!("tools[{i}]"), tool));
    calls.told(tools.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_begun_is_no_thought() {
        let engine = zse::Engine::load(&zse::ModelSource::Builtin, &zse::LoadOptions::default());
        let format = AnswerFormat::new("<think>", engine.unwrap().tokenizer());
        let begin = |prompt: &str, answer| begin(format, prompt.to_owned(), answer);
        assert_eq!(begin("a: ", Some("Yes")), "a: Yes");
        assert_eq!(
            begin("a: <think>\n", Some("Yes")),
            "a: <think>\n</think>Yes"
        );
        for nothing in [None, Some("")] {
            assert_eq!(begin("a: <think>\n", nothing), "a: <think>\n");
        }
    }
}
