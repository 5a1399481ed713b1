//! `zse models check`: will a model run here, and in how much memory? Told before its weights are here.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::json;
use zse_hub::Config;
use zse_server::{Registry, Verdict};

use crate::args::{CheckArgs, Form, Global};
use crate::term::bytes;

pub(super) fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<()> {
    let model = args.model.model()?;
    let options = global.clone();
    let registry = Registry {
        hub: Config::from_env()?,
        device: global.device,
        context: global.ctx,
        options: Arc::new(move |source| options.options(source)),
    };
    let verdict = registry.check(&model)?;
    let mut out = io::stdout().lock();
    match args.form.form {
        Form::Json => writeln!(out, "{:#}", json!(verdict))?,
        Form::Table => write_text(&mut out, &verdict)?,
    }
    Ok(())
}

fn write_text(out: &mut impl Write, verdict: &Verdict) -> io::Result<()> {
    writeln!(out, "{}", verdict.model)?;
    let quant = verdict.quant.as_deref().unwrap_or("safetensors");
    writeln!(
        out,
        "  files         {quant}, {}",
        bytes(verdict.file_bytes)
    )?;
    writeln!(out, "  architecture  {}", printable(&verdict.architecture))?;
    match &verdict.why_not {
        None => writeln!(out, "  runs          yes, on {}", verdict.device)?,
        Some(why) => writeln!(out, "  runs          no: {}", printable(why))?,
    }
    if let Some(memory) = verdict.memory {
        let fits = match verdict.available {
            Some(available) if memory <= available => {
                format!("fits the {} available", bytes(available))
            }
            Some(available) => format!("more than the {} available", bytes(available)),
            None => "how much is available is not known".to_owned(),
        };
        writeln!(
            out,
            "  memory        {} with {} tokens of context: {fits}",
            bytes(memory),
            verdict.context
        )?;
    }
    Ok(())
}

/// Text of the hub without what would command the terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
