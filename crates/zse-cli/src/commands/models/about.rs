//! `zse models info`: what is known of a model without asking the hub.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::json;
use zse_hub::{Cache, Catalogue, Config, QuantPlan, Shape};

use crate::args::{AboutArgs, Form};
use crate::term::{Table, bytes, count};

pub(super) fn run(args: &AboutArgs) -> anyhow::Result<()> {
    let model = args.model.model()?;
    let repo = model.repo.as_str();
    let entries = &Catalogue::builtin().models;
    let by_id = Catalogue::builtin().find(args.model.id().split(':').next().unwrap_or_default());
    let entry = by_id.or_else(|| {
        entries
            .iter()
            .find(|e| e.repo == repo || e.gguf.as_deref() == Some(repo))
    });
    let here = Cache::new(Config::from_env()?.cache).find(&model);
    let mut out = io::stdout().lock();
    let Some(entry) = entry else {
        let Some(here) = here else {
            bail!(
                "{model} is neither in the catalogue nor on this machine: `zse models check {model}` asks the hub"
            );
        };
        if args.form.form == Form::Json {
            writeln!(
                out,
                "{:#}",
                json!({ "repo": repo, "path": here.path.display().to_string(), "bytes": here.bytes })
            )?;
        } else {
            writeln!(
                out,
                "{repo}\n  here         {} ({})",
                here.path.display(),
                bytes(here.bytes)
            )?;
        }
        return Ok(());
    };
    let context = entry.context.min(Shape::CONTEXT);
    if args.form.form == Form::Json {
        let mut object = json!(entry);
        object["runs"] = entry.is_runnable().into();
        object["path"] = here.map(|h| h.path.display().to_string()).into();
        object["memory"] = QuantPlan::ALL
            .iter()
            .map(|q| {
                json!({ "quant": q.name, "weights": entry.shape.weight_bytes(q),
                             "context": context, "total": entry.shape.memory(q, context) })
            })
            .collect();
        writeln!(out, "{:#}", object)?;
        return Ok(());
    }
    writeln!(out, "{}", entry.name)?;
    let shape = &entry.shape;
    let lines = [
        ("id", entry.id.clone()),
        ("made at", entry.repo.clone()),
        (
            "GGUF files",
            entry
                .gguf
                .clone()
                .unwrap_or_else(|| "none known".to_owned()),
        ),
        ("architecture", entry.architecture.clone()),
        ("parameters", count(entry.parameters)),
        ("layers", format!("{}, width {}", shape.layers, shape.width)),
        ("context", format!("{} tokens", entry.context)),
        ("licence", entry.licence.clone()),
        ("for", entry.categories.join(", ")),
        (
            "runs here",
            match entry.not_run.as_str() {
                "" => "yes".to_owned(),
                why => format!("no: {why}"),
            },
        ),
        (
            "on this disk",
            match here {
                Some(here) => format!("{} ({})", here.path.display(), bytes(here.bytes)),
                None => "no".to_owned(),
            },
        ),
        ("source", entry.source.clone()),
    ];
    for (what, value) in lines {
        writeln!(out, "  {what:<12} {value}")?;
    }
    let mut table = Table::new(["quant", "weights", &format!("with {context} tokens")]);
    for quant in &QuantPlan::ALL {
        table.row([
            quant.name.to_owned(),
            bytes(entry.shape.weight_bytes(quant)),
            bytes(entry.shape.memory(quant, context)),
        ]);
    }
    write!(out, "\n{}", table.plain())?;
    Ok(())
}
