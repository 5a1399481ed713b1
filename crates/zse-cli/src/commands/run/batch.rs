//! `zse run --messages`: every line of a file is a conversation that wants its next message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::Value;
use zse::{ChatRequest, Completion, Engine, Generate, LoadOptions, Message};

use crate::args::{Global, RunArgs, random_seed, settings};
use crate::{log, report, term};

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Value>,
}

pub(super) fn run(file: &Path, args: &RunArgs, global: &Global) -> anyhow::Result<()> {
    let requests = read(file)?;
    let source = args.model.source()?;
    let parallel = args.parallel.clamp(1, requests.len().max(1));
    let options = LoadOptions {
        sequences: parallel,
        ..global.options(&source)?
    };
    let engine = super::super::load(&source, &options)?;
    let seed = args.sampling.seed.unwrap_or_else(random_seed);
    let settings = settings(engine.tokenizer(), &args.generate, &args.sampling, seed)?;

    let total = requests.len();
    // On a terminal the answers themselves show how far it is.
    let bar = match io::stdout().is_terminal() {
        true => ProgressBar::hidden(),
        false => term::progress(total as u64, "{bar:30} {pos}/{len} answers, {eta} left"),
    };
    let queue = Mutex::new(requests.into_iter().enumerate());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..parallel {
            let (engine, settings, queue, sender) = (&engine, &settings, &queue, sender.clone());
            scope.spawn(move || answer(engine, settings, queue, &sender));
        }
        drop(sender);
        let written = write_in_order(&receiver, args, &engine, &bar);
        // If that failed, workers find the queue empty and the channel closed.
        drop(receiver);
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.by_ref().for_each(drop);
        written
    })?;
    bar.finish_and_clear();
    log::info(format_args!("{total} answers"));
    Ok(())
}

/// The conversations of a file; `-` is standard input.
fn read(file: &Path) -> anyhow::Result<Vec<ChatRequest>> {
    let reader: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            let open = File::open(file).with_context(|| format!("cannot open {}", file.display()));
            Box::new(BufReader::new(open?))
        }
    };
    let mut requests = Vec::new();
    for (i, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", file.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).with_context(|| {
            format!(
                "{}:{} is not of the form {{\"messages\": [...], \"tools\": [...]}}",
                file.display(),
                i + 1
            )
        })?;
        requests.push(ChatRequest {
            messages: line.messages,
            tools: line.tools,
        });
    }
    Ok(requests)
}

type Answer = (usize, Result<Completion, zse::Error>);

/// Answers conversations until none is left.
fn answer(
    engine: &Engine,
    settings: &Generate,
    queue: &Mutex<impl Iterator<Item = (usize, ChatRequest)>>,
    sender: &mpsc::Sender<Answer>,
) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    while let Some((i, request)) = next() {
        let done = engine
            .chat(&request, settings)
            .and_then(|generation| generation.complete());
        if sender.send((i, done)).is_err() {
            return;
        }
    }
}

/// Prints answers in the order of their questions.
fn write_in_order(
    receiver: &mpsc::Receiver<Answer>,
    args: &RunArgs,
    engine: &Engine,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut out = io::stdout().lock();
    for (i, done) in receiver {
        early.insert(i, done);
        while let Some(done) = early.remove(&next) {
            let done = done.with_context(|| format!("conversation {} failed", next + 1))?;
            if args.json {
                let wants_logprobs = args.sampling.logprobs.is_some();
                let object = report::completion(&done, engine.tokenizer(), wants_logprobs);
                writeln!(out, "{object}")?;
            } else {
                writeln!(out, "{}\n", done.text.trim_end())?;
            }
            out.flush()?;
            next += 1;
            bar.set_position(next as u64);
        }
    }
    Ok(())
}
