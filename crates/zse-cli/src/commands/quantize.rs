//! `zse quantize`: the same model with weights of other types.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use zse::ModelSource;
use zse::convert::ConvertReport;
use zse::quantize::{Importance, QuantizeOptions, QuantizeProgress, QuantizeReport, quantize};

use crate::args::{Global, QuantizeArgs};
use crate::term::{bytes, progress};
use crate::{Usage, interrupt, log, resolve};

pub(crate) fn run(args: &QuantizeArgs, global: &Global) -> anyhow::Result<()> {
    let start = Instant::now();
    let model = resolve::source(&args.source)?;
    refuse_own_source(&model, &args.output)?;
    let source = model.open()?;
    let importance = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let options = QuantizeOptions {
        pure: args.pure,
        allow_requantize: args.allow_requantize,
        importance: importance.map(Arc::new),
        threads: global.threads,
        ..QuantizeOptions::new(args.quant)
    };
    interrupt::catch()?;
    let report = watched(|progress| quantize(&source, &args.output, &options, progress))?;
    let mut out = io::stdout().lock();
    say_resumed(&report, &mut out)?;
    let report = report.quantized;
    warn_of_fallbacks(&report);
    writeln!(
        out,
        "{}: {} -> {} ({:.2} bits per weight; tensors: {}) in {:.1} s",
        args.output.display(),
        bytes(report.bytes_before),
        bytes(report.bytes_after),
        report.bits_per_weight(),
        types(&report),
        start.elapsed().as_secs_f64(),
    )?;
    Ok(())
}

/// Says how much an interrupted run had left.
pub(super) fn say_resumed(report: &ConvertReport, out: &mut impl Write) -> io::Result<()> {
    match report.resumed {
        0 => Ok(()),
        tensors => writeln!(out, "{tensors} tensors were finished before"),
    }
}

/// Runs `work` under a progress bar; Ctrl-C ends it.
pub(super) fn watched<T>(
    work: impl FnOnce(&mut dyn FnMut(QuantizeProgress<'_>) -> ControlFlow<()>) -> T,
) -> T {
    let bar = progress(
        0,
        "{bar:30} {percent:>3}% {bytes}/{total_bytes} {bytes_per_sec} {eta:>4} {msg}",
    );
    let done = work(&mut |p| {
        bar.set_length(p.total);
        bar.set_position(p.done);
        bar.set_message(format!("{} {} -> {}", p.tensor, p.from, p.to));
        match interrupt::take() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    done
}

/// Says which tensors did not get the type that was asked for.
pub(super) fn warn_of_fallbacks(report: &QuantizeReport) {
    if let [(first, ty), rest @ ..] = &report.fallbacks[..] {
        log::warn(format_args!(
            "{} tensors got another type because blocks of the one wanted do not divide their \
             rows ({first}: {ty})",
            rest.len() + 1,
        ));
    }
}

/// How many tensors of each type there are, for people.
pub(super) fn types(report: &QuantizeReport) -> String {
    let types = report.types.iter().map(|(ty, n)| format!("{n} {ty}"));
    types.collect::<Vec<_>>().join(", ")
}

/// The source is read while the result is written: they cannot be one file.
pub(super) fn refuse_own_source(model: &ModelSource, output: &Path) -> Result<(), Usage> {
    let ModelSource::Path(path) = model else {
        return Ok(());
    };
    match (path.canonicalize(), output.canonicalize()) {
        (Ok(from), Ok(to)) if from == to => Err(Usage(format!(
            "{} is both source and result; give another -o",
            path.display()
        ))),
        _ => Ok(()),
    }
}
