//! The commands of a chat: `/help` and so on.

use std::path::Path;

use super::session::Session;
use crate::Usage;

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Continue,
    Exit,
}

const HELP: &str = "\
/help              this list
/system [TEXT]     set the system prompt; without TEXT, show it; `/system none` removes it
/set [NAME VALUE]  change a setting, such as `/set temp 0.5`; without NAME, show them
/save FILE         save the conversation
/load FILE         load a saved conversation
/stats             speed and token counts
/clear             forget what was said
/exit              end the chat (so does Ctrl-D)

Ctrl-C stops an answer. A line that ends with \\ goes on in the next; \"\"\" begins and ends a
message of several lines.";

/// Runs a command, given without its slash.
pub(super) fn run(command: &str, session: &mut Session) -> anyhow::Result<Outcome> {
    let (name, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    let rest = rest.trim();
    match name {
        "help" | "?" => say(HELP)?,
        "exit" | "quit" | "bye" => return Ok(Outcome::Exit),
        "clear" => {
            session.clear();
            say("cleared")?;
        }
        "stats" => say(&session.stats())?,
        "system" => match rest {
            "" => say(session
                .system()
                .unwrap_or("no system prompt; the model's own is used"))?,
            "none" => {
                session.set_system(None);
                say("system prompt removed")?;
            }
            text => {
                session.set_system(Some(text.to_owned()));
                say("system prompt set")?;
            }
        },
        "set" if rest.is_empty() => say(&session.settings()?)?,
        "set" => {
            let (name, value) = rest.split_once([' ', '=']).unwrap_or((rest, ""));
            say(&session.set(name, value.trim())?)?;
        }
        "save" => {
            session.save(file(rest, "/save")?)?;
            say(&format!("saved {} messages to {rest}", session.len()))?;
        }
        "load" => {
            session.load(file(rest, "/load")?)?;
            say(&format!("loaded {} messages from {rest}", session.len()))?;
        }
        _ => return Err(Usage(format!("there is no command /{name}; /help lists them")).into()),
    }
    Ok(Outcome::Continue)
}

fn file<'a>(name: &'a str, command: &str) -> Result<&'a Path, Usage> {
    match name {
        "" => Err(Usage(format!("{command} wants the name of a file"))),
        name => Ok(Path::new(name)),
    }
}

/// Prints a message of the chat itself.
fn say(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}")
}
