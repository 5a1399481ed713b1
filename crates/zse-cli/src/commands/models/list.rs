//! `zse models list`.

use std::io::{self, Write};

use anyhow::anyhow;
use serde_json::{Value, json};
use zse_hub::{Cache, Catalogue, Config, Entry, LocalModel, QuantPlan};

use super::CONTEXT;
use crate::Usage;
use crate::args::{Form, ListArgs};
use crate::term::{Table, bytes, count};

pub(super) fn run(args: &ListArgs) -> anyhow::Result<()> {
    let quant = QuantPlan::parse(&args.quant).ok_or_else(|| {
        let known: Vec<&str> = QuantPlan::ALL.iter().map(|q| q.name).collect();
        Usage(format!(
            "--quant {}: known here are {}",
            args.quant,
            known.join(", ")
        ))
    })?;
    if let Some(category) = &args.category
        && !Catalogue::CATEGORIES.contains(&category.as_str())
    {
        let known = Catalogue::CATEGORIES.join(", ");
        return Err(Usage(format!("--category {category}: there are {known}")).into());
    }
    let limit = limit(args)?;
    let here = Cache::new(Config::from_env()?.cache).list()?;
    let of_entry = |entry: &Entry| -> Vec<LocalModel> {
        let is_its = |m: &&LocalModel| {
            let repo = m.repo.as_str();
            repo == entry.repo || Some(repo) == entry.gguf.as_deref()
        };
        here.iter().filter(is_its).cloned().collect()
    };
    let rows: Vec<(&Entry, Vec<LocalModel>)> = Catalogue::builtin()
        .models
        .iter()
        .filter(|e| {
            args.category
                .as_ref()
                .is_none_or(|c| e.categories.contains(c))
        })
        .filter(|e| !args.recommended || e.recommended)
        .filter(|e| limit.is_none_or(|limit| e.is_runnable() && memory(e, quant) <= limit))
        .map(|e| (e, of_entry(e)))
        .filter(|(_, local)| !args.local || !local.is_empty())
        .collect();
    // Filters are about what the catalogue knows: of other models only the size is known.
    let is_filtered = args.category.is_some() || args.recommended || limit.is_some();
    let others: Vec<&LocalModel> = here
        .iter()
        .filter(|m| {
            !is_filtered
                && Catalogue::builtin()
                    .models
                    .iter()
                    .all(|e| !of_entry(e).contains(m))
        })
        .collect();
    let mut out = io::stdout().lock();
    match args.form.form {
        Form::Json => writeln!(out, "{:#}", as_json(&rows, &others, quant))?,
        Form::Table => write_tables(&mut out, &rows, &others, quant)?,
    }
    Ok(())
}

/// Bytes that must suffice, where the user set a limit.
fn limit(args: &ListArgs) -> anyhow::Result<Option<u64>> {
    match args.memory {
        Some(gib) if gib > 0.0 => Ok(Some((gib * f64::from(1 << 30)) as u64)),
        Some(gib) => Err(Usage(format!("--memory {gib}: give GiB")).into()),
        None if args.fits => zse::system_memory()
            .map(|memory| Some(memory.available))
            .ok_or_else(|| {
                anyhow!("this system does not say how much memory is available; give --memory GIB")
            }),
        None => Ok(None),
    }
}

fn memory(entry: &Entry, quant: &QuantPlan) -> u64 {
    entry.shape.memory(quant, entry.context.min(CONTEXT))
}

fn local_json(model: &LocalModel) -> Value {
    json!({
        "repo": model.repo.as_str(),
        "commit": model.commit,
        "quant": model.quant,
        "bytes": model.bytes,
        "path": model.path.display().to_string(),
    })
}

fn as_json(rows: &[(&Entry, Vec<LocalModel>)], others: &[&LocalModel], quant: &QuantPlan) -> Value {
    let catalogue: Vec<Value> = rows
        .iter()
        .map(|(entry, local)| {
            let mut object = json!(entry);
            object["runs"] = entry.is_runnable().into();
            object["memory"] = json!({
                "quant": quant.name,
                "context": entry.context.min(CONTEXT),
                "bytes": memory(entry, quant),
            });
            object["local"] = local.iter().map(local_json).collect();
            object
        })
        .collect();
    json!({ "catalogue": catalogue, "others": others.iter().map(|m| local_json(m)).collect::<Vec<_>>() })
}

fn write_tables(
    out: &mut impl Write,
    rows: &[(&Entry, Vec<LocalModel>)],
    others: &[&LocalModel],
    quant: &QuantPlan,
) -> io::Result<()> {
    let mut table = Table::new(["id", "parameters", quant.name, "context", "for", "here"]);
    for (entry, local) in rows {
        let kinds: Vec<&str> = local
            .iter()
            .map(|m| m.quant.as_deref().unwrap_or("safetensors"))
            .collect();
        table.row([
            format!("{}{}", entry.id, if entry.recommended { " *" } else { "" }),
            count(entry.parameters),
            match entry.is_runnable() {
                true => bytes(memory(entry, quant)),
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
        "\n* recommended; {}: memory to run it in that quant, with up to {CONTEXT} tokens of context",
        quant.name
    )?;
    if !others.is_empty() {
        let mut table = Table::new(["on this machine beside those", "quant", "size"]);
        for model in others {
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
