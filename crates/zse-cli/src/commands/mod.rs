//! One file a command.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod hardware;
pub(crate) mod imatrix;
pub(crate) mod info;
pub(crate) mod models;
pub(crate) mod perplexity;
mod plan;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod tokenize;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use zse::{Engine, LoadOptions, ModelSource};

use crate::{log, term};

/// Loads a model and says how long it took. What it then gives is with all adapters of `options`.
fn load(source: &ModelSource, options: &LoadOptions) -> Result<Engine, zse::Error> {
    let start = Instant::now();
    let engine = Engine::load(source, options)?;
    log::info(format_args!(
        "loaded {} on {} in {:.2} s, context {} tokens",
        engine.model().info.name,
        engine.device(),
        start.elapsed().as_secs_f64(),
        engine.context(),
    ));
    warn_of_context(&engine);
    let plan = engine.memory();
    log::debug(format_args!(
        "memory: weights {}, in place {}, KV {}, activations {}",
        term::bytes(plan.weights),
        term::bytes(plan.mapped),
        term::bytes(plan.kv),
        term::bytes(plan.activations),
    ));
    let adapters = options.adapters.iter().map(|a| (a.name.as_str(), 1.0));
    engine.with_adapters(&adapters.collect::<Vec<_>>())
}

/// Warns of a context that the model was not made for.
fn warn_of_context(engine: &Engine) {
    let trained = engine.model().info.trained_context;
    if engine.context() > trained {
        log::warn(format_args!(
            "the context of {} tokens is longer than the {trained} that the model was made for; \
             texts beyond those may come out wrong",
            engine.context(),
        ));
    }
}

/// What stands in a file, as text.
fn read_text(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {} as text", file.display()))
}

/// All of standard input, which has to be text.
fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .context("cannot read standard input as text")?;
    Ok(text)
}
