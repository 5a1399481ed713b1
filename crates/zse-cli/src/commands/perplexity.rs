//! `zse perplexity`: how well a model predicts a text.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::bail;
use serde_json::json;
use zse::LoadOptions;

use crate::args::{Global, PerplexityArgs};
use crate::{interrupt, log, report, term};

/// Tokens of a chunk where `--ctx` does not say: what published numbers are measured with.
const CHUNK: usize = 512;

pub(crate) fn run(args: &PerplexityArgs, global: &Global) -> anyhow::Result<()> {
    let text = super::read_text(&args.file)?;
    let source = args.model.source()?;
    let options = global.options_with(&source, &args.lora)?;
    let chunk = options.context.unwrap_or(CHUNK);
    let engine = super::load(
        &source,
        &LoadOptions {
            context: Some(chunk),
            ..options
        },
    )?;
    interrupt::catch()?;
    let bar = term::progress(
        0,
        "{bar:30} {pos}/{len} chunks, {eta} left, perplexity {msg}",
    );
    let start = std::time::Instant::now();
    let mut cancelled = None;
    let result = engine.perplexity(&text, chunk, |p| {
        let wanted = args.chunks.map_or(p.chunks, |n| n.clamp(1, p.chunks));
        bar.set_length(wanted as u64);
        bar.set_position(p.so_far.chunks as u64);
        bar.set_message(format!("{:.4}", p.so_far.perplexity));
        let is_enough = p.so_far.chunks >= wanted;
        if !is_enough && interrupt::take() {
            cancelled = Some((p.so_far.chunks, wanted));
        }
        match is_enough || cancelled.is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let result = result?;
    if let Some((done, wanted)) = cancelled {
        bail!("cancelled after {done} of {wanted} chunks");
    }
    log::info(format_args!(
        "measured in {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    let mut out = io::stdout().lock();
    if args.json {
        let object = json!({
            "perplexity": result.perplexity,
            "perplexity_error": result.perplexity * result.nll_error,
            "nll": result.nll,
            "nll_error": result.nll_error,
            "tokens": result.tokens,
            "chunks": result.chunks,
            "ctx": chunk,
            "elapsed_ms": report::millis(start.elapsed()),
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(
            out,
            "perplexity {:.4} +/- {:.4} (nll {:.5}) over {} tokens in {} chunks of {chunk}",
            result.perplexity,
            result.perplexity * result.nll_error,
            result.nll,
            result.tokens,
            result.chunks,
        )?;
    }
    Ok(())
}
