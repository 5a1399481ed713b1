//! Logits of F32 weights: the same numbers as llama.cpp's, but for the order of additions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use zse_cpu::CpuBackend;
use zse_format::{Checkpoint, GgufWriter};
use zse_model::conformance::Rng;
use zse_model::executor::Backend;
use zse_model::program::ProgramOutput;
use zse_model::reference::Reference;

use crate::engine::{self, Engine};
use crate::llama::{Context, Load, Model};
use crate::section::{Section, Table};
use crate::stats::relative_error;
use crate::stem;

/// Tokens of a sequence. llama.cpp rounds contexts up to a multiple of 256, and LongRoPE depends
/// on the context.
const CONTEXT: usize = 256;
/// Lengths of the prompts.
const PROMPTS: [usize; 4] = [1, 9, 33, 256];
/// The largest relative error that the order of additions excuses.
const TOLERANCE: f32 = 1e-5;

/// llama.cpp reads GELU from a table of f16, which is this far from the function in these models.
const GELU_TOLERANCE: f32 = 2e-3;
/// The models with GELU, by the start of the file's name.
const GELU: [&str; 3] = ["gemma", "starcoder2", "bert"];

/// Compares the models in `files`, whose weights are F32.
///
/// # Errors
/// If a model cannot be read or run.
pub(crate) fn section(files: &[PathBuf], threads: usize, seed: u64) -> Result<Section> {
    let mut section = Section::new(
        "Logits of F32 weights",
        "`max |ZSE - llama.cpp| / max |llama.cpp|` over all logits of a prompt (for bert, over the \
         embedding), the worst of four prompts of 1 to 256 random tokens, keys and values in f32. \
         Both sum in f32, in different orders. ZSE runs once in its reference and once in its CPU \
         executor. The models are the golden fixtures of zse-model, tiny and random (qwen2-yarn \
         without its `beta_fast`, which llama.cpp passes over), and the built-in model in F32.",
    );
    let mut table = Table::new(&["model", "reference", "CPU executor", "note"]);
    for file in files {
        let name = stem(file);
        let errors = compare(file, threads, seed).with_context(|| name.clone())?;
        let has_gelu = GELU.iter().any(|start| name.starts_with(start));
        let (tolerance, note) = if has_gelu {
            (GELU_TOLERANCE, "GELU from a table of f16 in llama.cpp")
        } else {
            (TOLERANCE, "")
        };
        let mut cells = vec![name.clone()];
        cells.extend(errors.map(|e| format!("{e:.1e}")));
        cells.push(note.to_owned());
        table.row(cells);
        let worst = errors.into_iter().fold(0.0, f32::max);
        section.promise(worst <= tolerance, || {
            format!("{name}: relative error {worst:.1e}, more than {tolerance:.0e}")
        });
    }
    section.add(&table);
    Ok(section)
}

/// Copies the model in `file` into `folder`, without the metadata whose key ends with `key`.
///
/// # Errors
/// If the file cannot be read or written.
pub(crate) fn without(file: &Path, key: &str, folder: &Path) -> Result<PathBuf> {
    let checkpoint = Checkpoint::open(file)?;
    let mut writer = GgufWriter::new();
    for (name, value) in checkpoint.metadata().iter() {
        if !name.ends_with(key) {
            writer.set(name, value)?;
        }
    }
    for tensor in checkpoint.tensors() {
        writer.declare(tensor.name, tensor.ty, tensor.shape)?;
    }
    let copy = folder.join(file.file_name().unwrap_or_default());
    let mut out = writer.create(&copy)?;
    for tensor in checkpoint.tensors() {
        out.write(tensor.name, &tensor.data.bytes())?;
    }
    out.finish()?;
    Ok(copy)
}

/// The errors of the reference and of the CPU executor.
fn compare(file: &Path, threads: usize, seed: u64) -> Result<[f32; 2]> {
    let theirs = Model::open(file, Load::All)?;
    let model = engine::open(file, CONTEXT)?;
    let pools = matches!(model.program.output, ProgramOutput::Pooled(_));
    let mut rng = Rng::new(seed);
    let longest = model.info.trained_context.min(CONTEXT);
    let prompts = PROMPTS.map(|n| rng.ids(n.min(longest), theirs.vocab_size()));
    let mut context = Context::new(&theirs, CONTEXT, threads)?;
    let mut expected = Vec::new();
    for prompt in &prompts {
        expected.push(if pools {
            context.embedding(prompt)?
        } else {
            context.logits(prompt)?
        });
    }
    let backends: [&dyn Backend; 2] = [&Reference, &CpuBackend::default()];
    let mut errors = [0.0f32; 2];
    for (backend, error) in backends.into_iter().zip(&mut errors) {
        let mut engine = Engine::new(backend, Arc::clone(&model), CONTEXT, threads)?;
        for (prompt, expected) in prompts.iter().zip(&expected) {
            *error = error.max(relative_error(&engine.outputs(prompt)?, expected));
        }
    }
    Ok(errors)
}
