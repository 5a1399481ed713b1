//! `zse models list`.

use std::io::{self, Write};

use anyhow::anyhow;
use serde_json::json;
use zse::Device;
use zse_hub::{Cache, Catalogue, Config, Filter, Listed, Listing, Shape};

use crate::Usage;
use crate::args::{Form, ListArgs};
use crate::term::{Table, bytes, count};

pub(super) fn run(args: &ListArgs, device: Device) -> anyhow::Result<()> {
    let filter = Filter {
        recommended: args.recommended,
        memory: limit(args, device)?,
        local: args.local,
        ..Filter::new(args.category.as_deref(), &args.quant)?
    };
    let here = Cache::new(Config::from_env()?.cache).list()?;
    let listing = Catalogue::builtin().list(&filter, &here);
    let mut out = io::stdout().lock();
    match args.form.form {
        Form::Json => writeln!(out, "{:#}", json!(listing))?,
        Form::Table => write_tables(&mut out, &listing, filter.quant.name)?,
    }
    Ok(())
}

/// Bytes that must suffice, where the user set a limit.
fn limit(args: &ListArgs, device: Device) -> anyhow::Result<Option<u64>> {
    match args.memory {
        Some(gib) if gib > 0.0 => Ok(Some((gib * f64::from(1 << 30)) as u64)),
        Some(gib) => Err(Usage(format!("--memory {gib}: give GiB")).into()),
        None if args.fits => device.available().map(Some).ok_or_else(|| {
            let device = device.resolved();
            anyhow!("nobody says how much memory {device} has available; give --memory GIB")
        }),
        None => Ok(None),
    }
}

fn write_tables(out: &mut impl Write, listing: &Listing, quant: &str) -> io::Result<()> {
    let mut table = Table::new(["id", "parameters", quant, "context", "for", "here"]);
    for Listed {
        entry,
        runs,
        memory,
        local,
    } in &listing.catalogue
    {
        let kinds: Vec<&str> = local
            .iter()
            .map(|m| m.quant.as_deref().unwrap_or("safetensors"))
            .collect();
        table.row([
            format!("{}{}", entry.id, if entry.recommended { " *" } else { "" }),
            count(entry.parameters),
            match runs {
                true => bytes(memory.bytes),
                false => "not run".to_owned(),
            },
            entry.context.to_string(),
            entry.categories.join(" "),
            kinds.join(" "),
        ]);
    }
    write!(out, "{}", table.plain())?;
    writeln!(
        out,
        "\n* recommended; {}: memory to run it in that quant, with up to {} tokens of context",
        quant,
        Shape::CONTEXT
    )?;
    if !listing.others.is_empty() {
        let mut table = Table::new(["on this machine beside those", "quant", "size"]);
        for model in &listing.others {
            table.row([
                model.repo.to_string(),
                model
                    .quant
                    .clone()
                    .unwrap_or_else(|| "safetensors".to_owned()),
                bytes(model.bytes),
            ]);
        }
        write!(out, "\n{}", table.plain())?;
    }
    Ok(())
}
