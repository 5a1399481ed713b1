//! Where the time of forward passes goes, and what each part has to move and to compute.

use std::time::Duration;

use crate::model::Model;
use crate::passes::Step;
use crate::program::{Mask, Op, StateId, ValueId};

use super::{Batch, KvType};

/// What was measured of some passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Passes.
    pub passes: u64,
    /// The parts of a pass in their order, over all passes.
    pub parts: Vec<ProfilePart>,
    /// Drawing tokens from logits.
    pub sampling: Duration,
}

/// A part of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfilePart {
    /// Its operations.
    pub step: Step,
    /// The time of all passes.
    pub time: Duration,
    /// The work of all passes.
    pub work: Work,
}

impl Profile {
    /// Nothing measured yet of passes of these `steps`.
    pub fn new(steps: &[Step]) -> Self {
        let part = |step: &Step| ProfilePart {
            step: step.clone(),
            time: Duration::ZERO,
            work: Work::default(),
        };
        Self {
            parts: steps.iter().map(part).collect(),
            ..Self::default()
        }
    }
}

/// What operations move and compute at least, whatever the executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes read and written: weights once a pass, keys and values, inputs and results. Of a
    /// mixture as many experts count as the tokens may choose.
    pub bytes: u64,
    /// Products with quantized weights, two operations a multiply-add.
    pub int8_ops: u64,
    /// Other products, two operations a multiply-add.
    pub f32_ops: u64,
}

impl Work {
    /// The work of one pass of `batch` in `step`, with keys and values as `kv_type`.
    pub fn of(model: &Model, step: &Step, batch: &Batch, kv_type: KvType) -> Self {
        let program = &model.program;
        let pass = Pass {
            model,
            batch,
            kv_type,
        };
        let nodes = || step.nodes().iter().map(|n| &program.nodes[n.index()]);
        let mut work = Self::default();
        for node in nodes() {
            work.add(pass.operation(&node.op));
        }
        let made: Vec<ValueId> = nodes().filter_map(|n| n.out).collect();
        let mut values: Vec<ValueId> = nodes().flat_map(|n| n.op.inputs()).collect();
        values.retain(|v| !made.contains(v));
        values.extend(step.stores(program));
        values.sort_unstable();
        values.dedup();
        work.bytes += values.into_iter().map(|v| 4 * pass.len(v)).sum::<u64>();
        work
    }

    /// Adds the work of something else.
    pub fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.int8_ops += other.int8_ops;
        self.f32_ops += other.f32_ops;
    }
}

/// What the work of an operation depends on.
struct Pass<'a> {
    model: &'a Model,
    batch: &'a Batch,
    kv_type: KvType,
}

impl Pass<'_> {
    fn rows(&self, v: ValueId) -> u64 {
        self.batch.rows(self.model.program.value(v).rows) as u64
    }

    /// Numbers of a value.
    fn len(&self, v: ValueId) -> u64 {
        self.rows(v) * self.model.program.value(v).cols as u64
    }

    /// The work of an operation without its inputs and result.
    fn operation(&self, op: &Op) -> Work {
        match *op {
            Op::Embed { table, .. } => Work {
                bytes: (self.batch.tokens.len() * self.model.weights.get(table).row_bytes()) as u64,
                ..Work::default()
            },
            Op::Linear { x, .. } => self.products(op, self.rows(x), 1),
            Op::MoeFfn { x, route, .. } => {
                let top_k = self.model.program.value(route).cols as u64 / 2;
                self.products(op, self.rows(x), top_k)
            }
            Op::KvWrite { state, .. } => Work {
                bytes: self.batch.tokens.len() as u64 * self.token_bytes(state),
                ..Work::default()
            },
            Op::Attention {
                state, heads, mask, ..
            } => self.attention(state, heads, mask),
            _ => Work {
                bytes: (op.tensors().into_iter())
                    .map(|t| self.model.weights.get(t).data.len() as u64)
                    .sum(),
                ..Work::default()
            },
        }
    }

    /// Products of `rows` rows with the weights of `op`, each with `chosen` matrices of a stack.
    fn products(&self, op: &Op, rows: u64, chosen: u64) -> Work {
        let mut work = Work::default();
        for weight in op.tensors() {
            let view = self.model.weights.get(weight);
            let experts = view.experts as u64;
            let used = (rows * chosen).min(experts);
            work.bytes += view.data.len() as u64 / experts * used;
            let ops = 2 * rows * chosen * (view.rows * view.cols) as u64;
            if view.ty.is_quantized() {
                work.int8_ops += ops;
            } else {
                work.f32_ops += ops;
            }
        }
        work
    }

    fn attention(&self, state: StateId, heads: usize, mask: Mask) -> Work {
        let paged = self.model.program.paged(state);
        let (mut seen, mut read) = (0, 0);
        for seq in &self.batch.seqs {
            let (first, new) = (seq.first as u64, seq.tokens.len() as u64);
            let all = first + new;
            match mask {
                Mask::Causal => {
                    seen += new * first + new * (new + 1) / 2;
                    read += all;
                }
                Mask::Window(n) => {
                    let n = n as u64;
                    seen += (first + 1..=all).map(|known| known.min(n)).sum::<u64>();
                    read += all.min(new + n - 1);
                }
                Mask::Bidirectional => {
                    seen += new * all;
                    read += all;
                }
            }
        }
        Work {
            bytes: read * self.token_bytes(state),
            f32_ops: 2 * seen * (heads * (paged.k_dim + paged.v_dim)) as u64,
            int8_ops: 0,
        }
    }

    /// Bytes of the keys and values of a token.
    fn token_bytes(&self, state: StateId) -> u64 {
        let paged = self.model.program.paged(state);
        let head = |dim| self.kv_type.head_bytes(dim).unwrap_or(0);
        (paged.kv_heads * (head(paged.k_dim) + head(paged.v_dim))) as u64
    }
}

#[cfg(test)]
mod tests {
    use zse_quant::GgmlType;

    use super::*;
    use crate::conformance::{DecoderSpec, batch, decoder};
    use crate::executor::Budget;
    use crate::passes::{GroupKind, schedule};

    /// The work of each kind of step in a pass of 3 tokens behind 2, by the names of its operations.
    fn work(ty: GgmlType, claim: &[GroupKind]) -> Vec<(Vec<&'static str>, Work)> {
        let model = decoder(&DecoderSpec::small(ty), 1).unwrap();
        let budget = Budget::for_context(8, 1, 8);
        let batch = batch(&model, &budget, &[(&[1, 2, 3], 2)]);
        let of = |step: &Step| {
            let nodes = step.nodes().iter();
            let names = nodes.map(|n| model.program.nodes[n.index()].op.name());
            let work = Work::of(&model, step, &batch, KvType::F16);
            (names.collect(), work)
        };
        schedule(&model.program, claim).iter().map(of).collect()
    }

    fn total(of: &[(Vec<&'static str>, Work)]) -> Work {
        let mut total = Work::default();
        of.iter().for_each(|(_, work)| total.add(*work));
        total
    }

    #[test]
    fn a_group_moves_less_than_its_operations_and_computes_the_same() {
        let alone = total(&work(GgmlType::Q8_0, &[]));
        let fused = total(&work(GgmlType::Q8_0, &GroupKind::ALL));
        assert!(fused.bytes < alone.bytes);
        assert_eq!(
            (fused.int8_ops, fused.f32_ops),
            (alone.int8_ops, alone.f32_ops)
        );
    }

    #[test]
    fn products_count_by_the_type_of_their_weights() {
        let (quantized, float) = (work(GgmlType::Q8_0, &[]), work(GgmlType::F32, &[]));
        for ((names, q), (_, f)) in quantized.iter().zip(&float) {
            if names == &["linear"] {
                assert_eq!((q.f32_ops, q.int8_ops), (0, f.f32_ops));
                assert!(q.int8_ops > 0 && q.bytes < f.bytes);
            }
        }
    }

    #[test]
    fn attention_reads_what_its_queries_see() {
        let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
        let budget = Budget::for_context(64, 1, 8);
        let batch = batch(&model, &budget, &[(&[1, 2, 3], 10)]);
        let pass = Pass {
            model: &model,
            batch: &batch,
            kv_type: KvType::F16,
        };
        let (state, token) = (StateId(0), pass.token_bytes(StateId(0)));
        let paged = model.program.paged(state);
        let pair = 2 * (paged.k_dim + paged.v_dim) as u64;
        assert_eq!(
            token,
            2 * (paged.kv_heads * (paged.k_dim + paged.v_dim)) as u64
        );
        for (mask, seen, read) in [
            (Mask::Causal, 11 + 12 + 13, 13),
            (Mask::Window(4), 3 * 4, 6),
            (Mask::Window(12), 11 + 12 + 12, 13),
            (Mask::Bidirectional, 3 * 13, 13),
        ] {
            let work = pass.attention(state, 1, mask);
            assert_eq!(
                (work.f32_ops, work.bytes),
                (seen * pair, read * token),
                "{mask:?}"
            );
        }
    }
}
