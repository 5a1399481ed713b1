//! `zse run --messages`: every line of a file is a conversation that wants its next message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Value, json};
use zse::{ChatRequest, Completion, Engine, Generate, LoadOptions, Message, Tokenizer};

use crate::args::{Global, RunArgs, random_seed, settings};
use crate::{log, report, term};

/// A line of the file that asks for an answer.
struct Question {
    /// Counted from 1.
    line: usize,
    request: ChatRequest,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Value>,
}

pub(super) fn run(file: &Path, args: &RunArgs, global: &Global) -> anyhow::Result<()> {
    let questions = read(file)?;
    let source = args.model.source()?;
    let parallel = args.parallel.clamp(1, questions.len().max(1));
    let options = LoadOptions {
        sequences: parallel,
        ..global.options_with(&source, &args.lora)?
    };
    let engine = super::super::load(&source, &options)?;
    let seed = args.sampling.seed.unwrap_or_else(random_seed);
    let settings = settings(engine.tokenizer(), &args.generate, &args.sampling, seed)?;

    let total = questions.len();
    // On a terminal the answers themselves show how far it is.
    let bar = match io::stdout().is_terminal() {
        true => ProgressBar::hidden(),
        false => term::progress(total as u64, "{bar:30} {pos}/{len} answers, {eta} left"),
    };
    let queue = Mutex::new(questions.into_iter().enumerate());
    let (sender, receiver) = mpsc::channel();
    let failed = thread::scope(|scope| {
        for _ in 0..parallel {
            let (engine, settings, queue, sender) = (&engine, &settings, &queue, sender.clone());
            scope.spawn(move || answer(engine, settings, queue, &sender));
        }
        drop(sender);
        let written = write_in_order(&receiver, &bar, |line, done| match args.json {
            true => write_json(done, args, seed, engine.tokenizer()),
            false => write_text(done, &format!("{}:{line}", file.display()), &bar),
        });
        // If that failed, workers find the queue empty and the channel closed.
        drop(receiver);
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.by_ref().for_each(drop);
        written
    })?;
    bar.finish_and_clear();
    log::info(format_args!("{} answers", total - failed));
    if failed > 0 {
        bail!("{failed} of {total} conversations have no answer");
    }
    Ok(())
}

/// The conversations of a file; `-` is standard input.
fn read(file: &Path) -> anyhow::Result<Vec<Question>> {
    let reader: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            let open = File::open(file).with_context(|| format!("cannot open {}", file.display()));
            Box::new(BufReader::new(open?))
        }
    };
    let mut questions = Vec::new();
    for (number, line) in (1..).zip(reader.lines()) {
        let line = line.with_context(|| format!("cannot read {}", file.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).with_context(|| {
            format!(
                "{}:{number} is not of the form {{\"messages\": [...], \"tools\": [...]}}",
                file.display(),
            )
        })?;
        questions.push(Question {
            line: number,
            request: ChatRequest {
                messages: line.messages,
                tools: line.tools,
                ..ChatRequest::default()
            },
        });
    }
    Ok(questions)
}

/// What came of a question, and its line.
type Answer = (usize, Result<Completion, zse::Error>);

/// Answers conversations until none is left.
fn answer(
    engine: &Engine,
    settings: &Generate,
    queue: &Mutex<impl Iterator<Item = (usize, Question)>>,
    sender: &mpsc::Sender<(usize, Answer)>,
) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    while let Some((i, Question { line, request })) = next() {
        let done = engine
            .chat(&request, settings)
            .and_then(|generation| generation.complete());
        if sender.send((i, (line, done))).is_err() {
            return;
        }
    }
}

/// Prints answers in the order of their questions by `write`, which is given the line as well and
/// says whether it is an answer. Returns how many are none.
fn write_in_order(
    receiver: &mpsc::Receiver<(usize, Answer)>,
    bar: &ProgressBar,
    mut write: impl FnMut(usize, Result<Completion, zse::Error>) -> io::Result<bool>,
) -> anyhow::Result<usize> {
    let mut early = BTreeMap::new();
    let (mut next, mut failed) = (0, 0);
    for (i, answer) in receiver {
        early.insert(i, answer);
        while let Some((line, done)) = early.remove(&next) {
            failed += usize::from(!write(line, done)?);
            next += 1;
            bar.set_position(next as u64);
        }
    }
    Ok(failed)
}

/// Prints an answer as a line of JSON.
fn write_json(
    done: Result<Completion, zse::Error>,
    args: &RunArgs,
    seed: u64,
    tokenizer: &Tokenizer,
) -> io::Result<bool> {
    let object = match &done {
        Ok(done) => {
            let wants_logprobs = args.sampling.logprobs.is_some();
            let mut object = report::completion(done, tokenizer, wants_logprobs);
            object["seed"] = json!(seed);
            object
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{object}")?;
    out.flush()?;
    Ok(done.is_ok())
}

/// Prints an answer as text, or why there is none and where it was asked for.
fn write_text(
    done: Result<Completion, zse::Error>,
    place: &str,
    bar: &ProgressBar,
) -> io::Result<bool> {
    match &done {
        Ok(done) => {
            let mut out = io::stdout().lock();
            writeln!(out, "{}\n", done.text.trim_end())?;
            out.flush()?;
        }
        Err(error) => bar.suspend(|| eprintln!("error: {place}: {error}")),
    }
    Ok(done.is_ok())
}
