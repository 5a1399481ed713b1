//! The plain data of one step.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ExecError;
use crate::program::Rows;
use crate::sampler::SampleParams;

/// Number of a KV block within its group, below [`Budget::kv_blocks`](super::Budget::kv_blocks).
pub type BlockId = u32;

/// One step's work. Sequences lie behind one another in `tokens`.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Done before the forward pass, in order.
    pub kv_ops: Vec<KvOp>,
    /// The tokens of all sequences.
    pub tokens: Vec<TokenSource>,
    /// For a program that goes on from another ([`Op::Hidden`](crate::program::Op::Hidden)): what that
    /// gave, row after row; of other programs nobody reads it.
    pub hidden: Arc<[f32]>,
    /// Position of each token for rotary and learned position embeddings.
    pub positions: Vec<u32>,
    /// The sequences; their ranges cover `tokens` in order.
    pub seqs: Vec<SeqSpan>,
    /// Tokens whose outputs are wanted, in rising order of their row. Empty for a program that
    /// pools or is gone on from: those give one output for each sequence, or for each token.
    pub outputs: Vec<OutputRow>,
}

impl Batch {
    /// The rows that a value has for this batch.
    pub fn rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens.len(),
            Rows::Outputs => self.outputs.len(),
            Rows::Seqs => self.seqs.len(),
        }
    }

    /// What adapters change of a value with these rows: in rising order of the adapters, which is the
    /// order in which they are added.
    pub fn adapted(&self, rows: Rows) -> Vec<AdaptedRows> {
        let mut adapted: Vec<AdaptedRows> = Vec::new();
        for (i, seq) in self.seqs.iter().enumerate() {
            if seq.adapters.is_empty() {
                continue;
            }
            let of_seq = match rows {
                Rows::Tokens => seq.tokens.clone(),
                Rows::Outputs => {
                    let before = |end| self.outputs.partition_point(|o| o.token < end);
                    before(seq.tokens.start)..before(seq.tokens.end)
                }
                Rows::Seqs => i..i + 1,
            };
            for used in &seq.adapters {
                let found = adapted.binary_search_by_key(&used.adapter, |a| a.adapter);
                let at = found.unwrap_or_else(|at| {
                    let (rows, scales) = (Vec::new(), Vec::new());
                    let adapter = used.adapter;
                    adapted.insert(
                        at,
                        AdaptedRows {
                            adapter,
                            rows,
                            scales,
                        },
                    );
                    at
                });
                adapted[at]
                    .rows
                    .extend(of_seq.clone().map(|row| row as u32));
                adapted[at]
                    .scales
                    .extend(of_seq.clone().map(|_| used.scale));
            }
        }
        adapted.retain(|a| !a.rows.is_empty());
        adapted
    }

    /// For each token, 1 behind the first `separator` of its sequence, else 0. The sequences are
    /// whole.
    pub fn segments(&self, separator: u32) -> Vec<u32> {
        let mut segments = vec![0; self.tokens.len()];
        for seq in &self.seqs {
            let is_end = |&token: &TokenSource| token == TokenSource::Id(separator);
            if let Some(end) = self.tokens[seq.tokens.clone()].iter().position(is_end) {
                segments[seq.tokens.start + end + 1..seq.tokens.end].fill(1);
            }
        }
        segments
    }
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// This token.
    Id(u32),
}

/// A sequence's part of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct SeqSpan {
    /// Its rows of [`Batch::tokens`].
    pub tokens: Range<usize>,
    /// Index in the sequence's KV of its first token here: how many tokens are cached already. 0
    /// for a program that takes whole sequences (`Program::takes_whole_sequences`).
    pub first: usize,
    /// For each KV group, the blocks that hold the sequence, the batch's tokens included. Token
    /// `i` of the sequence is row `i % block_len` of block `i / block_len`.
    pub tables: Vec<Vec<BlockId>>,
    /// What is added to its products, in rising order of the adapters; empty: nothing.
    pub adapters: Vec<AdapterUse>,
}

/// Names an adapter that was [loaded](super::Executor::load_adapter). Ids rise in the order of
/// loading, and none is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub u64);

/// An adapter and how much of it is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterUse {
    /// Which.
    pub adapter: AdapterId,
    /// Factor on what it adds.
    pub scale: f32,
}

/// The rows of a value that an adapter changes.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptedRows {
    /// The adapter.
    pub adapter: AdapterId,
    /// The rows, rising.
    pub rows: Vec<u32>,
    /// For each row, the factor on what is added.
    pub scales: Vec<f32>,
}

/// A row that wants an output.
#[derive(Clone, Debug)]
pub struct OutputRow {
    /// Row of [`Batch::tokens`].
    pub token: usize,
    /// Of which kind.
    pub want: Want,
}

/// The kind of an output.
#[derive(Clone, Debug)]
pub enum Want {
    /// A token drawn from the logits.
    Sample(Box<SampleJob>),
    /// All logits.
    Logits,
    /// The log-probability of this token.
    LogProb(u32),
}

/// How a token is drawn. Everything that the draw depends on is in here, so that it does not
/// matter where or in which order it is made.
#[derive(Clone, Debug)]
pub struct SampleJob {
    /// Settings of the request.
    pub params: Arc<SampleParams>,
    /// The newest tokens of the sequence, oldest first: as many as the penalties look back
    /// ([`SampleParams::lookback`]); shorter at the start.
    pub history: Vec<u32>,
    /// Which of the request's choices (`n`) this is.
    pub choice: u32,
    /// Position of the token to be drawn in its sequence.
    pub position: u64,
    /// Mirostat's running estimate; see [`Sampled::mu`].
    pub mu: f32,
}

/// An operation on KV blocks.
#[derive(Clone, Debug)]
pub enum KvOp {
    /// Copies a block (all states of the group).
    Copy {
        /// Index into [`Program::kv_groups`](crate::Program::kv_groups).
        group: usize,
        /// Source.
        from: BlockId,
        /// Destination.
        to: BlockId,
    },
    /// Copies a block (all states of all groups) out of the executor; the bytes are there once the
    /// step has been waited for, or for a [`SwapIn`](Self::SwapIn) behind it.
    SwapOut {
        /// Source, in every group.
        from: BlockId,
        /// Destination; what it holds is replaced.
        to: BlockBytes,
    },
    /// Copies the bytes of a block back, bit by bit, to any block.
    SwapIn {
        /// Source: what a [`SwapOut`](Self::SwapOut) of this executor gave.
        from: BlockBytes,
        /// Destination, in every group.
        to: BlockId,
    },
}

/// The bytes of a KV block outside an executor, in a layout that only the executor knows. Clones are
/// the same bytes.
#[derive(Clone, Debug, Default)]
pub struct BlockBytes(Arc<Mutex<Vec<u8>>>);

impl BlockBytes {
    /// Whether these are the very same bytes.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The block of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    /// The bytes, while nobody else reads or writes them.
    pub fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // Whoever panicked while writing left bytes nevertheless.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes for an executor whose blocks have `len` of them.
    ///
    /// # Errors
    /// [`ExecError::BadBatch`] if there are more or fewer.
    pub fn filled(&self, len: usize) -> Result<MutexGuard<'_, Vec<u8>>, ExecError> {
        let bytes = self.lock();
        match bytes.len() == len {
            true => Ok(bytes),
            false => Err(ExecError::BadBatch(format!(
                "a block of {} bytes to swap in, but blocks have {len}",
                bytes.len()
            ))),
        }
    }
}

/// Which tokens may be drawn: bit `i % 64` of word `i / 64` for token `i`; absent words are 0.
pub type TokenMask = Vec<u64>;

/// Masks of a step by index into [`Batch::outputs`]; rows that are not named are free.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    /// Row and its mask.
    pub rows: Vec<(usize, TokenMask)>,
}

impl Masks {
    /// The mask of output row `row`.
    pub fn get(&self, row: usize) -> Option<&TokenMask> {
        self.rows.iter().find(|(r, _)| *r == row).map(|(_, m)| m)
    }
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the model, before any sampler stage.
    pub logprob: f32,
    /// The most likely tokens with their log-probabilities, best first, as many as
    /// [`SampleParams::top_logprobs`] asks for.
    pub top: Vec<(u32, f32)>,
    /// Mirostat's estimate for the next draw.
    pub mu: f32,
}

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For [`Want::Sample`].
    Sampled(Sampled),
    /// For [`Want::Logits`]: `[vocab]`.
    Logits(Vec<f32>),
    /// For [`Want::LogProb`].
    LogProb(f32),
    /// The embedding of a sequence, or its score, for a program that pools: `[width]` or `[1]`.
    Pooled(Vec<f32>),
    /// The row of a token, for a program that goes on from there
    /// ([`ProgramOutput::Hidden`](crate::program::ProgramOutput::Hidden)): `[width]`.
    Hidden(Vec<f32>),
}

/// The results of a step: one for each of [`Batch::outputs`], or, for a program that pools, one
/// for each of [`Batch::seqs`], or, for one that is gone on from, one for each of [`Batch::tokens`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// In the order of the batch.
    pub rows: Vec<Output>,
}
