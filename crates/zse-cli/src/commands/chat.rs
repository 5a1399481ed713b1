//! `zse chat`: a conversation in the terminal.

mod input;
mod session;
mod slash;

use std::io::{self, Write};

use console::style;

use crate::args::{ChatArgs, Global};
use crate::{interrupt, is_closed_pipe, term};
use input::{Input, Line};
use session::{Answer, Session};
use slash::Outcome;

pub(crate) fn run(args: ChatArgs, global: &Global) -> anyhow::Result<()> {
    let source = args.model.source()?;
    let tools = args.tools.as_deref().map(session::read_tools).transpose()?;
    let options = global.options_with(&source, &args.lora)?;
    let engine = super::load(&source, &options)?;
    let is_interactive = term::is_interactive();
    if is_interactive {
        let about = format!(
            "{} on {}, context {} tokens",
            engine.model().info.name,
            engine.device(),
            engine.context(),
        );
        println!("{} {about}", style("ZSE").bold());
        println!(
            "{}",
            style("/help lists commands, Ctrl-C stops an answer, Ctrl-D ends.").dim()
        );
        interrupt::catch()?;
    }
    let mut session = Session::new(engine, args.generate, args.sampling);
    if let Some(file) = &args.load {
        session.load(file)?;
    }
    // What is given here counts more than what the file says.
    if let Some(tools) = tools {
        session.set_tools(tools);
    }
    if let Some(system) = args.system.prompt {
        session.set_system(Some(system));
    }
    let mut input = Input::new(is_interactive)?;
    loop {
        let text = match input.read("> ")? {
            Line::End => return Ok(()),
            Line::Interrupted => {
                println!("{}", style("Ctrl-D or /exit ends the chat.").dim());
                continue;
            }
            Line::Text(text) if text.trim().is_empty() => continue,
            Line::Text(text) => text,
        };
        let result = match text.strip_prefix('/') {
            Some(command) => slash::run(command, &mut session),
            None => talk(&mut session, &mut input, text).map(|()| Outcome::Continue),
        };
        match result {
            Ok(Outcome::Continue) => {}
            Ok(Outcome::Exit) => return Ok(()),
            // At a terminal a mistake is no reason to end the chat; in a script it is.
            Err(error) if is_interactive && !is_closed_pipe(&error) => {
                eprintln!("{} {error:#}", style("error:").red().for_stderr());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Says `text` to the model and prints its answer. A question without one is forgotten: after it,
/// the next would be the second in a row, which templates refuse.
fn talk(session: &mut Session, input: &mut Input, text: String) -> anyhow::Result<()> {
    let before = session.mark();
    session.say(text);
    let answered = answer(session, input);
    if !matches!(answered, Ok(true)) {
        session.rewind(before);
    }
    answered.map(drop)
}

/// Prints the answer, and goes on while the model calls tools; whether it came to an end.
fn answer(session: &mut Session, input: &mut Input) -> anyhow::Result<bool> {
    loop {
        let calls = match session.answer(&mut io::stdout().lock())? {
            Answer::Text => return Ok(true),
            Answer::Nothing => return Ok(false),
            Answer::Calls(calls) => calls,
        };
        for call in calls {
            let function = &call.function;
            let shown = format!("calls {}({})", function.name, function.arguments);
            writeln!(io::stdout(), "{}", style(shown).cyan())?;
            let result = match input.read(&format!("result of {}> ", function.name))? {
                Line::Text(result) => result,
                Line::Interrupted | Line::End => return Ok(false),
            };
            session.tool_result(&call, result);
        }
    }
}
