//! Batches of random tokens for an executor.

use std::sync::Arc;

use zse_model::executor::{
    AdapterId, AdapterUse, Batch, BlockId, Budget, ExecError, Executor, Masks, OutputRow,
    SampleJob, SeqSpan, TokenSource, Want,
};
use zse_model::sampler::SampleParams;
use zse_model::{Adapter, AdapterError, Model};

/// An executor whose KV blocks are dealt out to sequences once and for all.
pub(super) struct Driver {
    pub(super) executor: Box<dyn Executor>,
    /// What every sequence uses.
    adapters: Vec<AdapterUse>,
    params: Arc<SampleParams>,
    vocab: u64,
    groups: usize,
    block_len: usize,
    blocks_per_seq: usize,
    max_tokens: usize,
    /// State of the generator of token ids.
    random: u64,
}

impl Driver {
    pub(super) fn new(
        executor: Box<dyn Executor>,
        model: &Model,
        budget: &Budget,
        context: usize,
    ) -> Self {
        Self {
            executor,
            adapters: Vec::new(),
            params: Arc::new(SampleParams::greedy()),
            vocab: model.info.vocab as u64,
            groups: model.program.kv_groups().len(),
            block_len: budget.block_len,
            blocks_per_seq: context.div_ceil(budget.block_len),
            max_tokens: budget.max_tokens,
            random: 0,
        }
    }

    /// Lets every sequence use `adapter` from now on.
    pub(super) fn add_adapter(&mut self, adapter: &Adapter) -> Result<(), AdapterError> {
        let id = AdapterId(self.adapters.len() as u64);
        self.executor.load_adapter(id, adapter)?;
        self.adapters.push(AdapterUse {
            adapter: id,
            scale: 1.0,
        });
        Ok(())
    }

    /// Computes `n` more tokens of each of `seqs` sequences that have `cached` tokens, and draws
    /// the next token of each behind the last.
    pub(super) fn prompt(&mut self, seqs: usize, cached: usize, n: usize) -> Result<(), ExecError> {
        let chunk = (self.max_tokens / seqs).max(1);
        let mut done = 0;
        while done < n {
            let len = chunk.min(n - done);
            let batch = self.batch(seqs, cached + done, len, done + len == n);
            let ticket = self.executor.submit(&batch)?;
            self.executor.sample(ticket, &Masks::default())?;
            self.executor.wait(ticket)?;
            done += len;
        }
        Ok(())
    }

    fn batch(&mut self, seqs: usize, cached: usize, len: usize, is_last: bool) -> Batch {
        let mut batch = Batch::default();
        for seq in 0..seqs {
            let start = batch.tokens.len();
            batch
                .tokens
                .extend((0..len).map(|_| TokenSource::Id(self.token())));
            batch
                .positions
                .extend((cached..cached + len).map(|p| p as u32));
            let first_block = (seq * self.blocks_per_seq) as BlockId;
            let blocks = (cached + len).div_ceil(self.block_len) as BlockId;
            batch.seqs.push(SeqSpan {
                tokens: start..start + len,
                first: cached,
                tables: vec![(first_block..first_block + blocks).collect(); self.groups],
                adapters: self.adapters.clone(),
            });
            if is_last {
                let job = SampleJob {
                    params: Arc::clone(&self.params),
                    history: Vec::new(),
                    choice: 0,
                    position: (cached + len) as u64,
                    mu: 0.0,
                };
                batch.outputs.push(OutputRow {
                    token: start + len - 1,
                    want: Want::Sample(Box::new(job)),
                });
            }
        }
        batch
    }

    /// The next random token (SplitMix64; Steele et al. 2014).
    fn token(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % self.vocab) as u32
    }
}
