//! `zse models check`: will a model run here, and in how much memory? Told from the header of its GGUF
//! files, or from its `config.json`; no weights are fetched.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use zse::{Device, ModelSource};
use zse_hub::{Cache, Config, Hub, ModelRef, RepoInfo, Runs, Selection, Shape};

use super::CONTEXT;
use crate::args::{CheckArgs, Form, Global};
use crate::term::bytes;

/// Bytes of a header that are fetched at first, and at most: those of large vocabularies have some 10 MB.
const HEADER: (u64, u64) = (1 << 20, 64 << 20);

/// Most bytes of a `config.json`.
const CONFIG: u64 = 1 << 20;

/// Quantizations of safetensors that are read, as `quant_method` of `config.json` names them. MLX's has
/// no name there.
const METHODS: [&str; 6] = [
    "fp8",
    "fbgemm_fp8",
    "compressed-tensors",
    "gptq",
    "awq",
    "bitsandbytes",
];

/// What is known of a model before its weights are here.
struct Verdict {
    model: String,
    quant: Option<String>,
    file_bytes: u64,
    architecture: String,
    /// Why it does not run, where it does not.
    obstacle: Option<String>,
    context: u64,
    /// Bytes to run it, where that can be told.
    memory: Option<u64>,
}

pub(super) fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<()> {
    let model = args.model.model()?;
    let config = Config::from_env()?;
    let verdict = match Cache::new(config.cache.clone()).find(&model) {
        Some(here) if here.path.is_dir() => match of_files(&here.path, global, here.bytes) {
            Ok(verdict) => verdict,
            // What a run would say.
            Err(error) => {
                let config =
                    fs::read(here.path.join("config.json")).context("cannot read config.json")?;
                Verdict {
                    obstacle: Some(format!("{error:#}")),
                    ..of_config(&config, here.bytes, global)?
                }
            }
        },
        Some(here) => Verdict {
            quant: here.quant,
            ..of_files(&here.path, global, here.bytes)?
        },
        None => of_hub(&Hub::new(config)?, &model, global)?,
    };
    let verdict = Verdict {
        model: model.to_string(),
        ..verdict
    };
    let device = global.device.resolved();
    let available = match device {
        // Its memory is not the system's.
        Device::Cuda(_) => None,
        _ => zse::system_memory().map(|memory| memory.available),
    };
    let device = device.to_string();
    let fits = verdict
        .memory
        .zip(available)
        .map(|(needed, available)| needed <= available);
    let mut out = io::stdout().lock();
    match args.form.form {
        Form::Json => writeln!(
            out,
            "{:#}",
            json!({
                "model": verdict.model, "quant": verdict.quant, "file_bytes": verdict.file_bytes,
                "architecture": verdict.architecture, "runs": verdict.obstacle.is_none(),
                "why_not": verdict.obstacle, "device": device, "context": verdict.context,
                "memory": verdict.memory, "available": available, "fits": fits,
            })
        )?,
        Form::Table => write_text(&mut out, &verdict, &device, available)?,
    }
    Ok(())
}

fn write_text(
    out: &mut impl Write,
    verdict: &Verdict,
    device: &str,
    available: Option<u64>,
) -> io::Result<()> {
    writeln!(out, "{}", verdict.model)?;
    let quant = verdict.quant.as_deref().unwrap_or("safetensors");
    writeln!(
        out,
        "  files         {quant}, {}",
        bytes(verdict.file_bytes)
    )?;
    writeln!(out, "  architecture  {}", printable(&verdict.architecture))?;
    match &verdict.obstacle {
        None => writeln!(out, "  runs          yes, on {device}")?,
        Some(why) => writeln!(out, "  runs          no: {}", printable(why))?,
    }
    if let Some(memory) = verdict.memory {
        let fits = match available {
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

fn of_hub(hub: &Hub, model: &ModelRef, global: &Global) -> anyhow::Result<Verdict> {
    let info = hub.info(model)?;
    let chosen = hub.select(&info, model)?;
    let size = |path: &str| {
        info.files
            .iter()
            .find(|f| f.path == path)
            .and_then(|f| f.size)
            .unwrap_or(0)
    };
    let weights = |path: &&String| path.ends_with(".gguf") || path.ends_with(".safetensors");
    let file_bytes = chosen
        .files
        .iter()
        .filter(weights)
        .map(|path| size(path))
        .fold(0, u64::saturating_add);
    if chosen.is_folder() {
        let config = hub.read(&info, "config.json", 0..CONFIG)?;
        return of_config(&config, file_bytes, global);
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let first = headers(hub, &info, &chosen, folder.path())?;
    Ok(Verdict {
        quant: chosen.quant,
        ..of_files(&first, global, file_bytes)?
    })
}

/// Stand-ins for GGUF files: their headers, and holes where the weights would be, which take no room.
/// Returns the first.
fn headers(
    hub: &Hub,
    info: &RepoInfo,
    chosen: &Selection,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let place = |path: &str| folder.join(path.rsplit('/').next().unwrap_or(path));
    let first = place(&chosen.files[0]);
    let mut fetched = 0;
    let mut wanted = HEADER.0;
    loop {
        for path in &chosen.files {
            let listed = info
                .files
                .iter()
                .find(|f| f.path == *path)
                .and_then(|f| f.size);
            let size =
                listed.with_context(|| format!("the hub does not say how long {path} is"))?;
            // The vocabulary, which makes headers long, is in the first part.
            let wanted = match *path == chosen.files[0] {
                true => wanted,
                false => HEADER.0,
            };
            let (from, to) = (fetched.min(size), wanted.min(size));
            if from < to {
                let bytes = hub.read(info, path, from..to)?;
                let mut file = File::options()
                    .create(true)
                    .append(true)
                    .open(place(path))?;
                file.set_len(from)?;
                file.write_all(&bytes)?;
                file.set_len(size)?;
            }
        }
        match (ModelSource::Path(first.clone()).open(), wanted < HEADER.1) {
            (Ok(_), _) => return Ok(first),
            // The rest of the header reads as zeros, which makes no sound one.
            (Err(_), true) => (fetched, wanted) = (wanted, wanted * 4),
            (Err(error), false) => return Err(error.into()),
        }
    }
}

fn of_files(path: &Path, global: &Global, file_bytes: u64) -> anyhow::Result<Verdict> {
    let source = ModelSource::Path(path.to_owned());
    let checkpoint = source.open()?;
    let architecture = checkpoint
        .metadata()
        .require_str("general.architecture")?
        .to_owned();
    let options = global.options(&source)?;
    let planned = options
        .model(checkpoint)
        .and_then(|model| Ok((model.info.context as u64, options.memory(&model)?.total())));
    let (context, memory, obstacle) = match planned {
        Ok((context, memory)) => (context, Some(memory), None),
        Err(error) => {
            let error = anyhow::Error::from(error);
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            (0, None, Some(causes.join(": ")))
        }
    };
    Ok(Verdict {
        model: String::new(),
        quant: None,
        file_bytes,
        architecture,
        obstacle,
        context,
        memory,
    })
}

fn of_config(config: &[u8], file_bytes: u64, global: &Global) -> anyhow::Result<Verdict> {
    let config: Value = serde_json::from_slice(config).context("config.json is not JSON")?;
    let (shape, kind) = Shape::from_config(&config)?;
    let trained = ["text_config", ""]
        .iter()
        .map(|part| {
            if part.is_empty() {
                &config
            } else {
                &config[*part]
            }
        })
        .find_map(|part| part["max_position_embeddings"].as_u64())
        .filter(|n| (1..=1 << 24).contains(n))
        .unwrap_or(CONTEXT);
    let context = match global.ctx {
        None => trained.min(CONTEXT),
        Some(0) => trained,
        Some(n) if n <= 1 << 24 => n as u64,
        Some(n) => bail!("--ctx {n}: no model has so much context"),
    };
    let method = config["quantization_config"]["quant_method"].as_str();
    let obstacle = match (Runs::architecture(&kind), method) {
        (Runs::No, _) => Some(format!("the architecture {kind} is not supported")),
        (Runs::Yes(_), Some(method)) if !METHODS.contains(&method) => {
            Some(format!("the quantization {method} is not supported"))
        }
        (Runs::Yes(_), _) => None,
    };
    Ok(Verdict {
        model: String::new(),
        quant: None,
        file_bytes,
        architecture: kind,
        obstacle,
        context,
        memory: Some(file_bytes.saturating_add(shape.memory_beside_weights(context))),
    })
}
