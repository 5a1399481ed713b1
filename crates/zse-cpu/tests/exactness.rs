//! The logits of a token are the same bits however they came about: alone or beside other
//! sequences, in chunks of any size, in any blocks, on a prefix computed earlier, on any number
//! of threads, fused or not, under any instruction set.

use std::ops::RangeInclusive;
use std::sync::Arc;

use zse_cpu::{CpuBackend, Isa};
use zse_model::Model;
use zse_model::conformance::{DecoderSpec, Fill, Golden, Rng, adapter, decoder, op_cases};
use zse_model::executor::{
    AdapterId, AdapterUse, Backend, Batch, BlockBytes, BlockId, Budget, Executor, Fuse, KvOp,
    KvType, Masks, Output, OutputRow, SeqSpan, TokenSource, Want,
};
use zse_model::program::ProgramOutput;
use zse_quant::GgmlType;

/// Blocks of every budget here.
const BLOCKS: usize = 256;

/// Tokens of a sequence that [`Way::wide`] computes enough of in one chunk for kernels that take
/// many columns at once.
const WIDE: usize = 60;

/// One way to compute a sequence.
#[derive(Clone, Debug)]
struct Way {
    isa: Isa,
    threads: usize,
    fuse: Fuse,
    kv_type: KvType,
    block_len: usize,
    /// Tokens of a chunk of the prompt.
    chunk: RangeInclusive<usize>,
    /// Other sequences in each step.
    neighbours: usize,
    /// Tokens whose keys and values another sequence computed.
    prefix: usize,
    /// Whether the prefix is read where the other sequence has it, not from copied blocks.
    shared: bool,
    /// Whether all blocks are swapped between two chunks, and come back as others.
    swapped: bool,
    /// Whether the sequence uses an adapter, and the others this, another, both or none.
    adapted: bool,
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
            chunk: 1..=1,
            neighbours: 0,
            prefix: 0,
            shared: false,
            swapped: false,
            adapted: false,
            seed: 0,
        }
    }

    /// All at once, beside others, on shared blocks: nothing is as in [`Way::plain`].
    fn wide(isa: Isa, kv_type: KvType, len: usize) -> Self {
        Self {
            isa,
            threads: 4,
            fuse: Fuse::All,
            kv_type,
            block_len: 16,
            chunk: len..=len,
            neighbours: 3,
            prefix: 16,
            shared: true,
            swapped: true,
            adapted: false,
            seed: 1,
        }
    }

    fn random(rng: &mut Rng, isa: Isa, kv_type: KvType, len: usize) -> Self {
        let block_len = rng.pick(&[16, 32, 64, 7]);
        let any = rng.below(len);
        let prefix = rng.pick(&[0, any, any / block_len * block_len]);
        Self {
            isa,
            threads: 1 + rng.below(4),
            fuse: rng.pick(&[Fuse::All, Fuse::None]),
            kv_type,
            block_len,
            chunk: 1..=rng.pick(&[1, 3, 17, 64, len]),
            neighbours: rng.below(4),
            prefix,
            shared: prefix.is_multiple_of(block_len) && rng.below(2) == 0,
            swapped: rng.below(3) == 0,
            adapted: false,
            seed: rng.bits(),
        }
    }

    fn adapted(self, adapted: bool) -> Self {
        Self { adapted, ..self }
    }
}

/// What a sequence uses of adapter 0 and of adapter 1.
fn adapters(scales: [f32; 2]) -> Vec<AdapterUse> {
    let used = (0..).map(AdapterId).zip(scales);
    let used = used.map(|(adapter, scale)| AdapterUse { adapter, scale });
    used.filter(|used| used.scale != 0.0).collect()
}

/// A sequence's blocks in each group.
type Tables = Vec<Vec<BlockId>>;

/// An executor and what is free in it.
struct Session<'a> {
    model: &'a Model,
    executor: Box<dyn Executor>,
    adapters: Vec<AdapterUse>,
    rng: Rng,
    free: Vec<BlockId>,
    /// Blocks of strangers, free again after the step.
    lent: Vec<BlockId>,
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
            memory: None,
        };
        let backend = CpuBackend { isa: Some(way.isa) };
        let mut executor = backend
            .compile(Arc::clone(model), &budget)
            .expect("the model is supported");
        if way.adapted {
            for (id, ranks) in [(0, &[4][..]), (1, &[17, 3])] {
                let adapter = adapter(model, ranks, id).expect("made for this model");
                let loaded = executor.load_adapter(AdapterId(id), &adapter);
                loaded.expect("memory for a small adapter");
            }
        }
        let mut rng = Rng::new(way.seed);
        let mut free: Vec<BlockId> = (0..BLOCKS as BlockId).collect();
        for i in (1..free.len()).rev() {
            free.swap(i, rng.below(i + 1));
        }
        Self {
            model,
            executor,
            adapters: adapters(if way.adapted { [1.0, 0.0] } else { [0.0; 2] }),
            rng,
            free,
            lent: Vec::new(),
            block_len: way.block_len,
        }
    }

    /// `n` blocks.
    fn blocks(&mut self, n: usize) -> Vec<BlockId> {
        self.free.split_off(self.free.len() - n)
    }

    /// Blocks for `len` tokens, after those of `shared`.
    fn tables(&mut self, shared: &[BlockId], len: usize) -> Tables {
        let n = len.div_ceil(self.block_len) - shared.len();
        let table = [shared, &self.blocks(n)].concat();
        self.in_all_groups(table)
    }

    fn in_all_groups(&self, table: Vec<BlockId>) -> Tables {
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
            adapters: self.adapters.clone(),
        });
    }

    fn push_stranger(&mut self, batch: &mut Batch) {
        let len = 1 + self.rng.below(20);
        let ids = self.rng.ids(len, self.model.info.vocab);
        let blocks = self.blocks(len.div_ceil(self.block_len));
        self.lent.extend(&blocks);
        self.push(batch, &ids, 0, &self.in_all_groups(blocks));
        if !self.adapters.is_empty()
            && let Some(seq) = batch.seqs.last_mut()
        {
            let choices = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [-1.0, 0.25]];
            seq.adapters = adapters(self.rng.pick(&choices));
        }
    }

    /// Swaps the blocks of a sequence out, lets a stranger have some of them, and has `batch` swap them
    /// in elsewhere.
    fn swap(&mut self, tables: Tables, batch: &mut Batch) -> Tables {
        let Some(old) = tables.into_iter().next() else {
            return Vec::new();
        };
        let bytes: Vec<BlockBytes> = old.iter().map(|_| BlockBytes::default()).collect();
        let mut out = Batch::default();
        let pairs = || old.iter().zip(bytes.iter().cloned());
        out.kv_ops = pairs()
            .map(|(&from, to)| KvOp::SwapOut { from, to })
            .collect();
        self.push_stranger(&mut out);
        self.step(out, 0..0);
        let new = self.blocks(old.len());
        self.free.extend(old);
        let mut over = Batch::default();
        self.push_stranger(&mut over);
        self.step(over, 0..0);
        let back = bytes.into_iter().zip(&new);
        batch
            .kv_ops
            .extend(back.map(|(from, &to)| KvOp::SwapIn { from, to }));
        self.in_all_groups(new)
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
        // What strangers left in their blocks must not matter.
        self.free.append(&mut self.lent);
        outputs
            .into_iter()
            .map(|row| match row {
                Output::Logits(v) | Output::Pooled(v) | Output::Hidden(v) => {
                    v.iter().map(|x| x.to_bits()).collect()
                }
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }
}

/// Bits of the logits of each token of `ids`; none for a prefix that another sequence computed.
fn logits(model: &Arc<Model>, ids: &[u32], way: &Way) -> Vec<Option<Vec<u32>>> {
    let mut s = Session::new(model, way);
    let mut batch = Batch::default();
    if way.neighbours > 0 {
        // Blocks that are not as they were made.
        (0..way.neighbours).for_each(|_| s.push_stranger(&mut batch));
        s.step(std::mem::take(&mut batch), 0..0);
    }
    let mut all = vec![None; way.prefix];
    let shared = if way.shared {
        s.blocks(way.prefix / s.block_len)
    } else {
        Vec::new()
    };
    let mut tables = s.tables(&shared, ids.len());
    if way.prefix > 0 {
        // Another sequence with the same start, which goes on in its own way.
        let theirs = s.tables(&shared, way.prefix + 5);
        s.push(&mut batch, &ids[..way.prefix], 0, &theirs);
        s.step(std::mem::take(&mut batch), 0..0);
        for (group, (theirs, ours)) in theirs.iter().zip(&tables).enumerate() {
            let used = theirs.iter().zip(ours);
            let used = used.take(way.prefix.div_ceil(s.block_len));
            let copied = used.filter(|(from, to)| from != to);
            batch
                .kv_ops
                .extend(copied.map(|(&from, &to)| KvOp::Copy { group, from, to }));
        }
        let other = s.rng.ids(5, model.info.vocab);
        s.push(&mut batch, &other, way.prefix, &theirs);
    }
    let mut at = way.prefix;
    while at < ids.len() {
        let spread = way.chunk.end() - way.chunk.start();
        let len = (way.chunk.start() + s.rng.below(spread + 1)).min(ids.len() - at);
        if way.swapped && at > 0 && batch.kv_ops.is_empty() {
            tables = s.swap(tables, &mut batch);
        }
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

/// Compares with the plain way, on each instruction set, the wide one and `ways` random ones (one
/// on the scalar one, which is slow).
fn check(name: &str, model: &Arc<Model>, ids: &[u32], kv_type: KvType, ways: usize, seed: u64) {
    assert!(ids.len() >= WIDE);
    let plain = Way::plain(kv_type);
    compare(name, model, ids, &plain, ways, seed);
}

fn compare(name: &str, model: &Arc<Model>, ids: &[u32], plain: &Way, ways: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let Way {
        kv_type, adapted, ..
    } = *plain;
    let expected = logits(model, ids, plain);
    for isa in Isa::available() {
        let wide = Way::wide(isa, kv_type, ids.len()).adapted(adapted);
        assert_same(name, &expected, &logits(model, ids, &wide), &wide);
        for _ in 0..if isa == Isa::Scalar { 1 } else { ways } {
            let way = Way::random(&mut rng, isa, kv_type, ids.len()).adapted(adapted);
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
        let ids = rng.ids(WIDE, spec.vocab);
        check(ty.name(), &model, &ids, KvType::F16, 3, rng.bits());
    }
}

/// Among them mixtures of experts of every weight type, and shapes with tails.
#[test]
fn every_operation_is_exact() {
    let mut rng = Rng::new(10);
    for case in op_cases(3).expect("the suite builds its cases") {
        let program = &case.model.program;
        if program.is_causal() && matches!(program.output, ProgramOutput::Logits(_)) {
            let ids = rng.ids(WIDE, case.model.info.vocab);
            let kv_type = case.budget.kv_type;
            check(&case.name, &case.model, &ids, kv_type, 2, rng.bits());
        }
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
        let ids = rng.ids(300, spec.vocab);
        check(kv_type.name(), &model, &ids, kv_type, 3, rng.bits());
    }
}

#[test]
fn every_architecture_is_exact() {
    let mut rng = Rng::new(7);
    for file in Golden::files().expect("fixtures are there") {
        let golden = Golden::open(&file).expect("a good fixture");
        // Programs that pool see whole sequences only.
        if golden.model.program.is_causal() {
            let ids = rng.ids(WIDE, golden.model.info.vocab);
            check(
                &golden.name,
                &golden.model,
                &ids,
                KvType::F32,
                3,
                rng.bits(),
            );
        }
    }
}

#[test]
fn sequences_with_adapters_are_exact_beside_others() {
    let mut rng = Rng::new(11);
    for ty in [GgmlType::F32, GgmlType::F16, GgmlType::Q4K, GgmlType::Q6K] {
        let model =
            decoder(&DecoderSpec::small(ty), rng.bits()).expect("the suite builds its models");
        let ids = rng.ids(WIDE, model.info.vocab);
        let plain = Way::plain(KvType::F16).adapted(true);
        compare(ty.name(), &model, &ids, &plain, 3, rng.bits());
    }
}

/// Among them joined matrices and tied embeddings.
#[test]
fn every_architecture_is_exact_with_adapters() {
    let mut rng = Rng::new(12);
    for file in Golden::files().expect("fixtures are there") {
        let golden = Golden::open(&file).expect("a good fixture");
        if golden.model.program.is_causal() {
            let ids = rng.ids(WIDE, golden.model.info.vocab);
            let plain = Way::plain(KvType::F32).adapted(true);
            compare(&golden.name, &golden.model, &ids, &plain, 1, rng.bits());
        }
    }
}

#[test]
fn an_adapter_of_another_sequence_changes_nothing() {
    let model = decoder(&DecoderSpec::small(GgmlType::Q8_0), 3).expect("a good model");
    let ids = Rng::new(13).ids(WIDE, model.info.vocab);
    let plain = logits(&model, &ids, &Way::plain(KvType::F32));
    let best = Isa::available()[0];
    // The others use adapters, this sequence does not.
    let way = Way::wide(best, KvType::F32, ids.len()).adapted(true);
    let mut session = Session::new(&model, &way);
    let (tables, mut batch) = (session.tables(&[], ids.len()), Batch::default());
    (0..3).for_each(|_| session.push_stranger(&mut batch));
    let start = batch.tokens.len();
    session.push(&mut batch, &ids, 0, &tables);
    batch.seqs[3].adapters = Vec::new();
    batch.seqs[0].adapters = adapters([1.0, 1.0]);
    let rows = session.step(batch, start..start + ids.len());
    let rows: Vec<_> = rows.into_iter().map(Some).collect();
    assert_same("beside adapters", &plain, &rows, &way);
}

#[test]
fn an_adapter_that_is_not_loaded_is_refused() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 3).expect("a good model");
    let way = Way::plain(KvType::F32).adapted(true);
    let mut session = Session::new(&model, &way);
    let (tables, mut batch) = (session.tables(&[], 1), Batch::default());
    session.push(&mut batch, &[1], 0, &tables);
    let before = session.executor.memory().weights;
    session.executor.submit(&batch).expect("it is loaded");
    session.executor.unload_adapter(AdapterId(0));
    assert!(session.executor.memory().weights < before);
    let refused = session.executor.submit(&batch).expect_err("it is gone");
    let expected = "malformed batch: sequence 0: adapter 0 is not loaded";
    assert_eq!(refused.to_string(), expected);
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
            let (tables, mut batch) = (s.tables(&[], ids.len()), Batch::default());
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
