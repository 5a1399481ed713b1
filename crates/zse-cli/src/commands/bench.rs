//! `zse bench`: speed, with llama-bench's meanings.

mod output;
mod profile;

use std::io::{self, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use zse::bench::{Bench, BenchTest};
use zse::{Fuse, LoadOptions, Model};

use crate::Usage;
use crate::args::{BenchArgs, Format, Global};
use crate::machine::{Machine, peak_resident_bytes};
use crate::term::{self, Table};
use output::{Run, Subject};

pub(crate) fn run(args: &BenchArgs, global: &Global) -> anyhow::Result<()> {
    let tests = tests(args);
    if tests.is_empty() || args.repetitions == 0 {
        return Err(Usage("nothing to measure: give -p or -n, and -r, above 0".to_owned()).into());
    }
    if args.batch.contains(&0) || args.n_threads.contains(&0) {
        return Err(Usage("-b and -t must be above 0".to_owned()).into());
    }
    let source = args.model.source()?;
    let options = global.options_with(&source, &args.lora)?;
    let checkpoint = source.open()?;
    let machine = Machine::here();
    let threads = match &args.n_threads[..] {
        [] => vec![options.threads.unwrap_or(machine.threads)],
        given => given.to_vec(),
    };
    let fuses = match args.no_fuse {
        true => &[Fuse::All, Fuse::None][..],
        false => &[Fuse::All],
    };
    let steps = (threads.len() * fuses.len() * tests.len() * args.repetitions) as u64;
    let bar = term::progress(steps, "{bar:30} {pos}/{len} {msg}");
    let mut runs = Vec::new();
    let mut subject = None;
    for (&threads, &fuse) in threads
        .iter()
        .flat_map(|t| fuses.iter().map(move |f| (t, f)))
    {
        let options = LoadOptions {
            threads: Some(threads),
            fuse,
            ..options.clone()
        };
        let start = Instant::now();
        let mut bench = Bench::load(checkpoint.clone(), &options, &tests)?;
        let load = start.elapsed();
        for &test in &tests {
            bar.set_message(format!("{}, {threads} threads", test.name()));
            let (result, profile) = if args.profile {
                let (result, profile) = bench.profile(test, args.repetitions, |_| bar.inc(1))?;
                (result, Some(profile))
            } else {
                (bench.run(test, args.repetitions, |_| bar.inc(1))?, None)
            };
            runs.push(Run {
                result,
                profile,
                threads,
                fuse: bench.fuse(),
                load,
                peak_rss: peak_resident_bytes(),
                unix_time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            });
        }
        subject.get_or_insert_with(|| Subject {
            file: source.to_string(),
            kind: kind(bench.model()),
            bytes: weights(bench.model()).map(|t| t.data.len() as u64).sum(),
            parameters: weights(bench.model()).map(|t| t.elements()).sum(),
            backend: bench.backend().to_owned(),
            kv_type: options.kv_type,
            batch_tokens: bench.batch_tokens(),
        });
    }
    bar.finish_and_clear();
    let Some(subject) = subject else {
        return Ok(());
    };
    let mut out = io::stdout().lock();
    match args.output {
        Format::Table => write!(out, "{}", output::text(&subject, &runs, Table::plain))?,
        Format::Md => write!(out, "{}", output::text(&subject, &runs, Table::markdown))?,
        Format::Json => writeln!(out, "{:#}", output::json(&subject, &runs, &machine))?,
        Format::Csv => write!(out, "{}", output::csv(&subject, &runs, &machine))?,
    }
    Ok(())
}

/// Every combination, prompts before generations. As in llama-bench, a prompt and a generation are
/// tests of their own.
fn tests(args: &BenchArgs) -> Vec<BenchTest> {
    let mut tests = Vec::new();
    for &n_depth in &args.n_depth {
        for &n_batch_seqs in &args.batch {
            let test = |n_prompt, n_gen| BenchTest {
                n_prompt,
                n_gen,
                n_depth,
                n_batch_seqs,
            };
            tests.extend(
                args.n_prompt
                    .iter()
                    .filter(|n| **n > 0)
                    .map(|&n| test(n, 0)),
            );
            tests.extend(args.n_gen.iter().filter(|n| **n > 0).map(|&n| test(0, n)));
        }
    }
    tests
}

fn weights(model: &Model) -> impl Iterator<Item = zse::format::TensorView<'_>> {
    model.weights.checkpoint().tensors()
}

/// Architecture and the type of most weights, such as `llama q4_K`.
fn kind(model: &Model) -> String {
    let mut types: Vec<(&str, u64)> = Vec::new();
    for tensor in weights(model) {
        match types.iter_mut().find(|(name, _)| *name == tensor.ty.name()) {
            Some((_, n)) => *n += tensor.elements(),
            None => types.push((tensor.ty.name(), tensor.elements())),
        }
    }
    let most = types
        .into_iter()
        .max_by_key(|(_, n)| *n)
        .map_or("", |(name, _)| name);
    format!("{} {most}", model.info.architecture)
}
