//! `zse imatrix`: how much each column of a model's weights matters, measured over a text.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::bail;
use zse::quantize::{GatherOptions, gather};

use super::quantize::refuse_own_source;
use crate::args::{Global, ImatrixArgs};
use crate::{interrupt, log, term};

pub(crate) fn run(args: &ImatrixArgs, global: &Global) -> anyhow::Result<()> {
    let start = Instant::now();
    let text = super::read_text(&args.file)?;
    let source = args.model.source()?;
    refuse_own_source(&source, &args.output)?;
    let defaults = GatherOptions::default();
    let options = GatherOptions {
        chunk: global.options(&source)?.context.unwrap_or(defaults.chunk),
        output: args.process_output,
        device: global.device,
        threads: global.threads,
    };
    interrupt::catch()?;
    let bar = term::progress(0, "{bar:30} {pos}/{len} chunks, {eta} left");
    let mut cancelled = None;
    let gathered = gather(source.open()?, &text, &options, |p| {
        let wanted = args.chunks.map_or(p.chunks, |n| p.chunks.min(n as usize));
        bar.set_length(wanted as u64);
        bar.set_position(p.done as u64);
        let is_enough = p.done >= wanted;
        if !is_enough && interrupt::take() {
            cancelled = Some((p.done, wanted));
        }
        match is_enough || cancelled.is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let gathered = gathered?;
    if let Some((done, wanted)) = cancelled {
        bail!("cancelled after {done} of {wanted} chunks");
    }
    if gathered.unseen() > 0 {
        log::warn(format_args!(
            "{} matrices of experts were never met, and their columns count as alike: give a longer text",
            gathered.unseen()
        ));
    }
    let text = args.file.file_name().unwrap_or_default();
    gathered.write(&args.output, &text.to_string_lossy())?;
    writeln!(
        io::stdout(),
        "{}: {} tensors over {} chunks of {} tokens in {:.1} s",
        args.output.display(),
        gathered.len(),
        gathered.chunks,
        gathered.chunk,
        start.elapsed().as_secs_f64()
    )?;
    Ok(())
}
