//! A model that is no model: its logits are a hash of the tokens that it finds in the KV blocks of
//! a sequence. If a block is lost, mixed up or overwritten, every later token shows it.

use std::sync::{Arc, Mutex};

use zse_engine::{Completion, Engine, EngineConfig, Generate, ModelShape};
use zse_format::{Checkpoint, EncodedValue, GgufWriter};
use zse_model::executor::{
    Batch, Budget, ExecError, Executor, KvOp, Masks, MemoryReport, Output, Outputs, SampleJob,
    Ticket, TokenSource, finish,
};
use zse_model::sampler;
use zse_text::Tokenizer;

pub(crate) const VOCAB: usize = 64;
/// A prompt that ends with this token has logits that are not numbers.
pub(crate) const POISON: u32 = 63;
/// End of generation.
pub(crate) const EOS: u32 = 2;
pub(crate) const BLOCK_LEN: usize = 4;
const GROUPS: usize = 2;
/// Bytes of a block that is swapped.
pub(crate) const BLOCK_BYTES: usize = GROUPS * BLOCK_LEN;

pub(crate) const SHAPE: ModelShape = ModelShape {
    vocab: VOCAB,
    context: 200,
    kv_groups: GROUPS,
    causal: true,
    pools: false,
    ranks: false,
};

pub(crate) fn budget(blocks: usize, max_tokens: usize) -> Budget {
    Budget {
        kv_blocks: blocks,
        block_len: BLOCK_LEN,
        ..Budget::for_context(BLOCK_LEN, 1, max_tokens)
    }
}

/// What the executor saw: for each step the number of tokens of each sequence.
pub(crate) type Log = Arc<Mutex<Vec<Vec<usize>>>>;

pub(crate) struct Fake {
    budget: Budget,
    pools: bool,
    /// By group and row: the token written there.
    kv: Vec<Vec<Option<u32>>>,
    /// The step in flight.
    batch: Batch,
    results: Result<Outputs, ExecError>,
    pub(crate) log: Log,
    /// Steps, counted from 0, at which the device fails and forgets everything.
    pub(crate) broken_steps: Vec<usize>,
    /// Steps at which a result is missing.
    pub(crate) short_steps: Vec<usize>,
}

impl Fake {
    pub(crate) fn new(budget: &Budget, pools: bool) -> Self {
        Self {
            budget: budget.clone(),
            pools,
            kv: vec![vec![None; budget.kv_blocks * budget.block_len]; GROUPS],
            batch: Batch::default(),
            results: Ok(Outputs::default()),
            log: Log::default(),
            broken_steps: Vec::new(),
            short_steps: Vec::new(),
        }
    }

    fn write(&mut self, batch: &Batch) {
        assert!(!batch.tokens.is_empty() && batch.tokens.len() <= self.budget.max_tokens);
        assert!(batch.outputs.len() <= self.budget.max_outputs);
        let len = self.budget.block_len;
        for op in &batch.kv_ops {
            match op {
                KvOp::Copy { group, from, to } => {
                    let (from, to) = (*from as usize * len, *to as usize * len);
                    self.kv[*group].copy_within(from..from + len, to);
                }
                KvOp::SwapOut { from, to } => {
                    let rows =
                        |group: &[Option<u32>]| group[*from as usize * len..][..len].to_vec();
                    let rows = self.kv.iter().flat_map(|group| rows(group));
                    *to.lock() = rows.map(|row| row.map_or(u8::MAX, |id| id as u8)).collect();
                }
                KvOp::SwapIn { from, to } => {
                    let bytes = from.filled(GROUPS * len).expect("the bytes of a block");
                    for (group, bytes) in self.kv.iter_mut().zip(bytes.chunks_exact(len)) {
                        let rows = &mut group[*to as usize * len..][..len];
                        for (row, &byte) in rows.iter_mut().zip(bytes) {
                            *row = (byte != u8::MAX).then_some(byte.into());
                        }
                    }
                }
            }
        }
        for seq in &batch.seqs {
            for (row, i) in seq.tokens.clone().zip(seq.first..) {
                let TokenSource::Id(id) = batch.tokens[row];
                assert_eq!(batch.positions[row] as usize, i);
                for (group, table) in seq.tables.iter().enumerate() {
                    self.kv[group][table[i / len] as usize * len + i % len] = Some(id);
                }
            }
        }
    }

    fn rows(&self, masks: &Masks) -> Result<Outputs, ExecError> {
        let (batch, len) = (&self.batch, self.budget.block_len);
        let prefix = |seq: usize, end: usize, group: usize| -> Vec<u32> {
            let table = &batch.seqs[seq].tables[group];
            let row = |i: usize| table[i / len] as usize * len + i % len;
            (0..end)
                .map(|i| self.kv[group][row(i)].expect("a row that nobody wrote"))
                .collect()
        };
        let rows = if self.pools {
            (0..batch.seqs.len())
                .map(|s| {
                    assert_eq!(batch.seqs[s].first, 0, "a prompt that was cut");
                    Ok(Output::Pooled(embedding(&prefix(
                        s,
                        batch.seqs[s].tokens.len(),
                        0,
                    ))))
                })
                .collect()
        } else {
            let outputs = batch.outputs.iter().enumerate();
            outputs
                .map(|(row, output)| {
                    let s = batch
                        .seqs
                        .iter()
                        .position(|s| s.tokens.contains(&output.token));
                    let s = s.expect("an output of no sequence");
                    let end = batch.seqs[s].first + output.token - batch.seqs[s].tokens.start + 1;
                    let tokens = prefix(s, end, 0);
                    assert_eq!(tokens, prefix(s, end, 1));
                    finish(row, &output.want, &logits(&tokens), masks.get(row))
                })
                .collect::<Result<_, _>>()
        };
        rows.map(|rows| Outputs { rows })
    }
}

impl Executor for Fake {
    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecError> {
        let step = {
            let mut log = self.log.lock().unwrap();
            log.push(batch.seqs.iter().map(|s| s.tokens.len()).collect());
            log.len() - 1
        };
        if self.broken_steps.contains(&step) {
            self.kv.iter_mut().for_each(|group| group.fill(None));
            return Err(ExecError::BadBatch("the device fell off".into()));
        }
        self.write(batch);
        self.batch = batch.clone();
        Ok(Ticket(0))
    }

    fn sample(&mut self, _: Ticket, masks: &Masks) -> Result<(), ExecError> {
        self.results = self.rows(masks);
        let step = self.log.lock().unwrap().len() - 1;
        if let (true, Ok(outputs)) = (self.short_steps.contains(&step), &mut self.results) {
            outputs.rows.pop();
        }
        Ok(())
    }

    fn wait(&mut self, _: Ticket) -> Result<Outputs, ExecError> {
        std::mem::replace(&mut self.results, Ok(Outputs::default()))
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport {
            kv: (self.budget.kv_blocks * BLOCK_BYTES) as u64,
            ..MemoryReport::default()
        }
    }
}

fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0xcbf2_9ce4_8422_2325, |h, &t| {
        let h = (h ^ u64::from(t + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^ (h >> 29)
    })
}

/// The logits after `tokens`.
pub(crate) fn logits(tokens: &[u32]) -> Vec<f32> {
    if tokens.last() == Some(&POISON) {
        return vec![f32::NAN; VOCAB];
    }
    let h = hash(tokens);
    let logit = |i: u64| (h.rotate_left(i as u32 % 64).wrapping_mul(2 * i + 1) >> 44) as f32;
    let mut logits: Vec<f32> = (0..VOCAB as u64)
        .map(|i| logit(i) / (1 << 17) as f32)
        .collect();
    // Nobody draws poison.
    logits[POISON as usize] = f32::NEG_INFINITY;
    logits
}

/// The embedding of `tokens`.
pub(crate) fn embedding(tokens: &[u32]) -> Vec<f32> {
    vec![(hash(tokens) >> 40) as f32, tokens.len() as f32]
}

pub(crate) fn engine(blocks: usize, max_tokens: usize) -> Engine {
    watched(blocks, max_tokens, EngineConfig::default()).0
}

/// An engine, and what its executor sees.
pub(crate) fn watched(blocks: usize, max_tokens: usize, config: EngineConfig) -> (Engine, Log) {
    let budget = budget(blocks, max_tokens);
    let fake = Fake::new(&budget, false);
    let log = Arc::clone(&fake.log);
    (
        Engine::new(Box::new(fake), SHAPE, Some(tokenizer()), &budget, config),
        log,
    )
}

/// The tokens that `generate` gives for `prompt` by definition: one after another, alone. Stop
/// strings are left out.
pub(crate) fn expected(prompt: &[u32], generate: &Generate, choice: u32, limit: usize) -> Vec<u32> {
    let (mut tokens, mut mu) = (prompt.to_vec(), generate.params.initial_mu());
    let params = Arc::new(generate.params.clone());
    while tokens.len() < limit && tokens.len() - prompt.len() < generate.max_tokens.unwrap_or(limit)
    {
        let start = tokens.len().saturating_sub(params.lookback());
        let job = SampleJob {
            params: Arc::clone(&params),
            history: tokens[start..].to_vec(),
            choice,
            position: tokens.len() as u64,
            mu,
        };
        let sampled = sampler::sample(&logits(&tokens), &job, None).unwrap();
        mu = sampled.mu;
        tokens.push(sampled.token);
        if sampled.token == EOS || generate.stop_tokens.contains(&sampled.token) {
            break;
        }
    }
    tokens.split_off(prompt.len())
}

/// The ids of a completion.
pub(crate) fn ids(completion: &Completion) -> Vec<u32> {
    completion.tokens.iter().map(|t| t.id).collect()
}

/// Random-looking tokens, none of them special.
pub(crate) fn prompt(seed: u64, len: usize) -> Vec<u32> {
    (0..len as u64)
        .map(|i| 3 + (hash(&[seed as u32, i as u32]) >> 40) as u32 % 60)
        .collect()
}

/// Twelve tokens, drawn by `seed`.
pub(crate) fn generate(seed: u64) -> Generate {
    Generate {
        params: sampler::SampleParams {
            seed,
            ..sampler::SampleParams::default()
        },
        max_tokens: Some(12),
        ignore_eos: true,
        ..Generate::default()
    }
}

/// Letters, words with a space before them, single bytes, and `</s>`.
pub(crate) fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    let mut kinds = vec![2i32, 3, 3];
    for token in ["<0xC3>", "<0xB1>", "<0xE6>", "<0xBC>", "<0xA2>"] {
        tokens.push(token.into());
        kinds.push(6);
    }
    tokens.extend(["ñ", "漢", "▁", "▁the", "ab", "abc"].map(String::from));
    tokens.extend(('a'..='z').map(String::from));
    while tokens.len() < VOCAB {
        tokens.push(format!("▁w{}", tokens.len()));
    }
    kinds.resize(VOCAB, 1);
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "llama").unwrap();
    writer
        .set("tokenizer.ggml.tokens", EncodedValue::strings(&tokens))
        .unwrap();
    writer
        .set("tokenizer.ggml.scores", &vec![0f32; VOCAB][..])
        .unwrap();
    writer.set("tokenizer.ggml.token_type", &kinds[..]).unwrap();
    let bytes = writer
        .begin(Vec::new(), "vocabulary")
        .unwrap()
        .finish()
        .unwrap();
    let file = Checkpoint::from_bytes(bytes, "vocabulary").unwrap();
    Tokenizer::from_metadata(file.metadata()).unwrap()
}
