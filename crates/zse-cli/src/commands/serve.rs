//! `zse serve`: models over HTTP.

use std::env::{self, VarError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use zse::{LoadOptions, ModelSource};
use zse_server::{Config, ServeError, Served, Server};

use crate::args::{Global, ServeArgs};
use crate::{Usage, log};

/// The variable that may hold a key.
const KEY_VARIABLE: &str = "ZSE_API_KEY";

pub(crate) fn run(args: &ServeArgs, global: &Global) -> anyhow::Result<()> {
    let start = Instant::now();
    let config = Config {
        address: SocketAddr::new(args.host, args.port),
        api_keys: keys(args)?,
        allowed_hosts: args.allow_host.clone(),
        allowed_origins: args.allow_origin.clone(),
        max_requests: usize::from(args.max_requests),
        report: Arc::new(|what| log::warn(format_args!("{what}"))),
        ..Config::default()
    };
    // Before the models: a port that is taken should not cost the time to load them.
    let server = Server::bind(config).map_err(|error| match error {
        ServeError::NoKey { .. } | ServeError::BadKey => Usage(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    let builtin = ["builtin".to_owned()];
    let names = match args.models.is_empty() {
        true => &builtin[..],
        false => &args.models,
    };
    let mut served: Vec<Served> = Vec::with_capacity(names.len());
    for name in names {
        served.push(load(name, args, global)?);
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "listening on http://{} after {:.3} s",
        server.address(),
        start.elapsed().as_secs_f64()
    )?;
    out.flush()?;
    server.run(served, zse_server::interrupted())?;
    Ok(())
}

/// Loads and warms up a model, and says how long each part took.
fn load(name: &str, args: &ServeArgs, global: &Global) -> anyhow::Result<Served> {
    let source: ModelSource = name.parse()?;
    let options = LoadOptions {
        sequences: usize::from(args.parallel),
        ..global.options(&source)?
    };
    let start = Instant::now();
    let checkpoint = source.open()?;
    let mapped = start.elapsed();
    let engine = super::load(&ModelSource::Checkpoint(checkpoint), &options)?;
    let loaded = start.elapsed();
    let served = Served::new(served_name(&source), engine.clone());
    served
        .warm_up()
        .with_context(|| format!("{source} failed on its first tokens"))?;
    let warm = start.elapsed();
    writeln!(
        io::stdout(),
        "{}: context {} tokens, {} at a time, {}; mapped in {:.3} s, packed in {:.3} s, warmed up in {:.3} s",
        served_name(&source),
        engine.context(),
        args.parallel,
        engine.device(),
        mapped.as_secs_f64(),
        (loaded - mapped).as_secs_f64(),
        (warm - loaded).as_secs_f64(),
    )?;
    Ok(served)
}

/// What clients call a model: its file without folder and extension.
fn served_name(source: &ModelSource) -> String {
    match source {
        ModelSource::Path(path) => {
            let stem = path.file_stem().unwrap_or(path.as_os_str());
            stem.to_string_lossy().into_owned()
        }
        other => other.to_string(),
    }
}

/// All keys: of the options, the environment, and the file.
fn keys(args: &ServeArgs) -> anyhow::Result<Vec<String>> {
    let mut keys = args.api_key.clone();
    match env::var(KEY_VARIABLE) {
        Ok(key) => keys.push(key),
        Err(VarError::NotPresent) => {}
        Err(VarError::NotUnicode(_)) => {
            return Err(Usage(format!("{KEY_VARIABLE} is not text")).into());
        }
    }
    if let Some(file) = &args.api_key_file {
        keys.extend(keys_of(file)?);
    }
    Ok(keys)
}

/// The keys in a file. One without keys is a mistake: the server would be open to everyone.
fn keys_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = super::read_text(file)?;
    let lines = text.lines().map(str::trim);
    let keys: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if keys.is_empty() {
        bail!("{} has no keys", file.display());
    }
    Ok(keys)
}
