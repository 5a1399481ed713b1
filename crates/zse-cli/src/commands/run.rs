//! `zse run`: one prompt, or a file of conversations.

mod batch;

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde_json::json;
use zse::{ChatRequest, Completion, Engine, Generate, Generation, Message, Role};

use crate::args::{Global, RunArgs, random_seed, settings};
use crate::{Usage, log, machine, report};

pub(crate) fn run(args: &RunArgs, global: &Global) -> anyhow::Result<()> {
    if let Some(file) = &args.messages {
        return batch::run(file, args, global);
    }
    let prompt = prompt(args)?;
    let source = args.model.source()?;
    let options = global.options_with(&source, &args.lora)?;
    let engine = super::load(&source, &options)?;
    let seed = args.sampling.seed.unwrap_or_else(random_seed);
    let settings = settings(engine.tokenizer(), &args.generate, &args.sampling, seed)?;
    let generation = start(&engine, args, &prompt, &settings)?;
    let done = match args.json {
        true => generation.complete()?,
        false => stream(generation)?,
    };
    if args.json {
        let wants_logprobs = args.sampling.logprobs.is_some();
        let mut object = report::completion(&done, engine.tokenizer(), wants_logprobs);
        object["seed"] = json!(seed);
        object["model"] = json!(engine.model().info.name);
        object["peak_rss"] = json!(machine::peak_resident_bytes());
        writeln!(io::stdout(), "{object}")?;
    }
    log::info(format_args!(
        "{}",
        report::summary(&done.finished.usage, &done.finished.timings)
    ));
    Ok(())
}

/// The prompt: as given, from a file, or from standard input if that is no terminal.
fn prompt(args: &RunArgs) -> anyhow::Result<String> {
    if let Some(text) = &args.prompt {
        return Ok(text.clone());
    }
    let text = match &args.file {
        Some(file) => super::read_text(file)?,
        None if io::stdin().is_terminal() => {
            let hint = "there is no prompt: give one with -p, or pipe it in (`zse chat` talks)";
            return Err(Usage(hint.to_owned()).into());
        }
        None => super::standard_input()?,
    };
    // The line end that an editor or `echo` adds is no part of a question.
    Ok(if args.raw {
        text
    } else {
        text.trim_end_matches(['\n', '\r']).to_owned()
    })
}

/// The generation: by the chat template where the model brings one or a system prompt asks for it.
fn start(
    engine: &Engine,
    args: &RunArgs,
    prompt: &str,
    settings: &Generate,
) -> Result<Generation, zse::Error> {
    let is_chat = !args.raw && (engine.has_chat_template() || args.system.prompt.is_some());
    if !is_chat {
        return engine.generate(prompt, settings);
    }
    let system = args
        .system
        .prompt
        .as_deref()
        .map(|text| Message::new(Role::System, text));
    let messages = system
        .into_iter()
        .chain([Message::new(Role::User, prompt)])
        .collect();
    engine.chat(&ChatRequest::new(messages), settings)
}

/// Prints the text as it comes, and ends it with a line end.
fn stream(mut generation: Generation) -> anyhow::Result<Completion> {
    let mut out = io::stdout().lock();
    let (mut text, mut tokens) = (String::new(), Vec::new());
    for chunk in &mut generation {
        let chunk = chunk?;
        out.write_all(chunk.text.as_bytes())?;
        out.flush()?;
        text.push_str(&chunk.text);
        tokens.extend(chunk.tokens);
    }
    if !text.ends_with('\n') {
        writeln!(out)?;
    }
    let finished = generation.finished().first().cloned();
    let finished = finished.context("the generation ended without saying how")?;
    Ok(Completion {
        text,
        tokens,
        finished,
    })
}
