//! One file in both engines on a text: perplexities, and how far the distributions are apart.

use std::path::Path;

use anyhow::{Result, ensure};
use zse_cpu::CpuBackend;
use zse_format::Checkpoint;

use crate::engine::{self, Engine};
use crate::llama::{Context, Load, Model};
use crate::stats::{argmax, kl_divergence, log_softmax};

/// A text in chunks of tokens, each a sequence of its own. As `llama-perplexity` does, the tokens
/// of the second half of each chunk are scored.
pub(crate) struct Text {
    pub(crate) chunks: Vec<Vec<u32>>,
    /// Tokens in a chunk.
    pub(crate) length: usize,
}

impl Text {
    /// `tokens` in chunks of `length`, a rest left out; the first token of each becomes `bos`,
    /// where the model wants one.
    ///
    /// # Errors
    /// If there are too few tokens.
    pub(crate) fn new(tokens: &[u32], length: usize, bos: Option<u32>) -> Result<Self> {
        ensure!(
            length >= 4 && tokens.len() >= length,
            "{} tokens are no chunk of {length}",
            tokens.len()
        );
        let mut chunks: Vec<_> = tokens.chunks_exact(length).map(<[u32]>::to_vec).collect();
        for chunk in &mut chunks {
            chunk[0] = bos.unwrap_or(chunk[0]);
        }
        Ok(Self { chunks, length })
    }

    /// The positions of a chunk that predict a token that is scored.
    fn scored(&self) -> std::ops::Range<usize> {
        self.length / 2..self.length - 1
    }

    /// Tokens that are scored.
    pub(crate) fn scored_tokens(&self) -> usize {
        self.chunks.len() * self.scored().len()
    }

    /// The distributions after the scored positions of `chunk`, from logits `[length, vocab]`.
    fn distributions(&self, logits: &[f32], vocab: usize) -> Vec<Vec<f64>> {
        self.scored()
            .map(|i| log_softmax(&logits[i * vocab..][..vocab]))
            .collect()
    }
}

/// What llama.cpp computes with F32 weights: for each chunk its scored positions, each `[vocab]`.
pub(crate) struct Baseline {
    /// Logarithms of probabilities.
    chunks: Vec<Vec<Vec<f64>>>,
    pub(crate) perplexity: f64,
}

impl Baseline {
    /// Of the model in `file`.
    ///
    /// # Errors
    /// If llama.cpp fails.
    pub(crate) fn new(file: &Path, text: &Text, threads: usize) -> Result<Self> {
        let model = Model::open(file, Load::All)?;
        let mut context = Context::new(&model, text.length, threads)?;
        let (mut chunks, mut nll) = (Vec::new(), 0.0);
        for chunk in &text.chunks {
            let rows = text.distributions(&context.logits(chunk)?, model.vocab_size());
            let targets = text.scored().map(|i| chunk[i + 1] as usize);
            nll -= rows
                .iter()
                .zip(targets)
                .map(|(row, target)| row[target])
                .sum::<f64>();
            chunks.push(rows);
        }
        Ok(Self {
            chunks,
            perplexity: (nll / text.scored_tokens() as f64).exp(),
        })
    }
}

/// One file in both engines. Divergences are means over the scored tokens, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Bits that a weight takes, of all tensors.
    pub(crate) bits: f64,
    /// Perplexity in llama.cpp.
    pub(crate) theirs: f64,
    /// Perplexity in ZSE.
    pub(crate) ours: f64,
    /// Divergence of ZSE from llama.cpp.
    pub(crate) divergence: f64,
    /// Share of positions at which both find the same token the most likely.
    pub(crate) top1: f64,
    /// Divergence of llama.cpp from the baseline.
    pub(crate) their_loss: f64,
    /// Divergence of ZSE from the baseline.
    pub(crate) our_loss: f64,
}

impl Measured {
    /// Runs `file` in both.
    ///
    /// # Errors
    /// If either fails.
    pub(crate) fn new(
        file: &Path,
        text: &Text,
        baseline: &Baseline,
        threads: usize,
    ) -> Result<Self> {
        let theirs = Model::open(file, Load::All)?;
        let vocab = theirs.vocab_size();
        let mut context = Context::new(&theirs, text.length, threads)?;
        let ours = engine::open(file, text.length)?;
        let mut engine = Engine::new(&CpuBackend::default(), ours, text.length, threads)?;
        let mut sum = Self::default();
        for (chunk, baseline) in text.chunks.iter().zip(&baseline.chunks) {
            let theirs = text.distributions(&context.logits(chunk)?, vocab);
            let ours = text.distributions(&engine.outputs(chunk)?, vocab);
            for (i, position) in text.scored().enumerate() {
                let (p, q, base) = (&theirs[i], &ours[i], &baseline[i]);
                let target = chunk[position + 1] as usize;
                sum.theirs -= p[target];
                sum.ours -= q[target];
                sum.divergence += kl_divergence(p, q);
                sum.top1 += f64::from(argmax(p) == argmax(q));
                sum.their_loss += kl_divergence(base, p);
                sum.our_loss += kl_divergence(base, q);
            }
        }
        let mean = |sum: f64| sum / text.scored_tokens() as f64;
        Ok(Self {
            bits: bits_per_weight(&Checkpoint::open(file)?),
            theirs: mean(sum.theirs).exp(),
            ours: mean(sum.ours).exp(),
            divergence: mean(sum.divergence),
            top1: mean(sum.top1),
            their_loss: mean(sum.their_loss),
            our_loss: mean(sum.our_loss),
        })
    }

    /// ZSE's perplexity over llama.cpp's, less 1.
    pub(crate) fn change(&self) -> f64 {
        self.ours / self.theirs - 1.0
    }
}

fn bits_per_weight(file: &Checkpoint) -> f64 {
    let (bytes, weights) = file.tensors().fold((0, 0), |(bytes, weights), tensor| {
        (
            bytes + tensor.data.len() as u64,
            weights + tensor.elements(),
        )
    });
    8.0 * bytes as f64 / weights.max(1) as f64
}
