//! `zse convert`: a model as a `.zse` or GGUF file.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use zse::convert::{ConvertOptions, convert};
use zse::quantize::Importance;

use super::quantize::{refuse_own_source, say_resumed, types, warn_of_fallbacks, watched};
use crate::args::{ConvertArgs, Global};
use crate::term::bytes;
use crate::{interrupt, resolve};

pub(crate) fn run(args: &ConvertArgs, global: &Global) -> anyhow::Result<()> {
    let start = Instant::now();
    let model = resolve::source(&args.source)?;
    refuse_own_source(&model, &args.output)?;
    let source = model.open()?;
    let importance = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let options = ConvertOptions {
        target: args.target,
        mixture: args.quant,
        rules: args.tensor_type.clone(),
        pure: args.pure,
        allow_requantize: args.allow_requantize,
        importance: importance.map(Arc::new),
        merge: args.merge_lora.clone(),
        threads: global.threads,
    };
    interrupt::catch()?;
    let report = watched(|progress| convert(&source, &args.output, &options, progress))?;
    warn_of_fallbacks(&report.quantized);
    let mut out = io::stdout().lock();
    say_resumed(&report, &mut out)?;
    writeln!(
        out,
        "{}: {} ({:.2} bits per weight; tensors: {}) in {:.1} s",
        args.output.display(),
        bytes(report.file_bytes),
        report.quantized.bits_per_weight(),
        types(&report.quantized),
        start.elapsed().as_secs_f64(),
    )?;
    Ok(())
}
