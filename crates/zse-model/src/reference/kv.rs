//! Keys and values in blocks, and attention over them.

use crate::AttentionSpec;
use crate::executor::{Batch, Budget, ExecError, KvOp, KvType, LoadError, SeqSpan, try_reserve};
use crate::program::{KvGroup, Mask, Paged, Program, StateId};

use super::ops;

/// The blocks of every state, as f32 that went through the budget's KV type.
pub(super) struct KvStore {
    budget: Budget,
    groups: Vec<KvGroup>,
    states: Vec<StateStore>,
}

struct StateStore {
    paged: Paged,
    /// Index of its group.
    group: usize,
    /// `[kv_blocks * block_len, kv_heads * k_dim]`.
    k: Vec<f32>,
    /// `[kv_blocks * block_len, kv_heads * v_dim]`.
    v: Vec<f32>,
}

impl StateStore {
    /// Keys and values, with the numbers of a block of `block_len` tokens.
    fn sides(&mut self, block_len: usize) -> [(&mut Vec<f32>, usize); 2] {
        let tokens = block_len * self.paged.kv_heads;
        [
            (&mut self.k, tokens * self.paged.k_dim),
            (&mut self.v, tokens * self.paged.v_dim),
        ]
    }
}

/// What the store takes for `budget`: whatever type they are rounded to, keys and values are kept
/// as f32.
pub(super) fn kept(budget: &Budget) -> Budget {
    Budget {
        kv_type: KvType::F32,
        ..budget.clone()
    }
}

impl KvStore {
    /// A store for a budget that was checked.
    pub(super) fn new(program: &Program, budget: &Budget) -> Result<Self, LoadError> {
        try_reserve("keys and values", kept(budget).kv_bytes(program))?;
        let groups = program.kv_groups();
        let tokens = budget.kv_blocks * budget.block_len;
        let states = (0..program.states.len())
            .map(|i| {
                let id = StateId(i as u32);
                let paged = program.paged(id);
                StateStore {
                    paged,
                    group: groups
                        .iter()
                        .position(|g| g.states.contains(&id))
                        .unwrap_or(0),
                    k: vec![0.0; tokens * paged.kv_heads * paged.k_dim],
                    v: vec![0.0; tokens * paged.kv_heads * paged.v_dim],
                }
            })
            .collect();
        Ok(Self {
            budget: budget.clone(),
            groups,
            states,
        })
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn bytes(&self) -> u64 {
        self.states
            .iter()
            .map(|s| 4 * (s.k.len() + s.v.len()) as u64)
            .sum()
    }

    pub(super) fn apply(&mut self, op: &KvOp) -> Result<(), ExecError> {
        let len = self.budget.block_len;
        match op {
            KvOp::Copy { group, from, to } => {
                for id in &self.groups[*group].states {
                    for (data, block) in self.states[id.index()].sides(len) {
                        let from = *from as usize * block;
                        data.copy_within(from..from + block, *to as usize * block);
                    }
                }
            }
            KvOp::SwapOut { from, to } => {
                let mut bytes = to.lock();
                bytes.clear();
                for (data, block) in self.states.iter_mut().flat_map(|s| s.sides(len)) {
                    let numbers = &data[*from as usize * block..][..block];
                    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
                }
            }
            KvOp::SwapIn { from, to } => {
                let block_bytes = self.bytes() as usize / self.budget.kv_blocks;
                let bytes = from.filled(block_bytes)?;
                let mut numbers = bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x));
                for (data, block) in self.states.iter_mut().flat_map(|s| s.sides(len)) {
                    let to = data[*to as usize * block..][..block].iter_mut();
                    to.zip(&mut numbers).for_each(|(to, x)| *to = x);
                }
            }
        }
        Ok(())
    }

    /// Stores the batch's keys and values, rounded to the KV type.
    pub(super) fn write(&mut self, state: StateId, batch: &Batch, k: &[f32], v: &[f32]) {
        let (kv_type, block_len) = (self.budget.kv_type, self.budget.block_len);
        let s = &mut self.states[state.index()];
        let Paged {
            kv_heads,
            k_dim,
            v_dim,
            ..
        } = s.paged;
        for seq in &batch.seqs {
            for (i, token) in seq.tokens.clone().enumerate() {
                let row = slot(seq, s.group, seq.first + i, block_len);
                for (data, new, dim) in [(&mut s.k, k, k_dim), (&mut s.v, v, v_dim)] {
                    let width = kv_heads * dim;
                    let rounded = round(kv_type, &new[token * width..][..width], dim);
                    data[row * width..][..width].copy_from_slice(&rounded);
                }
            }
        }
    }

    /// Softmax attention of each query over the keys that its mask allows.
    pub(super) fn attend(
        &self,
        state: StateId,
        batch: &Batch,
        q: &[f32],
        spec: &AttentionSpec,
    ) -> Vec<f32> {
        let s = &self.states[state.index()];
        let Paged {
            kv_heads,
            k_dim,
            v_dim,
            ..
        } = s.paged;
        let mut out = Vec::with_capacity(batch.tokens.len() * spec.heads * v_dim);
        for seq in &batch.seqs {
            for (i, token) in seq.tokens.clone().enumerate() {
                let own = seq.first + i;
                let visible = match spec.mask {
                    Mask::Causal => 0..own + 1,
                    Mask::Window(n) => (own + 1).saturating_sub(n)..own + 1,
                    Mask::Bidirectional => 0..seq.first + seq.tokens.len(),
                };
                let rows: Vec<usize> = visible
                    .map(|t| slot(seq, s.group, t, self.budget.block_len))
                    .collect();
                for head in 0..spec.heads {
                    let kv_head = head / (spec.heads / kv_heads);
                    let q = &q[(token * spec.heads + head) * k_dim..][..k_dim];
                    let mut scores: Vec<f32> = rows
                        .iter()
                        .map(|row| {
                            let k = &s.k[(row * kv_heads + kv_head) * k_dim..][..k_dim];
                            let score = ops::dot(q, k) * spec.scale;
                            spec.softcap.map_or(score, |cap| cap * (score / cap).tanh())
                        })
                        .collect();
                    ops::softmax(&mut scores);
                    let mut sum = vec![0.0f64; v_dim];
                    for (&p, row) in scores.iter().zip(&rows) {
                        let v = &s.v[(row * kv_heads + kv_head) * v_dim..][..v_dim];
                        sum.iter_mut()
                            .zip(v)
                            .for_each(|(a, &v)| *a += f64::from(p) * f64::from(v));
                    }
                    out.extend(sum.into_iter().map(|v| v as f32));
                }
            }
        }
        out
    }
}

/// Row of token `index` of a sequence in a state's store.
fn slot(seq: &SeqSpan, group: usize, index: usize, block_len: usize) -> usize {
    seq.tables[group][index / block_len] as usize * block_len + index % block_len
}

/// `x` as the KV type keeps it, head by head of `dim` numbers.
fn round(kv_type: KvType, x: &[f32], dim: usize) -> Vec<f32> {
    let mut bytes = vec![0; kv_type.head_bytes(dim).unwrap_or(0) * (x.len() / dim)];
    let mut out = vec![0.0; x.len()];
    // Not finite values (a damaged model) cannot be encoded; they must stay visible.
    let stored = kv_type.encode(x, dim, &mut bytes);
    if stored
        .and_then(|()| kv_type.decode(&bytes, &mut out))
        .is_none()
    {
        out.fill(f32::NAN);
    }
    out
}
