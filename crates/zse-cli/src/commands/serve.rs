//! `zse serve`: models over HTTP.

use std::env::{self, VarError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use zse::plan::{Goal, Mode, plan};
use zse::{LoadOptions, ModelSource, SwapConfig, SwapDisk};
#[cfg(unix)]
use zse_server::Ended;
use zse_server::{Config, Registry, ServeError, Served, Server};

use crate::args::{Global, Room, ServeArgs};
#[cfg(unix)]
use crate::restart;
use crate::{Usage, log, resolve};

/// The variable that may hold a key.
const KEY_VARIABLE: &str = "ZSE_API_KEY";
/// The variable that may hold a key which may manage models.
const ADMIN_KEY_VARIABLE: &str = "ZSE_ADMIN_KEY";

pub(crate) fn run(args: &ServeArgs, global: &Global) -> anyhow::Result<()> {
    let start = Instant::now();
    // What is available counts before models take it.
    let budget = (args.budget)
        .map(|room| super::plan::goal(room, global.device).map(|goal| goal.memory))
        .transpose()?;
    // Of a GPU's, the part that its driver takes for the program is no model's.
    let of_models =
        budget.map(|bytes| bytes.saturating_sub(global.device.own_memory().unwrap_or(0)));
    let args = &ServeArgs {
        budget: budget.map(Room::Bytes),
        ..args.clone()
    };
    let config = Config {
        address: SocketAddr::new(args.host, args.port),
        api_keys: keys(&args.api_key, KEY_VARIABLE, args.api_key_file.as_deref())?,
        admin_keys: keys(
            &args.admin_key,
            ADMIN_KEY_VARIABLE,
            args.admin_key_file.as_deref(),
        )?,
        allowed_hosts: args.allow_host.clone(),
        allowed_origins: args.allow_origin.clone(),
        max_requests: usize::from(args.max_requests),
        model_memory: args.models_memory.or(of_models),
        model_idle: args.idle_unload.map(Duration::from_secs),
        aliases: args.alias.clone(),
        registry: registry(args, global),
        adapter_folders: args.lora_dir.clone(),
        report: Arc::new(|what| log::warn(format_args!("{what}"))),
        // Where a process cannot become another one, it serves on with what still works.
        #[cfg(unix)]
        gpu_state: restart::gpu_state(),
        ..Config::default()
    };
    #[cfg(unix)]
    let (restart, taken) = restart::Restart::begin(config.address, global.device)?;
    #[cfg(not(unix))]
    let taken = None;
    // Before the models: a port that is taken should not cost the time to load them.
    let server = match taken {
        Some(listener) => Server::on(listener, config),
        None => Server::bind(config),
    };
    let server = server.map_err(|error| match error {
        ServeError::NoKey { .. } | ServeError::BadKey => Usage(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    let mut served = models(args, global)?;
    server.check(&served)?;
    // Those that were named are ready before the first client asks.
    let named = args
        .models
        .len()
        .max(usize::from(args.models_dir.is_empty()));
    for model in &mut served[..named] {
        load(model, args)?;
    }
    // Whoever reads the line may tell the server to stop at once.
    let stop = server.interrupted()?;
    let mut out = io::stdout();
    writeln!(
        out,
        "listening on http://{} after {:.3} s",
        server.address(),
        start.elapsed().as_secs_f64()
    )?;
    out.flush()?;
    match server.run(served, stop)? {
        #[cfg(unix)]
        Ended::Broken(listener) => Err(restart.again(listener)),
        _ => Ok(()),
    }
}

/// All models: those that are named, then those of the folders.
fn models(args: &ServeArgs, global: &Global) -> anyhow::Result<Vec<Served>> {
    let mut sources: Vec<(String, ModelSource)> = Vec::new();
    for model in &args.models {
        // What is there under the whole text is a file whose name has a `=`.
        let named = model.split_once('=').filter(|_| !Path::new(model).exists());
        sources.push(match named {
            Some((name, model)) => (name.to_owned(), resolve::source(model)?),
            None => {
                let source = resolve::source(model)?;
                (served_name(&source), source)
            }
        });
    }
    for folder in &args.models_dir {
        sources.extend(files(folder)?);
    }
    if sources.is_empty() && args.models_dir.is_empty() {
        sources.push(("builtin".to_owned(), ModelSource::Builtin));
    }
    if let Some(name) = args
        .pin
        .iter()
        .find(|&pin| sources.iter().all(|(name, _)| name != pin))
    {
        return Err(Usage(format!("--pin {name}: there is no model of this name")).into());
    }
    if let ([first, ..], true) = (&args.lora[..], sources.len() > 1) {
        let why = format!(
            "--lora {first}: several models are served, and it does not say which one it is for: load it \
             with /v1/load_lora_adapter, which does (see --lora-dir)"
        );
        return Err(Usage(why).into());
    }
    if let Some(folder) = args.lora_dir.iter().find(|folder| !folder.is_dir()) {
        let why = format!("--lora-dir {}: it is no folder", folder.display());
        return Err(Usage(why).into());
    }
    if args.kv_compact.is_some() && args.kv_swap_memory == 0 && args.kv_swap_dir.is_none() {
        let why = "--kv-compact needs --kv-swap-memory or --kv-swap-dir: it is what is there that it \
                   makes smaller";
        return Err(Usage(why.to_owned()).into());
    }
    let serve = |(name, source): (String, ModelSource)| {
        let options = LoadOptions {
            adapters: args.lora.clone(),
            ..options(&source, args, global)?
        };
        let is_pinned = args.pin.contains(&name);
        let served = Served::on_request(name, source, options);
        Ok(if is_pinned { served.pinned() } else { served })
    };
    sources.into_iter().map(serve).collect()
}

/// How a model of `source` is loaded.
fn options(
    source: &ModelSource,
    args: &ServeArgs,
    global: &Global,
) -> Result<LoadOptions, zse::Error> {
    let options = LoadOptions {
        sequences: usize::from(args.parallel),
        swap: SwapConfig {
            memory: args.kv_swap_memory,
            disk: args.kv_swap_dir.as_ref().map(|folder| SwapDisk {
                folder: folder.clone(),
                bytes: args.kv_swap_disk,
            }),
            compact: args.kv_compact,
        },
        ..global.options(source)?
    };
    match args.budget {
        Some(Room::Bytes(budget)) => fit(source, &options, budget, args.mode),
        // Was made a number at the start.
        Some(Room::Auto) | None => Ok(options),
    }
}

/// Where models come from that are asked for while the server runs. What is wrong with the variables of
/// the hub keeps nobody from serving what is here.
fn registry(args: &ServeArgs, global: &Global) -> Option<Registry> {
    let hub = zse_hub::Config::from_env();
    let hub = hub.inspect_err(|error| log::warn(format_args!("no models can be fetched: {error}")));
    let (args, device, context) = (args.clone(), global.device, global.ctx);
    let global = global.clone();
    Some(Registry {
        hub: hub.ok()?,
        device,
        context,
        options: Arc::new(move |source| options(source, &args, &global)),
    })
}

/// `options` as a model of `source` fits `budget` bytes with the weights that it has.
fn fit(
    source: &ModelSource,
    options: &LoadOptions,
    budget: u64,
    mode: Mode,
) -> Result<LoadOptions, zse::Error> {
    let whole = Goal::for_memory(budget);
    let goal = Goal {
        mode,
        may_convert: false,
        program: options.device.own_memory().unwrap_or(whole.program),
        ..whole
    };
    let plan = plan(source.open()?, options, &goal)?;
    if plan.resident < plan.layers {
        log::warn(format_args!(
            "{source}: {budget} bytes hold {} of {} layers; the others are read from the file for \
             each token, which is slow. `zse info {source} --budget {budget}` says which type of \
             weights would fit",
            plan.resident, plan.layers,
        ));
    }
    Ok(plan.options)
}

/// The models of a folder: its GGUF files, of split ones the first, its `.zse` files, and its
/// directories that hold a model. Of those with the same name, one: the `.zse` file if there is one.
fn files(folder: &Path) -> anyhow::Result<Vec<(String, ModelSource)>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_file = path.extension().is_some_and(|e| e == "gguf" || e == "zse") && path.is_file();
        let is_model = is_file || path.join("config.json").is_file();
        let name = served_name(&ModelSource::Path(path.clone()));
        match part(&name) {
            _ if !is_model => {}
            None => found.push((name, ModelSource::Path(path))),
            Some((whole, 1)) => found.push((whole.to_owned(), ModelSource::Path(path))),
            Some(_) => {}
        }
    }
    // Of one model in several forms, the one that is ready to be mapped comes first, and counts.
    let is_other = |source: &ModelSource| !matches!(source, ModelSource::Path(path) if path.extension().is_some_and(|e| e == "zse"));
    found.sort_by_cached_key(|(name, source)| (name.clone(), is_other(source), source.to_string()));
    found.dedup_by(|(later, _), (first, _)| later == first);
    if found.is_empty() {
        bail!(
            "{} has no models: put GGUF or .zse files into it, or directories with config.json",
            folder.display()
        );
    }
    Ok(found)
}

/// The name of a split model and the number of this file of it: `model-00001-of-00003`.
fn part(name: &str) -> Option<(&str, u32)> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (whole, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    match is_number(count) && is_number(number) {
        true => Some((whole, number.parse().ok()?)),
        false => None,
    }
}

/// Loads and warms up a model, and says how long each part took.
fn load(served: &mut Served, args: &ServeArgs) -> anyhow::Result<()> {
    let name = served.name().to_owned();
    let engine = served
        .load()
        .with_context(|| format!("cannot serve {name}"))?
        .clone();
    super::warn_of_context(&engine);
    let times = served.times();
    writeln!(
        io::stdout(),
        "{name}: context {} tokens, {} at a time, {}; mapped in {:.3} s, packed in {:.3} s, warmed up in {:.3} s",
        engine.context(),
        args.parallel,
        engine.device(),
        times.map.as_secs_f64(),
        times.pack.as_secs_f64(),
        times.warm_up.as_secs_f64(),
    )?;
    Ok(())
}

/// What clients call a model: its file without folder and extension.
fn served_name(source: &ModelSource) -> String {
    match source {
        ModelSource::Path(path) => {
            // The name of a directory may have dots.
            let name = match path.is_dir() {
                true => path.file_name(),
                false => path.file_stem(),
            };
            let name = name.unwrap_or(path.as_os_str());
            name.to_string_lossy().into_owned()
        }
        other => other.to_string(),
    }
}

/// All keys of a kind: of the options, a variable, and a file.
fn keys(given: &[String], variable: &str, file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let mut keys = given.to_vec();
    match env::var(variable) {
        Ok(key) => keys.push(key),
        Err(VarError::NotPresent) => {}
        Err(VarError::NotUnicode(_)) => {
            return Err(Usage(format!("{variable} is not text")).into());
        }
    }
    if let Some(file) = file {
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
        bail!(
            "{} has no keys: write one a line, which does not begin with `#`",
            file.display()
        );
    }
    Ok(keys)
}
