//! `zse info`: what a model is, and the memory that it needs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::bail;
use serde_json::{Value as Json, json};
use zse::format::{Array, Checkpoint, Value};
use zse::{CHATML, ChatTemplate, MemoryReport, Model, Tokenizer};

use super::plan;
use crate::args::{Global, InfoArgs};
use crate::machine;
use crate::term::{Table, bytes, count, progress};

/// What the program itself takes in a run and not yet here: the code of the kernels, stacks, the
/// text. About the same for every model on x86-64 Linux, where `tests/cli/memory.rs` and `bench/fit.py`
/// hold it: 3 to 6 MiB in release builds, 5 to 7 in those of tests, whose code is larger.
const RUNNING: u64 = if cfg!(debug_assertions) { 6 } else { 3 } << 20;

pub(crate) fn run(args: &InfoArgs, global: &Global) -> anyhow::Result<()> {
    let source = args.model.source()?;
    let options = global.options(&source)?;
    let checkpoint = source.open()?;
    if args.verify {
        return verify(&checkpoint);
    }
    if args.metadata {
        return metadata(&checkpoint, args.json);
    }
    let model = options.model(Arc::clone(&checkpoint))?;
    let mut out = io::stdout().lock();
    if args.graph {
        write!(out, "{}", model.program)?;
        return Ok(());
    }
    // Built as a run would build it, so that what this process uses now is what a run uses besides
    // the plan.
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
    let facts = Facts {
        types: by_type(&checkpoint),
        plan: options.memory(&model)?,
        device: options.place(&model)?,
        is_gpu: options.device.own_memory().is_some(),
        process: match options.device.own_memory() {
            // On a GPU, of whose memory the plan is.
            Some(bytes) => bytes,
            None => machine::resident_bytes().unwrap_or(0) + RUNNING,
        },
        kv_type: options.kv_type.name(),
        default_template: default_template(&checkpoint, &tokenizer)?,
        tokens: tokenizer.vocab_size(),
        model: &model,
        checkpoint: &checkpoint,
    };
    let planned = args
        .budget
        .map(|room| plan::Planned::new(&checkpoint, &options, room, args.mode, facts.process))
        .transpose()?;
    if args.json {
        let mut object = facts.json();
        if let Some(planned) = planned {
            object["plan"] = planned.json();
        }
        writeln!(out, "{object:#}")?;
    } else {
        facts.write(&mut out)?;
        if let Some(planned) = planned {
            writeln!(out)?;
            planned.write(&mut out)?;
        }
    }
    Ok(())
}

/// Reads all of the file, and compares it with its checksums.
fn verify(checkpoint: &Checkpoint) -> anyhow::Result<()> {
    let bar = progress(
        checkpoint.file_bytes(),
        "{bar:30} {percent:>3}% {bytes}/{total_bytes} {bytes_per_sec} {eta:>4}",
    );
    let verified = checkpoint.verify(|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let file = checkpoint.metadata().file();
    if !verified? {
        bail!("{file} has no checksums: only .zse files have them");
    }
    writeln!(io::stdout(), "{file}: all checksums are right")?;
    Ok(())
}

/// Tensors of a type.
#[derive(Default)]
struct Share {
    tensors: u64,
    parameters: u64,
    bytes: u64,
}

fn by_type(checkpoint: &Checkpoint) -> BTreeMap<&'static str, Share> {
    let mut types: BTreeMap<&'static str, Share> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let share = types.entry(tensor.ty.name()).or_default();
        share.tensors += 1;
        share.parameters += tensor.elements();
        share.bytes += tensor.data.len() as u64;
    }
    types
}

/// The name of the template that a model without one gets.
fn default_template(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
) -> Result<Option<&'static str>, zse::Error> {
    let template = ChatTemplate::from_metadata(checkpoint.metadata(), tokenizer)?;
    if !template.is_fallback() {
        return Ok(None);
    }
    Ok(Some(match template.source("default") == Some(CHATML) {
        true => "ChatML",
        false => "plain headings",
    }))
}

/// All that is shown.
struct Facts<'a> {
    checkpoint: &'a Checkpoint,
    model: &'a Model,
    types: BTreeMap<&'static str, Share>,
    plan: MemoryReport,
    /// Where it will run.
    device: String,
    is_gpu: bool,
    /// What the program itself takes: code, metadata, tokenizer.
    process: u64,
    kv_type: &'static str,
    /// The template that is used where the model brings none.
    default_template: Option<&'static str>,
    tokens: usize,
}

impl Facts<'_> {
    fn parameters(&self) -> u64 {
        self.types.values().map(|s| s.parameters).sum()
    }

    fn weight_bytes(&self) -> u64 {
        self.types.values().map(|s| s.bytes).sum()
    }

    fn total(&self) -> u64 {
        self.plan.total().saturating_add(self.process)
    }

    fn json(&self) -> Json {
        let info = &self.model.info;
        let types: Vec<Json> = self.types.iter().map(|(name, s)| {
            json!({ "type": name, "tensors": s.tensors, "parameters": s.parameters, "bytes": s.bytes })
        }).collect();
        json!({
            "name": info.name,
            "file": self.checkpoint.metadata().file(),
            "file_bytes": self.checkpoint.file_bytes(),
            "architecture": info.architecture,
            "parameters": self.parameters(),
            "weight_bytes": self.weight_bytes(),
            "layers": info.layers,
            "width": info.width,
            "vocab": info.vocab,
            "context": info.context,
            "trained_context": info.trained_context,
            "chat_template": self.default_template.is_none(),
            "device": self.device,
            "types": types,
            "memory": {
                "kv_type": self.kv_type,
                "context": info.context,
                "weights": self.plan.weights,
                "mapped": self.plan.mapped,
                "kv": self.plan.kv,
                "activations": self.plan.activations,
                "process": self.process,
                "total": self.total(),
            },
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let info = &self.model.info;
        let parameters = self.parameters();
        writeln!(out, "{}", info.name)?;
        writeln!(
            out,
            "  file           {} ({})",
            self.checkpoint.metadata().file(),
            bytes(self.checkpoint.file_bytes())
        )?;
        writeln!(out, "  architecture   {}", info.architecture)?;
        writeln!(
            out,
            "  parameters     {} ({:.2} bits each)",
            count(parameters),
            8.0 * self.weight_bytes() as f64 / parameters.max(1) as f64,
        )?;
        writeln!(
            out,
            "  layers         {}, width {}",
            info.layers, info.width
        )?;
        writeln!(out, "  vocabulary     {} tokens", self.tokens)?;
        writeln!(
            out,
            "  context        {} tokens (made for {})",
            info.context, info.trained_context
        )?;
        if self.is_gpu {
            writeln!(out, "  device         {}", self.device)?;
        }
        match self.default_template {
            None => writeln!(out, "  chat template  its own\n")?,
            Some(name) => writeln!(out, "  chat template  none: `zse chat` takes {name}\n")?,
        }

        let mut table = Table::new(["type", "tensors", "parameters", "size"]);
        for (name, s) in &self.types {
            table.row([
                (*name).to_owned(),
                s.tensors.to_string(),
                count(s.parameters),
                bytes(s.bytes),
            ]);
        }
        writeln!(out, "{}", table.plain())?;

        let mut table = Table::new(["memory", "size"]);
        table.row(["weights, in memory".to_owned(), bytes(self.plan.weights)]);
        table.row(["weights, in the file".to_owned(), bytes(self.plan.mapped)]);
        table.row([
            format!("KV cache, {} tokens in {}", info.context, self.kv_type),
            bytes(self.plan.kv),
        ]);
        table.row([
            "intermediate results".to_owned(),
            bytes(self.plan.activations),
        ]);
        table.row(["zse itself".to_owned(), bytes(self.process)]);
        table.row(["together".to_owned(), bytes(self.total())]);
        write!(out, "{}", table.plain())
    }
}

/// The file's key-value pairs; long arrays are cut, except in JSON.
fn metadata(checkpoint: &Checkpoint, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let all: serde_json::Map<String, Json> = checkpoint
            .metadata()
            .iter()
            .map(|(key, value)| (key.to_owned(), to_json(value)))
            .collect();
        writeln!(out, "{:#}", Json::from(all))?;
        return Ok(());
    }
    for (key, value) in checkpoint.metadata().iter() {
        match value {
            Value::Array(array) => writeln!(out, "{key} = {}", start_of(array))?,
            other => writeln!(out, "{key} = {}", to_json(other))?,
        }
    }
    Ok(())
}

/// The first elements of an array.
fn start_of(array: Array<'_>) -> String {
    const SHOWN: usize = 4;
    let start: Vec<String> = array
        .iter()
        .take(SHOWN)
        .map(|v| to_json(v).to_string())
        .collect();
    let more = if array.len() > SHOWN { ", ..." } else { "" };
    format!(
        "[{}{more}] ({} of {})",
        start.join(", "),
        array.len(),
        array.element_type()
    )
}

fn to_json(value: Value<'_>) -> Json {
    match value {
        Value::U8(v) => v.into(),
        Value::I8(v) => v.into(),
        Value::U16(v) => v.into(),
        Value::I16(v) => v.into(),
        Value::U32(v) => v.into(),
        Value::I32(v) => v.into(),
        Value::U64(v) => v.into(),
        Value::I64(v) => v.into(),
        Value::F32(v) => v.into(),
        Value::F64(v) => v.into(),
        Value::Bool(v) => v.into(),
        Value::String(text) => String::from_utf8_lossy(text).into(),
        Value::Array(array) => array.iter().map(to_json).collect(),
    }
}
