//! `zse doctor`: does ZSE work on this machine?

use std::io::{self, Write};

use anyhow::bail;
use zse::{Device, Generate, LoadOptions, SampleParams};

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

    let tokens = engine.tokenizer().encode(TEXT, true, false);
    let given = engine.score(tokens.clone(), 1)?;
    let reference = LoadOptions {
        device: Device::Reference,
        ..options
    };
    let expected = super::load(&source, &reference)?.score(tokens, 1)?;
    let mean = |x: &[f32]| x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
    let difference = (mean(&given) - mean(&expected)).abs();
    // Rounding activations to int8 moves the mean log-probability of a token by far less.
    if difference.is_nan() || difference > 0.1 {
        bail!(
            "results differ from the reference by {difference:.4} nats a token on {}; please \
             report this with the output of `zse hardware`",
            engine.device(),
        );
    }
    writeln!(
        out,
        "results    ok: {difference:.5} nats a token from the reference"
    )?;

    let settings = Generate {
        params: SampleParams::greedy(),
        max_tokens: Some(32),
        ignore_eos: true,
        ..Generate::default()
    };
    let done = engine.generate(TEXT, &settings)?.complete()?;
    writeln!(
        out,
        "speed      {}",
        report::summary(&done.finished.usage, &done.finished.timings)
    )?;
    Ok(())
}
