//! The `zse` command: arguments, terminal output, and nothing that the SDK could do.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod interrupt;
mod log;
mod machine;
mod report;
mod resolve;
#[cfg(unix)]
mod restart;
mod term;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use zse_hub::HubError;

use args::{Cli, Command};

/// A mistake in how the command was used; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::set(cli.log);
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => explain(&error),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let global = &cli.global;
    match cli.command.unwrap_or_else(|| Command::Chat(Box::default())) {
        Command::Chat(args) => commands::chat::run(*args, global),
        Command::Run(args) => commands::run::run(&args, global),
        Command::Serve(args) => commands::serve::run(&args, global),
        Command::Bench(args) => commands::bench::run(&args, global),
        Command::Info(args) => commands::info::run(&args, global),
        Command::Tokenize(args) => commands::tokenize::run(&args),
        Command::Perplexity(args) => commands::perplexity::run(&args, global),
        Command::Imatrix(args) => commands::imatrix::run(&args, global),
        Command::Convert(args) => commands::convert::run(&args, global),
        Command::Quantize(args) => commands::quantize::run(&args, global),
        Command::Pull(args) => commands::pull::run(&args),
        Command::Models(args) => commands::models::run(&args, global),
        Command::Hardware(args) => commands::hardware::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args, global),
    }
}

/// Whether the reader of our output has gone away.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Says what went wrong and why, and gives the exit code: 1 for a failure, 2 for wrong use.
fn explain(error: &anyhow::Error) -> ExitCode {
    // Whoever reads our output has seen enough (`zse ... | head`).
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors pass their cause's message on.
        if !said.contains(&cause) {
            eprintln!("  because: {cause}");
        }
        said = cause;
    }
    let is_usage = error.is::<Usage>()
        || matches!(
            error.downcast_ref(),
            Some(HubError::Name { .. } | HubError::Unknown { .. })
        )
        || matches!(
            error.downcast_ref::<zse::Error>(),
            Some(zse::Error::UnknownModel { .. })
        );
    ExitCode::from(if is_usage { 2 } else { 1 })
}
