//! The state of a chat: what was said, and how the next answer is drawn.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use clap::error::ErrorKind;
use console::style;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zse::{
    ChatRequest, Engine, FinishReason, Finished, Generate, Message, Progress, Role, StopMatcher,
    TOOL_CALL_OPEN, ToolCall, parse_tool_calls,
};

use crate::args::{GenerateArgs, SamplingArgs, random_seed, settings};
use crate::{Usage, interrupt, log, report};

/// What `/set` changes: every option of a generation, by the name that it has on the command line.
#[derive(Clone, Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Settings {
    #[command(flatten)]
    generate: GenerateArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Settings {
    /// Empties the list of that name; false if there is none.
    fn empty(&mut self, name: &str) -> bool {
        match name {
            "stop" | "reverse-prompt" => self.generate.stop.clear(),
            "logit-bias" => self.sampling.logit_bias.clear(),
            "dry-sequence-breaker" => self.sampling.dry_sequence_breaker.clear(),
            _ => return false,
        }
        true
    }
}

/// A conversation in a file.
#[derive(Deserialize, Serialize)]
struct Saved {
    messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
}

/// Tokens and time of all answers.
#[derive(Default)]
struct Totals {
    answers: usize,
    prompt_tokens: usize,
    completion_tokens: usize,
    prompt_time: Duration,
    decode_time: Duration,
}

/// What the model answered.
pub(super) enum Answer {
    /// A message, which ends the turn.
    Text,
    /// Tools are to be called, and the model to be told what they gave.
    Calls(Vec<ToolCall>),
    /// Nothing: it was interrupted before the first word.
    Nothing,
}

/// A place in a conversation.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    len: usize,
    from: usize,
}

pub(super) struct Session {
    engine: Engine,
    system: Option<String>,
    /// Without the system prompt.
    messages: Vec<Message>,
    /// Messages before this one no longer fit the context, and are not sent.
    from: usize,
    tools: Vec<Value>,
    settings: Settings,
    totals: Totals,
    last: Option<Finished>,
}

/// How often to look whether Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(50);

impl Session {
    pub(super) fn new(engine: Engine, generate: GenerateArgs, sampling: SamplingArgs) -> Self {
        Self {
            engine,
            system: None,
            messages: Vec::new(),
            from: 0,
            tools: Vec::new(),
            settings: Settings { generate, sampling },
            totals: Totals::default(),
            last: None,
        }
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub(super) fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    pub(super) fn set_tools(&mut self, tools: Vec<Value>) {
        self.tools = tools;
    }

    /// Forgets what was said.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.from = 0;
    }

    /// Where the conversation stands.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            len: self.messages.len(),
            from: self.from,
        }
    }

    /// Forgets what was said since `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.messages.truncate(mark.len);
        self.from = mark.from;
    }

    pub(super) fn say(&mut self, text: String) {
        self.messages.push(Message::new(Role::User, text));
    }

    pub(super) fn tool_result(&mut self, call: &ToolCall, result: String) {
        self.messages.push(Message {
            name: Some(call.function.name.clone()),
            tool_call_id: Some(call.id.clone()),
            ..Message::new(Role::Tool, result)
        });
    }

    /// Prints the next answer as it comes, and keeps it. After an error the question stands alone.
    pub(super) fn answer(&mut self, out: &mut impl Write) -> anyhow::Result<Answer> {
        // Ctrl-C from before has nothing to stop.
        interrupt::take();
        let settings = self.generate()?;
        let mut generation = loop {
            match self.engine.chat(&self.request(self.from), &settings) {
                Err(error) if error.is_too_long() && self.leave_out_oldest() => {
                    log::warn(format_args!(
                        "the context is full: the oldest messages are left out"
                    ));
                }
                generation => break generation?,
            }
        };
        let mut text = String::new();
        // Calls of tools are shown by whoever answers them, not as the model spells them.
        let mut visible = StopMatcher::new((!self.tools.is_empty()).then_some(TOOL_CALL_OPEN));
        loop {
            if interrupt::take() {
                generation.cancel();
            }
            match generation.wait(LOOK)? {
                Progress::Chunk(chunk) => {
                    text.push_str(&chunk.text);
                    write!(out, "{}", visible.push(&chunk.text))?;
                    out.flush()?;
                }
                Progress::Waiting => {}
                Progress::End => break,
            }
        }
        write!(out, "{}", visible.finish())?;
        // Without tools, what looks like a call is text, and was shown.
        let (content, mut calls) = match self.tools.is_empty() {
            true => (text, Vec::new()),
            false => {
                let (content, calls) = parse_tool_calls(&text);
                if calls.is_empty()
                    && let Some(at) = text.find(TOOL_CALL_OPEN)
                {
                    // No call after all.
                    write!(out, "{}", &text[at..])?;
                }
                (content, calls)
            }
        };
        writeln!(out)?;
        if let Some(finished) = generation.finished().first() {
            self.count(finished);
            match finished.reason {
                FinishReason::Cancelled => {
                    writeln!(out, "{}", style("(stopped)").dim())?;
                    calls.clear();
                    if content.is_empty() {
                        return Ok(Answer::Nothing);
                    }
                }
                FinishReason::ContextFull => {
                    writeln!(
                        out,
                        "{}",
                        style("(the context is full; /clear starts anew)").dim()
                    )?;
                }
                _ => {}
            }
        }
        self.messages.push(Message {
            tool_calls: calls.clone(),
            ..Message::new(Role::Assistant, content)
        });
        Ok(match calls.is_empty() {
            true => Answer::Text,
            false => Answer::Calls(calls),
        })
    }

    /// How the next answer is drawn.
    fn generate(&self) -> Result<Generate, Usage> {
        let Settings { generate, sampling } = &self.settings;
        settings(self.engine.tokenizer(), generate, sampling, random_seed())
    }

    /// The conversation from message `from` on.
    fn request(&self, from: usize) -> ChatRequest {
        let system = self
            .system
            .as_deref()
            .map(|text| Message::new(Role::System, text));
        ChatRequest {
            messages: system
                .into_iter()
                .chain(self.messages[from..].iter().cloned())
                .collect(),
            tools: self.tools.clone(),
            ..ChatRequest::default()
        }
    }

    /// No longer sends the oldest question with all that belongs to it; false if there is only one.
    fn leave_out_oldest(&mut self) -> bool {
        let mut later = self.messages.iter().enumerate().skip(self.from + 1);
        let next = later.find(|(_, m)| m.role == Role::User);
        next.map(|(i, _)| self.from = i).is_some()
    }

    fn count(&mut self, finished: &Finished) {
        let Finished { usage, timings, .. } = finished;
        log::info(format_args!("{}", report::summary(usage, timings)));
        self.totals.answers += 1;
        self.totals.prompt_tokens += usage.prompt_tokens;
        self.totals.completion_tokens += usage.completion_tokens;
        self.totals.prompt_time += timings.prompt;
        self.totals.decode_time += timings.decode;
        self.last = Some(finished.clone());
    }

    /// Changes a setting; the name is an option of `zse chat` without its dashes. Without a value,
    /// a list is emptied, and what is on or off is on. Returns what the setting is now.
    pub(super) fn set(&mut self, name: &str, value: &str) -> anyhow::Result<String> {
        let option = name.trim_start_matches('-').replace('_', "-");
        let mut changed = self.settings.clone();
        let emptied = value.is_empty() && changed.empty(&option);
        if !emptied {
            let option = match value {
                "" => format!("--{option}"),
                value => format!("--{option}={value}"),
            };
            changed
                .try_update_from([option])
                .map_err(|e| match e.kind() {
                    ErrorKind::UnknownArgument => Usage(format!(
                        "there is no setting '{name}'; `zse chat --help` lists them"
                    )),
                    _ => Usage(format!("/set {name}: {}", first_line(&e.to_string()))),
                })?;
        }
        settings(
            self.engine.tokenizer(),
            &changed.generate,
            &changed.sampling,
            0,
        )?;
        self.settings = changed;
        Ok(match value {
            "" if emptied => format!("{name} = none"),
            "" => format!("{name} = true"),
            value => format!("{name} = {value}"),
        })
    }

    /// The settings as text.
    pub(super) fn settings(&self) -> Result<String, Usage> {
        let g = self.generate()?;
        let p = &g.params;
        let seed = self
            .settings
            .sampling
            .seed
            .map_or("random".to_owned(), |s| s.to_string());
        let n = g
            .max_tokens
            .map_or("no limit".to_owned(), |n| n.to_string());
        Ok(format!(
            "temp {}, top-k {}, top-p {}, min-p {}, typical {}, repeat-penalty {}, \
             presence-penalty {}, frequency-penalty {}, seed {seed}, n-predict {n}, \
             ignore-eos {}, stop {:?}",
            p.temperature,
            p.top_k,
            p.top_p,
            p.min_p,
            p.typical_p,
            p.repetition_penalty,
            p.presence_penalty,
            p.frequency_penalty,
            g.ignore_eos,
            g.stop,
        ))
    }

    /// Tokens and speed so far.
    pub(super) fn stats(&self) -> String {
        let Some(last) = &self.last else {
            return "nothing was said yet".to_owned();
        };
        let t = &self.totals;
        let rate = |tokens, time| report::rate(tokens, time).unwrap_or(0.0);
        format!(
            "last answer: {}\nall {} answers: {} prompt tokens, {:.1} t/s; {} tokens generated, \
             {:.1} t/s\ncontext: {} of {} tokens",
            report::summary(&last.usage, &last.timings),
            t.answers,
            t.prompt_tokens,
            rate(t.prompt_tokens, t.prompt_time),
            t.completion_tokens,
            rate(t.completion_tokens.saturating_sub(t.answers), t.decode_time),
            last.usage.prompt_tokens + last.usage.completion_tokens,
            self.engine.context(),
        )
    }

    /// Writes the conversation to a file.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        let ChatRequest {
            messages, tools, ..
        } = self.request(0);
        let text = serde_json::to_string_pretty(&Saved { messages, tools })?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Continues the conversation in a file.
    pub(super) fn load(&mut self, file: &Path) -> anyhow::Result<()> {
        let Saved {
            mut messages,
            tools,
        } = serde_json::from_str(&super::super::read_text(file)?)
            .with_context(|| format!("{} is no saved conversation", file.display()))?;
        let has_system = messages.first().is_some_and(|m| m.role == Role::System);
        self.system = match has_system {
            true => Some(messages.remove(0).text()),
            false => None,
        };
        (self.messages, self.tools, self.from) = (messages, tools, 0);
        Ok(())
    }

    /// How many messages there are, the system prompt left out.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

/// The functions in a file: an array of OpenAI's tool objects.
pub(super) fn read_tools(file: &Path) -> anyhow::Result<Vec<Value>> {
    serde_json::from_str(&super::super::read_text(file)?)
        .with_context(|| format!("{} is no JSON array of tools", file.display()))
}

/// The first line of clap's explanation, without its label.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}
