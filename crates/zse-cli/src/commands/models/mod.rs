//! `zse models`: the catalogue, the hub, and what is on this machine.

mod about;
mod check;
mod list;

use std::io::{self, Write};

use anyhow::bail;
use serde_json::json;
use zse_hub::{Cache, Config, Hub, LocalModel, Order, Search};

use crate::Usage;
use crate::args::{Form, Global, ModelId, ModelsArgs, ModelsCommand, RemoveArgs, SearchArgs};
use crate::term::{self, Table, bytes, count};

pub(crate) fn run(args: &ModelsArgs, global: &Global) -> anyhow::Result<()> {
    match &args.command {
        ModelsCommand::List(args) => list::run(args, global.device),
        ModelsCommand::Search(args) => search(args),
        ModelsCommand::Check(args) => check::run(args, global),
        ModelsCommand::Info(args) => about::run(args),
        ModelsCommand::Rm(args) => remove(args),
        ModelsCommand::Path(args) => {
            let (_, model) = local(&args.model)?;
            writeln!(io::stdout(), "{}", model.path.display())?;
            Ok(())
        }
    }
}

fn search(args: &SearchArgs) -> anyhow::Result<()> {
    let hub = Hub::new(Config::from_env()?)?;
    let found = hub.search(&Search {
        text: Some(&args.text),
        gguf_only: !args.all,
        order: Order::Downloads,
        limit: usize::from(args.limit),
    })?;
    let mut out = io::stdout().lock();
    if args.form.form == Form::Json {
        writeln!(out, "{:#}", json!(found))?;
        return Ok(());
    }
    let mut table = Table::new(["model", "downloads", "likes", "task", "gguf", "gated"]);
    let yes = |is: bool| if is { "yes" } else { "" }.to_owned();
    for model in &found {
        table.row([
            model.id.clone(),
            count(model.downloads),
            count(model.likes),
            model.task.clone().unwrap_or_default(),
            yes(model.gguf),
            yes(model.gated),
        ]);
    }
    write!(out, "{}", table.plain())?;
    Ok(())
}

/// The copy of a model that is on this machine, and the cache that it is in.
fn local(id: &ModelId) -> anyhow::Result<(Cache, LocalModel)> {
    let model = id.model()?;
    let cache = Cache::new(Config::from_env()?.cache);
    match cache.find(&model) {
        Some(found) => Ok((cache, found)),
        None => bail!(
            "{} is not on this machine; get it with `zse pull {}`",
            id.id(),
            id.id()
        ),
    }
}

fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let (cache, model) = local(&args.model)?;
    let what = format!("{} ({})", model.path.display(), bytes(model.bytes));
    if !args.yes {
        if !term::is_interactive() {
            return Err(Usage(format!("to remove {what} without being asked, give --yes")).into());
        }
        let mut out = io::stdout();
        write!(out, "Remove {what}? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was removed");
        }
    }
    let freed = cache.remove(&model)?;
    writeln!(io::stdout(), "removed {what}: {} free", bytes(freed))?;
    Ok(())
}
