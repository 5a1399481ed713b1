//! `zse pull`: a model from the hub to this machine.

use std::io::{self, Write};
use std::ops::ControlFlow;

use zse_hub::{Config, Hub, HubError, ModelRef, Pulled};

use crate::args::PullArgs;
use crate::term::{bytes, progress};
use crate::{Usage, interrupt};

pub(crate) fn run(args: &PullArgs) -> anyhow::Result<()> {
    let mut model = args.model.model()?;
    if let Some(revision) = &args.revision {
        if model.revision.is_some() {
            return Err(Usage(format!(
                "{model} and --revision {revision}: give one of them"
            ))
            .into());
        }
        // Checked as if it stood behind the name.
        model.revision = format!("{}@{revision}", model.repo)
            .parse::<ModelRef>()?
            .revision;
    }
    let mut config = Config::from_env()?;
    config.offline |= args.offline;
    let pulled = pull(config, &model, usize::from(args.jobs))?;
    let here = &pulled.model;
    writeln!(io::stdout(), "{}", here.path.display())?;
    Ok(())
}

/// Pulls a model, with a progress bar, and says what was chosen. Ctrl-C ends it and keeps what came.
pub(crate) fn pull(config: Config, model: &ModelRef, connections: usize) -> anyhow::Result<Pulled> {
    let hub = Hub::new(config)?;
    interrupt::catch()?;
    let bar = progress(
        0,
        "{bar:30} {percent:>3}% {bytes}/{total_bytes} {bytes_per_sec:>12} {eta:>4} {msg}",
    );
    let mut begun = false;
    let pulled = hub.pull(model, connections, |p| {
        bar.set_length(p.total);
        bar.set_position(p.done);
        if !begun && p.total > 0 {
            // What is here already must not count as speed.
            bar.reset_eta();
            begun = true;
        }
        bar.set_message(p.file.clone());
        match interrupt::take() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    // What the model is pulled for may not look whether Ctrl-C was pressed.
    interrupt::release();
    let pulled = pulled.map_err(|error| match error {
        HubError::Interrupted => {
            anyhow::anyhow!("interrupted; what came is kept: `zse pull {model}` goes on from there")
        }
        other => other.into(),
    })?;
    say(model, &pulled)?;
    Ok(pulled)
}

fn say(model: &ModelRef, pulled: &Pulled) -> io::Result<()> {
    let here = &pulled.model;
    let quant = here.quant.as_deref().unwrap_or("safetensors");
    let others: Vec<&str> = pulled
        .quants
        .iter()
        .map(String::as_str)
        .filter(|q| *q != quant)
        .collect();
    let others = match (others.is_empty(), &model.choice) {
        (false, zse_hub::Choice::Best) => format!("; there are also {}", others.join(", ")),
        _ => String::new(),
    };
    let fetched = match pulled.fetched {
        0 => "was here already".to_owned(),
        n => format!("{} fetched", bytes(n)),
    };
    let commit = here.commit.get(..8).unwrap_or(&here.commit);
    writeln!(
        io::stderr(),
        "{} at {commit}: {quant}, {}, {fetched}{others}",
        here.repo,
        bytes(here.bytes)
    )
}
