//! Golden fixtures: tiny models of every architecture, and what Hugging Face transformers computes
//! from them. `tests/golden/make.py` makes them and describes the files.
//!
//! Where the rest of the suite compares executors with the reference, this holds any of them,
//! the reference included, to a computation that is not ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zse_format::{Checkpoint, FormatError, Lora};

use super::{CaseError, batch};
use crate::adapter::{Adapter, AdapterError};
use crate::error::ModelError;
use crate::executor::{
    AdapterId, AdapterUse, Backend, Budget, Executor, Fuse, KvType, Masks, Output, Outputs,
};
use crate::model::{Model, ModelOptions};

/// Tokens of a greedy continuation.
const CONTINUATION: usize = 64;

/// A model, and what it should compute.
pub struct Golden {
    /// File name without its extension, such as `llama3`.
    pub name: String,
    /// The model.
    pub model: Arc<Model>,
    /// What is added to it, if the fixture is of an adapter.
    pub adapter: Option<Adapter>,
    prompts: Vec<Prompt>,
}

struct Prompt {
    ids: Vec<u32>,
    expected: Expected,
}

enum Expected {
    Decoder {
        /// `[ids.len(), vocab]`.
        logits: Vec<f32>,
        /// The greedy continuation.
        continuation: Vec<u32>,
    },
    /// `[width]`.
    Embedding(Vec<f32>),
}

/// How near an executor came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoldenReport {
    /// `max |got - expected| / max |expected|` of a row (the logits of a position, or an
    /// embedding), the worst of all rows.
    pub error: f32,
    /// Prompt and step at which a greedy continuation first took another token.
    pub diverged: Option<(usize, usize)>,
}

/// Why a fixture could not be read or run.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The folder of the fixtures cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// One of the two files is malformed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The model cannot be built.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The backend refused the model or failed.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// The expectations are not as described.
    #[error("golden fixture: {0}")]
    Malformed(String),
}

impl Golden {
    /// The files of all fixtures, sorted.
    ///
    /// # Errors
    /// If their folder cannot be read.
    pub fn files() -> Result<Vec<PathBuf>, GoldenError> {
        Self::files_in("tests/golden")
    }

    /// The files of all fixtures of adapters (`tests/lora/make.py`), sorted.
    ///
    /// # Errors
    /// If their folder cannot be read.
    pub fn adapter_files() -> Result<Vec<PathBuf>, GoldenError> {
        Self::files_in("tests/lora")
    }

    fn files_in(folder: &str) -> Result<Vec<PathBuf>, GoldenError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(|source| GoldenError::Io { path, source })?;
        let mut files: Vec<_> = entries
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "golden"))
            .collect();
        files.sort();
        Ok(files)
    }

    /// Reads the fixture `path`, the model that it names, and the adapter if it names one.
    ///
    /// # Errors
    /// If either is malformed.
    pub fn open(path: &Path) -> Result<Self, GoldenError> {
        Self::open_with(path, |model| model.to_owned())
    }

    /// Reads the fixture `path` and the directories beside the model and the adapter that it names, of
    /// the same names without an extension.
    ///
    /// # Errors
    /// If either is malformed.
    pub fn open_directory(path: &Path) -> Result<Self, GoldenError> {
        Self::open_with(path, |model| model.with_extension(""))
    }

    fn open_with(path: &Path, file: impl Fn(&Path) -> PathBuf) -> Result<Self, GoldenError> {
        let golden = Checkpoint::open(path)?;
        let model = path.with_file_name(golden.metadata().require_str("golden.model")?);
        let context = golden.metadata().require_u32("golden.context")? as usize;
        let options = ModelOptions {
            context: (context > 0).then_some(context),
        };
        let checkpoint = Checkpoint::open(&file(&model))?;
        let model = Model::load(Arc::new(checkpoint), &options)?;
        let adapter = match golden.metadata().str("golden.adapter")? {
            None => None,
            Some(adapter) => {
                let adapter = file(&path.with_file_name(adapter));
                let lora = Lora::open(&adapter, model.weights.checkpoint())?;
                Some(Adapter::new(&model, &lora)?)
            }
        };
        let mut prompts = Vec::new();
        while golden
            .tensor(&format!("prompt.{}", prompts.len()))
            .is_some()
        {
            prompts.push(Prompt::read(&golden, prompts.len(), model.info.vocab)?);
        }
        if prompts.is_empty() {
            return Err(GoldenError::Malformed("no prompts".to_owned()));
        }
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            model: Arc::new(model),
            adapter,
            prompts,
        })
    }

    /// Runs every prompt in one batch, then continues it token by token, keys and values in f32.
    ///
    /// # Errors
    /// If the backend refuses the model or fails.
    pub fn compare(&self, backend: &dyn Backend) -> Result<GoldenReport, GoldenError> {
        let mut report = GoldenReport {
            error: 0.0,
            diverged: None,
        };
        for (i, prompt) in self.prompts.iter().enumerate() {
            match &prompt.expected {
                Expected::Embedding(e) => {
                    let mut run = Run::new(backend, self, prompt.ids.len())?;
                    report.add(&run.step(&prompt.ids)?, e, e.len());
                }
                Expected::Decoder {
                    logits,
                    continuation,
                } => {
                    let len = prompt.ids.len() + continuation.len();
                    let mut run = Run::new(backend, self, len)?;
                    let rows = run.step(&prompt.ids)?;
                    report.add(&rows, logits, self.model.info.vocab);
                    let step = run.diverges(rows, continuation)?;
                    report.diverged = report.diverged.or(step.map(|step| (i, step)));
                }
            }
        }
        Ok(report)
    }
}

impl Prompt {
    fn read(golden: &Checkpoint, i: usize, vocab: usize) -> Result<Self, GoldenError> {
        let ids = |name| numbers(golden, name, i, u32::from_le_bytes);
        let floats = |name| numbers(golden, name, i, f32::from_le_bytes);
        let prompt = ids("prompt")?;
        if golden.tensor(&format!("embedding.{i}")).is_some() {
            return Ok(Self {
                ids: prompt,
                expected: Expected::Embedding(floats("embedding")?),
            });
        }
        let logits = floats("logits")?;
        if logits.len() != prompt.len() * vocab {
            let what = format!(
                "prompt {i}: {} logits for {} tokens",
                logits.len(),
                prompt.len()
            );
            return Err(GoldenError::Malformed(what));
        }
        let continuation = ids("continuation")?;
        if continuation.len() != CONTINUATION {
            let what = format!(
                "prompt {i}: a continuation of {} tokens",
                continuation.len()
            );
            return Err(GoldenError::Malformed(what));
        }
        let expected = Expected::Decoder {
            logits,
            continuation,
        };
        Ok(Self {
            ids: prompt,
            expected,
        })
    }
}

/// Tensor `{name}.{i}`, of which each 4 bytes are a number.
fn numbers<T>(
    golden: &Checkpoint,
    name: &str,
    i: usize,
    decode: impl Fn([u8; 4]) -> T,
) -> Result<Vec<T>, GoldenError> {
    let name = format!("{name}.{i}");
    let view = golden
        .tensor(&name)
        .filter(|view| view.data.len() as u64 == 4 * view.elements());
    let view = view.ok_or_else(|| GoldenError::Malformed(format!("no tensor '{name}'")))?;
    let bytes = view.data.bytes();
    let (words, _) = bytes.as_chunks::<4>();
    Ok(words.iter().map(|&word| decode(word)).collect())
}

/// A sequence on an executor.
struct Run<'a> {
    model: &'a Model,
    budget: Budget,
    executor: Box<dyn Executor>,
    adapters: Vec<AdapterUse>,
    /// Tokens so far.
    len: usize,
}

impl<'a> Run<'a> {
    /// An empty sequence that may grow to `len` tokens.
    fn new(backend: &dyn Backend, golden: &'a Golden, len: usize) -> Result<Self, CaseError> {
        // Blocks that no prompt and no window is a multiple of.
        let block_len = 7;
        let budget = Budget {
            kv_blocks: len.div_ceil(block_len),
            block_len,
            kv_type: KvType::F32,
            max_tokens: len,
            max_outputs: len,
            threads: None,
            fuse: Fuse::All,
            memory: None,
        };
        let mut executor = backend.compile(Arc::clone(&golden.model), &budget)?;
        let mut adapters = Vec::new();
        if let Some(lora) = &golden.adapter {
            let (adapter, scale) = (AdapterId(0), 1.0);
            executor.load_adapter(adapter, lora)?;
            adapters.push(AdapterUse { adapter, scale });
        }
        Ok(Self {
            model: &golden.model,
            budget,
            executor,
            adapters,
            len: 0,
        })
    }

    /// The outputs of the next tokens.
    fn step(&mut self, ids: &[u32]) -> Result<Vec<Vec<f32>>, CaseError> {
        let mut batch = batch(self.model, &self.budget, &[(ids, self.len)]);
        batch.seqs[0].adapters.clone_from(&self.adapters);
        self.len += ids.len();
        let ticket = self.executor.submit(&batch)?;
        self.executor.sample(ticket, &Masks::default())?;
        let Outputs { rows } = self.executor.wait(ticket)?;
        let numbers = rows.into_iter().map(|row| match row {
            Output::Logits(v) | Output::Pooled(v) | Output::Hidden(v) => v,
            // The batch asks for nothing else; an empty row compares as infinitely wrong.
            Output::Sampled(_) | Output::LogProb(_) => Vec::new(),
        });
        Ok(numbers.collect())
    }

    /// The first step at which the greedy continuation of `rows` is not `expected`.
    fn diverges(
        &mut self,
        mut rows: Vec<Vec<f32>>,
        expected: &[u32],
    ) -> Result<Option<usize>, CaseError> {
        for (step, &token) in expected.iter().enumerate() {
            let best = rows.last().and_then(|row| {
                let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
                Some(best.0 as u32)
            });
            if best != Some(token) {
                return Ok(Some(step));
            }
            rows = self.step(&[token])?;
        }
        Ok(None)
    }
}

impl GoldenReport {
    /// Counts in `rows`, which should be `expected`, row after row of `cols` numbers.
    fn add(&mut self, rows: &[Vec<f32>], expected: &[f32], cols: usize) {
        let expected = expected.chunks_exact(cols);
        if rows.len() != expected.len() {
            self.error = f32::INFINITY;
        }
        for (row, expected) in rows.iter().zip(expected) {
            self.error = self.error.max(relative_error(row, expected));
        }
    }
}

/// `max |got - expected| / max |expected|`; infinite where lengths differ or `got` has a NaN.
fn relative_error(got: &[f32], expected: &[f32]) -> f32 {
    let differences = || got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    if got.len() != expected.len() || differences().any(f32::is_nan) {
        return f32::INFINITY;
    }
    let largest = expected.iter().fold(0.0f32, |m, e| m.max(e.abs()));
    differences().fold(0.0, f32::max) / largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use zse_format::GgufWriter;
    use zse_quant::GgmlType;

    /// A prompt of a token of a vocabulary of two, with `n` tokens that follow.
    fn read(n: usize) -> Result<Prompt, GoldenError> {
        let tensors = [
            ("prompt.0", GgmlType::I32, 1),
            ("logits.0", GgmlType::F32, 2),
            ("continuation.0", GgmlType::I32, n),
        ];
        let mut writer = GgufWriter::new();
        for (name, ty, len) in tensors {
            writer.declare(name, ty, &[len as u64])?;
        }
        let mut body = writer.begin(Vec::new(), "golden")?;
        for (name, _, len) in tensors {
            body.write(name, &vec![0; 4 * len])?;
        }
        Prompt::read(&Checkpoint::from_bytes(body.finish()?, "golden")?, 0, 2)
    }

    #[test]
    fn a_short_continuation_is_malformed() {
        assert!(read(64).is_ok());
        assert!(matches!(read(63), Err(GoldenError::Malformed(_))));
    }
}
