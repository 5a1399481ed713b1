//! `zse doctor`: does ZSE work on this machine?

use std::io::{self, Write};
use std::time::Instant;

use anyhow::bail;
use zse::{Device, Engine, Generate, LoadOptions, SampleParams};

use crate::args::{DoctorArgs, Global};
use crate::machine::Machine;
use crate::report;
use crate::term::bytes;

/// What is continued and scored, short enough for the reference.
const TEXT: &str = "What is ZSE? It runs language models.";

pub(crate) fn run(args: &DoctorArgs, global: &Global) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let machine = Machine::here();
    writeln!(
        out,
        "machine    ok: {}, {} threads, kernels: {}",
        machine.cpu, machine.threads, machine.isa
    )?;

    let source = args.model.source()?;
    let options = global.options(&source)?;
    let engine = super::load(&source, &options)?;
    writeln!(
        out,
        "model      ok: {} on {}",
        engine.model().info.name,
        engine.device()
    )?;

    let needed = engine.memory().total();
    match needed <= machine.available || machine.available == 0 {
        true => writeln!(
            out,
            "memory     ok: {} needed, {} available",
            bytes(needed),
            bytes(machine.available)
        )?,
        false => writeln!(
            out,
            "memory     tight: {} needed, {} available",
            bytes(needed),
            bytes(machine.available)
        )?,
    }

    let options = LoadOptions {
        device: Device::Reference,
        ..options
    };
    let reference_needs = options.memory(engine.model())?.total();
    let available = Machine::here().available;
    if reference_needs <= available || available == 0 {
        let difference = difference(&engine, &super::load(&source, &options)?)?;
        writeln!(out, "results    ok: {difference}")?;
    } else {
        writeln!(
            out,
            "results    skipped: the reference needs {}, {} available",
            bytes(reference_needs),
            bytes(available)
        )?;
    }
    writeln!(out, "speed      {}", speed(&engine)?)?;
    Ok(())
}

/// How far the results of `engine` are from the reference's; an error if that is too far.
fn difference(engine: &Engine, reference: &Engine) -> anyhow::Result<String> {
    let (difference, limit, unit) = if engine.is_embedder() {
        let embed = |engine: &Engine| engine.embed(&[TEXT]).map(|mut all| all.remove(0));
        let (given, expected) = (embed(engine)?, embed(reference)?);
        let cosine = given.iter().zip(&expected).map(|(a, b)| f64::from(a * b));
        (1.0 - cosine.sum::<f64>(), 0.01, "of cosine distance")
    } else if engine.is_reranker() {
        let score = |engine: &Engine| -> Result<f64, zse::Error> {
            let tokens = engine.pair_tokens(TEXT, TEXT, None)?;
            Ok(f64::from(engine.relevance(tokens, "")?))
        };
        (
            (score(engine)? - score(reference)?).abs(),
            0.01,
            "of relevance",
        )
    } else {
        let tokens = engine.tokenizer().encode(TEXT, true, false);
        let mean = |x: &[f32]| x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
        let given = mean(&engine.score(tokens.clone(), 1, "")?);
        let expected = mean(&reference.score(tokens, 1, "")?);
        ((given - expected).abs(), 0.1, "nats a token")
    };
    // Rounding activations to int8 moves either by far less than its limit.
    if difference.is_nan() || difference > limit {
        bail!(
            "results differ from the reference by {difference:.5} {unit} on {}; please report this \
             with the output of `zse hardware`",
            engine.device(),
        );
    }
    Ok(format!("{difference:.5} {unit} from the reference"))
}

/// How fast it is, in a line.
fn speed(engine: &Engine) -> Result<String, zse::Error> {
    if engine.is_embedder() {
        let start = Instant::now();
        engine.embed(&[TEXT])?;
        let time = start.elapsed().as_secs_f64();
        return Ok(format!("a short text in {:.1} ms", 1e3 * time));
    }
    if engine.is_reranker() {
        let start = Instant::now();
        engine.relevance(engine.pair_tokens(TEXT, TEXT, None)?, "")?;
        let time = start.elapsed().as_secs_f64();
        return Ok(format!("a short pair in {:.1} ms", 1e3 * time));
    }
    let settings = Generate {
        params: SampleParams::greedy(),
        max_tokens: Some(32),
        ignore_eos: true,
        ..Generate::default()
    };
    let done = engine.generate(TEXT, &settings)?.complete()?;
    Ok(report::summary(
        &done.finished.usage,
        &done.finished.timings,
    ))
}
