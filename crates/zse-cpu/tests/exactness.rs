//! The logits of a token are the same bits however they came about: alone or beside other
//! sequences, in chunks of any size, in any blocks, on a prefix computed earlier, on any number
//! of threads, fused or not, under any instruction set.

use std::sync::Arc;

use zse_cpu::{CpuBackend, Isa};
use zse_model::Model;
use zse_model::conformance::{DecoderSpec, Fill, Golden, Rng, decoder};
use zse_model::executor::{
    Backend, Batch, BlockId, Budget, Executor, Fuse, KvOp, KvType, Masks, Output, OutputRow,
    SeqSpan, TokenSource, Want,
};
use zse_model::program::ProgramOutput;
use zse_quant::GgmlType;

/// Blocks of every budget here.
const BLOCKS: usize = 256;

/// One way to compute a sequence.
#[derive(Clone, Debug)]
struct Way {
    isa: Isa,
    threads: usize,
    fuse: Fuse,
    kv_type: KvType,
    block_len: usize,
    /// Longest chunk of a prompt.
    max_chunk: usize,
    /// Other sequences in each step.
    neighbours: usize,
    /// Tokens whose keys and values another sequence computed.
    prefix: usize,
    seed: u64,
}

impl Way {
    /// Token by token, alone, on one thread, without fusion, on the best instruction set.
    fn plain(kv_type: KvType) -> Self {
        Self {
            isa: Isa::available()[0],
            threads: 1,
            fuse: Fuse::None,
            kv_type,
            block_len: 32,
            max_chunk: 1,
            neighbours: 0,
            prefix: 0,
            seed: 0,
        }
    }

    fn random(rng: &mut Rng, isa: Isa, kv_type: KvType, len: usize) -> Self {
        Self {
            isa,
            threads: 1 + rng.below(4),
            fuse: rng.pick(&[Fuse::All, Fuse::None]),
            kv_type,
            block_len: rng.pick(&[16, 32, 64, 7]),
            max_chunk: rng.pick(&[1, 3, 17, 64, len]),
            neighbours: rng.below(4),
            prefix: rng.pick(&[0, rng.clone().below(len)]),
            seed: rng.bits(),
        }
    }
}

/// A sequence's blocks in each group.
type Tables = Vec<Vec<BlockId>>;

/// An executor and what is free in it.
struct Session<'a> {
    model: &'a Model,
    executor: Box<dyn Executor>,
    rng: Rng,
    free: Vec<BlockId>,
    block_len: usize,
}

impl<'a> Session<'a> {
    fn new(model: &'a Arc<Model>, way: &Way) -> Self {
        let budget = Budget {
            kv_blocks: BLOCKS,
            block_len: way.block_len,
            kv_type: way.kv_type,
            max_tokens: 2048,
            max_outputs: 2048,
            threads: Some(way.threads),
            fuse: way.fuse,
        };
        let backend = CpuBackend { isa: Some(way.isa) };
        let executor = backend
            .compile(Arc::clone(model), &budget)
            .expect("the model is supported");
        let mut rng = Rng::new(way.seed);
        let mut free: Vec<BlockId> = (0..BLOCKS as BlockId).collect();
        for i in (1..free.len()).rev() {
            free.swap(i, rng.below(i + 1));
        }
        Self {
            model,
            executor,
            rng,
            free,
            block_len: way.block_len,
        }
    }

    /// Blocks for `len` tokens.
    fn tables(&mut self, len: usize) -> Tables {
        let n = len.div_ceil(self.block_len);
        let table = self.free.split_off(self.free.len() - n);
        vec![table; self.model.program.kv_groups().len()]
    }

    /// Appends a part of a sequence to `batch`.
    fn push(&self, batch: &mut Batch, ids: &[u32], first: usize, tables: &Tables) {
        let start = batch.tokens.len();
        batch
            .tokens
            .extend(ids.iter().map(|&id| TokenSource::Id(id)));
        batch
            .positions
            .extend((first..first + ids.len()).map(|p| p as u32));
        batch.seqs.push(SeqSpan {
            tokens: start..start + ids.len(),
            first,
            tables: tables.clone(),
        });
    }

    fn push_stranger(&mut self, batch: &mut Batch) {
        let len = 1 + self.rng.below(20);
        let ids = self.rng.ids(len, self.model.info.vocab);
        let tables = self.tables(len);
        self.push(batch, &ids, 0, &tables);
        for table in tables.into_iter().take(1) {
            // Its blocks are used again: what it left there must not matter.
            self.free.extend(table);
        }
    }

    /// Logits of tokens `rows` of the batch, or the embedding of sequence `rows.start`.
    fn step(&mut self, mut batch: Batch, rows: std::ops::Range<usize>) -> Vec<Vec<u32>> {
        let pooled = matches!(self.model.program.output, ProgramOutput::Pooled(_));
        if !pooled {
            batch.outputs = rows
                .map(|token| OutputRow {
                    token,
                    want: Want::Logits,
                })
                .collect();
        }
        let ticket = self.executor.submit(&batch).expect("a good batch");
        self.executor
            .sample(ticket, &Masks::default())
            .expect("finite logits");
        let outputs = self.executor.wait(ticket).expect("the step's results").rows;
        outputs
            .into_iter()
            .map(|row| match row {
                Output::Logits(v) | Output::Pooled(v) => v.iter().map(|x| x.to_bits()).collect(),
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }
}

/// Bits of the logits of each token of `ids`; none for a prefix that another sequence computed.
fn logits(model: &Arc<Model>, ids: &[u32], way: &Way) -> Vec<Option<Vec<u32>>> {
    let mut s = Session::new(model, way);
    let tables = s.tables(ids.len());
    let mut all = vec![None; way.prefix];
    let mut batch = Batch::default();
    if way.prefix > 0 {
        // Another sequence with the same start; its blocks are copied or shared.
        let theirs = s.tables(way.prefix + 1);
        s.push(&mut batch, &ids[..way.prefix], 0, &theirs);
        s.step(std::mem::take(&mut batch), 0..0);
        for (group, (theirs, ours)) in theirs.iter().zip(&tables).enumerate() {
            let used = theirs
                .iter()
                .zip(ours)
                .take(way.prefix.div_ceil(s.block_len));
            batch
                .kv_ops
                .extend(used.map(|(&from, &to)| KvOp::Copy { group, from, to }));
        }
    }
    let mut at = way.prefix;
    while at < ids.len() {
        let len = (1 + s.rng.below(way.max_chunk)).min(ids.len() - at);
        let before = s.rng.below(way.neighbours + 1);
        (0..before).for_each(|_| s.push_stranger(&mut batch));
        let start = batch.tokens.len();
        s.push(&mut batch, &ids[at..at + len], at, &tables);
        (before..way.neighbours).for_each(|_| s.push_stranger(&mut batch));
        let rows = s.step(std::mem::take(&mut batch), start..start + len);
        all.extend(rows.into_iter().map(Some));
        at += len;
    }
    all
}

fn assert_same(name: &str, expected: &[Option<Vec<u32>>], got: &[Option<Vec<u32>>], way: &Way) {
    assert_eq!(expected.len(), got.len());
    for (position, (expected, got)) in expected.iter().zip(got).enumerate() {
        assert!(
            got.is_none() || got == expected,
            "{name}, position {position}, {way:?}"
        );
    }
}

/// Compares `ways` random ways on each instruction set (one on the scalar one, which is slow) with
/// the plain one.
fn check(name: &str, model: &Arc<Model>, ids: &[u32], kv_type: KvType, ways: usize) {
    let mut rng = Rng::new(ids.len() as u64);
    let expected = logits(model, ids, &Way::plain(kv_type));
    for isa in Isa::available() {
        for _ in 0..if isa == Isa::Scalar { 1 } else { ways } {
            let way = Way::random(&mut rng, isa, kv_type, ids.len());
            assert_same(name, &expected, &logits(model, ids, &way), &way);
        }
    }
}

#[test]
fn every_weight_type_is_exact() {
    let mut rng = Rng::new(5);
    for &ty in GgmlType::WEIGHTS {
        let spec = DecoderSpec {
            embedding: Fill::Outliers(1.0),
            ..DecoderSpec::small(ty)
        };
        let model = decoder(&spec, rng.bits()).expect("the suite builds its models");
        let ids = rng.ids(24, spec.vocab);
        check(ty.name(), &model, &ids, KvType::F16, 3);
    }
}

#[test]
fn every_kv_type_is_exact_over_several_spans() {
    let mut rng = Rng::new(6);
    // Small but for its context: attention by spans is what this is about.
    let spec = DecoderSpec {
        ff: 256,
        ..DecoderSpec::small(GgmlType::Q8_0)
    };
    let model = decoder(&spec, 1).expect("the suite builds its models");
    for kv_type in KvType::ALL {
        check(
            kv_type.name(),
            &model,
            &rng.ids(300, spec.vocab),
            kv_type,
            3,
        );
    }
}

#[test]
fn every_architecture_is_exact() {
    let mut rng = Rng::new(7);
    for file in Golden::files().expect("fixtures are there") {
        let golden = Golden::open(&file).expect("a good fixture");
        // Programs that pool see whole sequences only.
        if golden.model.program.is_causal() {
            let ids = rng.ids(40, golden.model.info.vocab);
            check(&golden.name, &golden.model, &ids, KvType::F32, 3);
        }
    }
}

#[test]
fn pooled_embeddings_are_exact() {
    for file in Golden::files().expect("fixtures are there") {
        let golden = Golden::open(&file).expect("a good fixture");
        if golden.model.program.is_causal() {
            continue;
        }
        let ids = Rng::new(8).ids(40, golden.model.info.vocab);
        let embedding = |way: &Way| {
            let mut s = Session::new(&golden.model, way);
            let (tables, mut batch) = (s.tables(ids.len()), Batch::default());
            (0..way.neighbours).for_each(|_| s.push_stranger(&mut batch));
            s.push(&mut batch, &ids, 0, &tables);
            s.step(batch, 0..0).swap_remove(way.neighbours)
        };
        let expected = embedding(&Way::plain(KvType::F32));
        let mut rng = Rng::new(9);
        for isa in Isa::available() {
            let way = Way::random(&mut rng, isa, KvType::F32, ids.len());
            assert_eq!(embedding(&way), expected, "{} {way:?}", golden.name);
        }
    }
}
