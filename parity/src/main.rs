//! The same files through llama.cpp and through ZSE.
//!
//! `cargo run --release -- report ../docs/parity.md` runs everything and writes the report; each
//! part runs alone by its name. Exits with 1 if a promise is broken.

mod decode;
mod encode;
mod engine;
mod llama;
mod logits;
mod measure;
mod quants;
mod report;
mod section;
mod stats;
mod text;
mod tokens;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::section::Section;

/// Compares ZSE with llama.cpp.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    part: Part,
    /// The model for `tokens`, `logits` and `quants`, in F16 or F32.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/builtin/zse-builtin-f16.gguf"))]
    model: PathBuf,
    /// A folder of vocabularies for `tokens`: llama.cpp's `models/ggml-vocab-*.gguf`, each with its
    /// `.inp`. Where there is none, `tokens` passes over it and `report` fails.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vocab"))]
    vocabularies: PathBuf,
    /// Weights of each type to decode.
    #[arg(long, global = true, default_value_t = 10_000_000)]
    weights: usize,
    /// Rows of 1024 weights to encode, of each kind of data.
    #[arg(long, global = true, default_value_t = 64)]
    rows: usize,
    /// Texts to generate for each vocabulary.
    #[arg(long, global = true, default_value_t = 4000)]
    texts: usize,
    /// Chunks of 512 tokens to predict; by default all of the text.
    #[arg(long, global = true)]
    chunks: Option<usize>,
    /// Seed of everything random.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Threads; by default all.
    #[arg(long, global = true)]
    threads: Option<usize>,
}

#[derive(Clone, Subcommand)]
enum Part {
    /// Blocks decode to the same bits.
    Decode,
    /// Blocks are encoded at least as well.
    Encode,
    /// Texts give the same tokens.
    Tokens,
    /// F32 weights give the same logits.
    Logits,
    /// Quantized weights: divergence, agreement and perplexity.
    Quants,
    /// All of these, written to a file.
    Report {
        /// The file.
        path: PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let sections = match &args.part {
        Part::Decode => vec![args.decode()?],
        Part::Encode => vec![args.encode()?],
        Part::Tokens => vec![args.tokens()?],
        Part::Logits => vec![args.logits()?],
        Part::Quants => vec![args.quants()?],
        Part::Report { path } => {
            let parts = [
                Args::decode,
                Args::encode,
                Args::tokens,
                Args::logits,
                Args::quants,
            ];
            let sections = parts
                .iter()
                .map(|part| part(&args))
                .collect::<Result<Vec<_>>>()?;
            report::write(path, &sections)?;
            sections
        }
    };
    for section in &sections {
        print!("{section}");
    }
    let kept = sections.iter().all(|section| section.failures.is_empty());
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Args {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        })
    }

    fn decode(&self) -> Result<Section> {
        decode::section(self.weights, self.seed)
    }

    fn encode(&self) -> Result<Section> {
        encode::section(self.rows, self.seed)
    }

    fn tokens(&self) -> Result<Section> {
        let vocabularies = gguf_files(&self.vocabularies);
        let files = [vec![self.model.clone()], vocabularies].concat();
        let mut section = tokens::section(&files, self.texts, self.seed)?;
        if files.len() == 1 {
            let is_report = matches!(self.part, Part::Report { .. });
            tokens::lacks_vocabularies(&mut section, &self.vocabularies, is_report);
        }
        Ok(section)
    }

    fn logits(&self) -> Result<Section> {
        let folder = tempfile::tempdir()?;
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/zse-model/tests/golden");
        let mut files = gguf_files(&golden);
        // See differences.md: there, both texts of a pair are the first, and Phi-3 has no window.
        let differ = ["bert-rank.gguf", "phi3-window.gguf"];
        files.retain(|file| !differ.iter().any(|name| file.ends_with(name)));
        for file in &mut files {
            if file.ends_with("qwen2-yarn.gguf") {
                *file = logits::without(file, "yarn_beta_fast", folder.path())?;
            }
        }
        files.push(self.in_full(folder.path())?);
        logits::section(&files, self.threads(), self.seed)
    }

    fn quants(&self) -> Result<Section> {
        let folder = tempfile::tempdir()?;
        quants::section(&quants::Setup {
            model: &self.model,
            full: &self.in_full(folder.path())?,
            text: include_str!("../data/heldout.txt"),
            calibration: include_str!("../data/calibration.txt"),
            chunks: self.chunks,
            folder: folder.path(),
            threads: self.threads(),
        })
    }

    /// The model in F32, written into `folder`.
    fn in_full(&self, folder: &Path) -> Result<PathBuf> {
        let name = stem(&self.model).replace("-f16", "");
        let full = folder.join(format!("{name}-f32.gguf"));
        quants::in_full(&self.model, &full, self.threads())
            .with_context(|| format!("cannot write {} in F32", self.model.display()))?;
        Ok(full)
    }
}

/// The name of `file` without its ending.
fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// The GGUF files in `folder`, sorted; none if there is no such folder.
fn gguf_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_gguf = |path: &PathBuf| path.extension().is_some_and(|e| e == "gguf");
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_gguf).collect();
    files.sort();
    files
}
