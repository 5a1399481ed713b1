//! Importance matrices from a text: the model is run over it, and what meets each column of each weight
//! is squared and summed.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use zse_format::{Checkpoint, EncodedValue, GgufWriter};
use zse_model::Model;
use zse_model::executor::{
    Batch, BlockId, Budget, Executor, OutputRow, SeqSpan, TokenSource, Want, WeightSquares,
};
use zse_quant::GgmlType;
use zse_text::Tokenizer;

use super::{Importance, QuantizeError};
use crate::{Device, Error, LoadOptions, Perplexity};

/// Most tokens of a pass: so few that the logits of all of them, which the last layer's weights are met
/// for, take little memory, and that mixtures compute them at once.
const BATCH: usize = 128;

/// The weights that turn the last layer's rows into logits, or tokens into rows.
const OUTPUT: [&str; 2] = ["output.weight", "token_embd.weight"];

/// How a text is run.
#[derive(Clone, Debug)]
pub struct GatherOptions {
    /// Tokens of a chunk: the text is cut into chunks that do not see each other, as llama.cpp's
    /// `llama-imatrix` does it; a rest is left out.
    pub chunk: usize,
    /// Whether the weights of the output are looked at: most types are better chosen without.
    pub output: bool,
    /// Where it runs.
    pub device: Device,
    /// Threads; `None`: as many as the process may use.
    pub threads: Option<usize>,
}

impl Default for GatherOptions {
    fn default() -> Self {
        Self {
            chunk: 512,
            output: false,
            device: Device::default(),
            threads: None,
        }
    }
}

/// What was gathered.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Chunks that were run.
    pub chunks: usize,
    /// Tokens of each.
    pub chunk: usize,
    /// By name of the weight.
    weights: Vec<(String, WeightSquares)>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherProgress {
    /// Chunks that were run.
    pub done: usize,
    /// Chunks that there are.
    pub chunks: usize,
}

/// Runs the model of `checkpoint` over `text`. `progress` is told after each chunk, and may end it
/// there.
///
/// # Errors
/// If the model cannot be run, the device does not tell what its weights meet, a chunk is shorter than
/// [`Perplexity::MIN_CHUNK`], longer than the text, or does not fit the context.
pub fn gather(
    checkpoint: Arc<Checkpoint>,
    text: &str,
    options: &GatherOptions,
    mut progress: impl FnMut(GatherProgress) -> ControlFlow<()>,
) -> Result<Gathered, Error> {
    let chunk = options.chunk;
    if chunk < Perplexity::MIN_CHUNK {
        return Err(Error::ChunkTooShort { chunk });
    }
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
    let tokens = tokenizer.encode(text, false, false);
    let chunks = tokens.len() / chunk;
    if chunks == 0 {
        return Err(Error::TextTooShort {
            tokens: tokens.len(),
            chunk,
        });
    }
    let mut run = Run::load(checkpoint, options)?;
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    for (i, part) in tokens.chunks_exact(chunk).enumerate() {
        let mut part = part.to_vec();
        if let Some(bos) = bos {
            part[0] = bos;
        }
        run.chunk(&part)?;
        let done = i + 1;
        if progress(GatherProgress { done, chunks }).is_break() || done == chunks {
            return run.end(done, options);
        }
    }
    unreachable!("the last of at least one chunk ends it");
}

/// A model that is run chunk by chunk.
struct Run {
    model: Arc<Model>,
    executor: Box<dyn Executor>,
    budget: Budget,
}

impl Run {
    fn load(checkpoint: Arc<Checkpoint>, options: &GatherOptions) -> Result<Self, Error> {
        let load = LoadOptions {
            context: Some(options.chunk),
            batch_tokens: BATCH,
            device: options.device,
            threads: options.threads,
            ..LoadOptions::default()
        };
        let model = load.model(checkpoint)?;
        let mut budget = load.budget(&model);
        if model.program.takes_whole_sequences() {
            budget.max_tokens = options.chunk;
        }
        budget.max_outputs = budget.max_tokens;
        let backend = load.device.backend()?;
        let mut executor = backend.compile(Arc::clone(&model), &budget)?;
        if !executor.start_squares() {
            return Err(Error::NoSquares {
                backend: backend.caps().name,
            });
        }
        Ok(Self {
            model,
            executor,
            budget,
        })
    }

    /// Runs a chunk. All of its rows go through all layers, because all want logits, which nobody reads.
    fn chunk(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let is_pooled = self.model.program.takes_whole_sequences();
        let groups = self.model.program.kv_groups().len();
        for (i, part) in tokens.chunks(self.budget.max_tokens).enumerate() {
            let first = i * self.budget.max_tokens;
            let blocks = (first + part.len()).div_ceil(self.budget.block_len) as BlockId;
            let wanted = match is_pooled {
                true => 0..0,
                false => 0..part.len(),
            };
            let outputs = wanted.map(|token| OutputRow {
                token,
                want: Want::Logits,
            });
            self.executor.submit(&Batch {
                tokens: part.iter().map(|&id| TokenSource::Id(id)).collect(),
                positions: (first..first + part.len()).map(|p| p as u32).collect(),
                seqs: vec![SeqSpan {
                    tokens: 0..part.len(),
                    first,
                    tables: vec![(0..blocks).collect(); groups],
                    adapters: Vec::new(),
                }],
                outputs: outputs.collect(),
                ..Batch::default()
            })?;
        }
        Ok(())
    }

    fn end(mut self, chunks: usize, options: &GatherOptions) -> Result<Gathered, Error> {
        let squares = self.executor.end_squares().expect("they were begun");
        let named = squares.weights().map(|(id, squares)| {
            let name = self.model.weights.get(id).name;
            (name.to_owned(), squares.clone())
        });
        let wanted = |name: &str| options.output || !OUTPUT.contains(&name);
        Ok(Gathered {
            chunks,
            chunk: options.chunk,
            weights: named.filter(|(name, _)| wanted(name)).collect(),
        })
    }
}

impl Gathered {
    /// Number of weights that it speaks of.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether it speaks of none.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Matrices of experts that no token has met: their columns count as alike.
    pub fn unseen(&self) -> usize {
        let rows = self.weights.iter().flat_map(|(_, squares)| &squares.rows);
        rows.filter(|rows| **rows == 0).count()
    }

    /// What it says of the columns.
    pub fn importance(&self) -> Importance {
        let means = self.weights.iter().map(|(name, squares)| {
            let (sums, counts) = floats(squares);
            let means = super::importance::means(squares.cols, sums, &counts);
            (
                name.clone(),
                means.expect("a sum and a count of each expert"),
            )
        });
        Importance::new(means.collect())
    }

    /// Writes it in GGUF, as [`Importance::open`] and llama.cpp read it; `text` is what it is called that
    /// was gathered over.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path, text: &str) -> Result<(), QuantizeError> {
        let mut writer = GgufWriter::new();
        writer.set("general.type", "imatrix")?;
        // llama.cpp refuses files that lack one of these.
        writer.set("imatrix.datasets", EncodedValue::strings([text]))?;
        writer.set("imatrix.chunk_count", self.chunks as u32)?;
        writer.set("imatrix.chunk_size", self.chunk as u32)?;
        for (name, squares) in &self.weights {
            let experts = squares.rows.len() as u64;
            for (what, cols) in [("in_sum2", squares.cols as u64), ("counts", 1)] {
                writer.declare(&format!("{name}.{what}"), GgmlType::F32, &[cols, experts])?;
            }
        }
        let mut file = writer.create(path)?;
        for (name, squares) in &self.weights {
            let (sums, counts) = floats(squares);
            for (what, values) in [("in_sum2", sums), ("counts", counts)] {
                let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
                file.write(&format!("{name}.{what}"), &bytes)?;
            }
        }
        file.finish()?;
        Ok(())
    }
}

/// The sums and counts as files have them.
fn floats(squares: &WeightSquares) -> (Vec<f32>, Vec<f32>) {
    let sums = squares.sums.iter().map(|&sum| sum as f32);
    (
        sums.collect(),
        squares.rows.iter().map(|&n| n as f32).collect(),
    )
}

#[cfg(all(test, feature = "builtin"))]
mod tests {
    use super::*;
    use crate::ModelSource;
    use crate::quantize::{Mixture, QuantizeOptions, quantize};

    const CHUNK: usize = 48;

    fn text() -> String {
        "Once upon a time there was a fox who lived in a wood. ".repeat(12)
    }

    fn gathered() -> Gathered {
        let options = GatherOptions {
            chunk: CHUNK,
            threads: Some(2),
            ..GatherOptions::default()
        };
        let mut seen = Vec::new();
        let gathered = gather(
            ModelSource::Builtin.open().unwrap(),
            &text(),
            &options,
            |p| {
                seen.push(p.done);
                match p.done {
                    2 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
        );
        assert_eq!(seen, [1, 2]);
        gathered.unwrap()
    }

    fn decoded(file: &Checkpoint, name: &str) -> Vec<f32> {
        let tensor = file.tensor(name).expect(name);
        let mut values = vec![0.0; tensor.elements() as usize];
        zse_quant::decode(tensor.ty, &tensor.data.bytes(), &mut values).unwrap();
        values
    }

    #[test]
    fn the_first_layers_sums_are_those_of_a_plain_computation() {
        let gathered = gathered();
        let (_, found) = gathered
            .weights
            .iter()
            .find(|(name, _)| name == "blk.0.attn_q.weight")
            .expect("a layer");
        assert_eq!(found.rows, [2 * CHUNK as u64]);
        let file = ModelSource::Builtin.open().unwrap();
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        let mut tokens = tokenizer.encode(&text(), false, false);
        if tokenizer.adds_bos() {
            (tokens[0], tokens[CHUNK]) = (tokenizer.bos().unwrap(), tokenizer.bos().unwrap());
        }
        let (table, norm) = (
            decoded(&file, "token_embd.weight"),
            decoded(&file, "blk.0.attn_norm.weight"),
        );
        let eps = (file
            .metadata()
            .f32("llama.attention.layer_norm_rms_epsilon"))
        .unwrap()
        .unwrap();
        let mut sums = vec![0.0_f64; norm.len()];
        for &token in &tokens[..2 * CHUNK] {
            let row = &table[token as usize * norm.len()..][..norm.len()];
            let square: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let scale = (square / norm.len() as f64 + f64::from(eps)).sqrt();
            for ((sum, &x), &weight) in sums.iter_mut().zip(row).zip(&norm) {
                *sum += (f64::from(x) / scale * f64::from(weight)).powi(2);
            }
        }
        for (a, b) in sums.iter().zip(&found.sums) {
            assert!((a - b).abs() <= 1e-4 * a, "{a} and {b}");
        }
        let names = gathered.weights.iter().map(|(name, _)| name.as_str());
        assert!(names.clone().any(|name| name == "blk.0.ffn_down.weight"));
        assert!(names.clone().all(|name| !OUTPUT.contains(&name)));
    }

    #[test]
    fn weights_that_matter_are_nearer_with_the_matrix_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::Builtin.open().unwrap();
        let gathered = gathered();
        let matrix = folder.path().join("imatrix.gguf");
        gathered.write(&matrix, "held-out").unwrap();
        let file = Checkpoint::open(&matrix).unwrap();
        let mut texts = file.metadata().require_strings("imatrix.datasets").unwrap();
        assert_eq!(texts.next(), Some(&b"held-out"[..]));
        let written = Importance::open(&matrix).unwrap();
        assert_eq!(written.len(), gathered.len());
        let file = |name: &str, importance: Option<Importance>| {
            let path = folder.path().join(name);
            let options = QuantizeOptions {
                pure: true,
                allow_requantize: true,
                importance: importance.map(Arc::new),
                ..QuantizeOptions::new(Mixture::parse("Q4_0").unwrap())
            };
            quantize(&source, &path, &options, |_| ControlFlow::Continue(())).unwrap();
            path
        };
        let with = file("with.gguf", Some(written));
        let same = file("same.gguf", Some(gathered.importance()));
        assert!(std::fs::read(&with).unwrap() == std::fs::read(&same).unwrap());
        let (with, without) = (
            Checkpoint::open(&with).unwrap(),
            Checkpoint::open(&file("without.gguf", None)).unwrap(),
        );
        for name in ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"] {
            let sums = decoded(
                &Checkpoint::open(&matrix).unwrap(),
                &format!("{name}.in_sum2"),
            );
            let plain = decoded(&source, name);
            let error = |file: &Checkpoint| -> f64 {
                let pairs = plain.iter().zip(decoded(file, name));
                let weighed = pairs.zip(sums.iter().cycle());
                weighed
                    .map(|((&a, b), &sum)| f64::from(sum) * f64::from(a - b).powi(2))
                    .sum()
            };
            assert!(error(&with) < 0.95 * error(&without), "{name}");
        }
    }

    #[test]
    fn texts_and_chunks_that_are_too_short_are_refused() {
        let run = |text: &str, chunk| {
            let options = GatherOptions {
                chunk,
                ..GatherOptions::default()
            };
            let source = ModelSource::Builtin.open().unwrap();
            gather(source, text, &options, |_| ControlFlow::Break(())).unwrap_err()
        };
        assert!(matches!(
            run("One", 64),
            Error::TextTooShort { chunk: 64, .. }
        ));
        assert!(matches!(run(&text(), 1), Error::ChunkTooShort { chunk: 1 }));
    }
}
