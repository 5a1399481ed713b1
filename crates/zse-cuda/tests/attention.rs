//! Attention on tensor cores against the reference: heads of 64, 128 and 256, with windows and bounded
//! scores, prompts in parts, then steps of one token of every sequence. Needs a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

mod agree;
mod model;

use zse_model::conformance::{Case, Fill, Rng, Synth, batch};
use zse_model::executor::{Budget, KvType};
use zse_model::program::{
    EmbedIndex, Mask, Paged, ProgramOutput, Rope, RopeScaling, RopeStyle, ValueId,
};
use zse_model::{AttentionSpec, Builder, ModelInfo, TOP};
use zse_quant::GgmlType;

use agree::compare;
use model::model;

const VOCAB: usize = 61;

struct Heads {
    kv_type: KvType,
    mask: Mask,
    kv_heads: usize,
    group: usize,
    dim: usize,
    softcap: Option<f32>,
}

impl Heads {
    fn case(&self, rng: &mut Rng) -> Case {
        let Self {
            kv_type,
            mask,
            kv_heads,
            group,
            dim,
            softcap,
        } = *self;
        let heads = kv_heads * group;
        let name = format!("{kv_type} {mask:?} {heads}/{kv_heads} heads of {dim}, {softcap:?}");
        let mut synth = Synth::new(rng.bits());
        for (table, heads) in [("q", heads), ("k", kv_heads), ("v", kv_heads)] {
            let (table, shape) = (format!("{table}.weight"), [heads * dim, VOCAB]);
            synth
                .tensor(&table, GgmlType::F32, &shape, Fill::Normal(1.0))
                .expect("a good tensor");
        }
        let info = ModelInfo {
            architecture: "attention".to_owned(),
            name: name.clone(),
            layers: 1,
            width: heads * dim,
            vocab: VOCAB,
            context: 2048,
            trained_context: 2048,
        };
        let model = model(info, synth, |b| self.describe(b));
        let budget = Budget {
            kv_type,
            ..Budget::for_context(1024, 3, 1024)
        };
        let mut lens = [700 + rng.below(100), 1, 1 + rng.below(90)];
        let mut batches = Vec::new();
        let mut add = |lens: &mut [usize; 3], next: [usize; 3], all: bool| {
            let ids = next.map(|n| rng.ids(n, VOCAB));
            let parts: Vec<_> = ids
                .iter()
                .map(Vec::as_slice)
                .zip(lens.iter().copied())
                .collect();
            let parts = if all { &parts[..] } else { &parts[..1] };
            batches.push(batch(&model, &budget, parts));
            lens.iter_mut()
                .zip(next)
                .take(parts.len())
                .for_each(|(l, n)| *l += n);
        };
        let first = std::mem::take(&mut lens);
        add(&mut lens, first, true);
        for next in [[17, 1, 40], [1, 1, 1], [1, 1, 1]] {
            add(&mut lens, next, true);
        }
        Case {
            name,
            model,
            budget,
            adapters: Vec::new(),
            batches,
            // Of 8 bits a rounding may go the other way than in the reference, whose keys differ by an ulp.
            tolerance: if kv_type == KvType::F16 { 1e-6 } else { 2e-5 },
        }
    }

    fn describe(&self, b: &mut Builder) -> ProgramOutput {
        let Self {
            kv_heads,
            group,
            dim,
            ..
        } = *self;
        let heads = kv_heads * group;
        let mut rows = |name: &str, cols: usize| -> ValueId {
            let table = b.weight(TOP, name, VOCAB, cols);
            b.embed(table, EmbedIndex::Token)
        };
        let (q, k, v) = (
            rows("q", heads * dim),
            rows("k", kv_heads * dim),
            rows("v", kv_heads * dim),
        );
        let rope = b.rope_spec(Rope {
            dims: dim,
            style: RopeStyle::Halves,
            base: 10_000.0,
            scaling: RopeScaling::None,
            factors: None,
            magnitude: 1.0,
        });
        let (q, k) = (b.rope(q, dim, rope), b.rope(k, dim, rope));
        let window = match self.mask {
            Mask::Window(n) => Some(n),
            _ => None,
        };
        let paged = Paged {
            kv_heads,
            k_dim: dim,
            v_dim: dim,
            window,
        };
        let state = b.paged_state("kv".to_owned(), paged);
        let spec = AttentionSpec {
            heads,
            scale: 1.0 / (dim as f32).sqrt(),
            mask: self.mask,
            softcap: self.softcap,
        };
        let out = b.attention(q, k, v, state, spec);
        ProgramOutput::Logits(b.gather_rows(out))
    }
}

const MASKS: [(Mask, Option<f32>); 3] = [
    (Mask::Causal, None),
    (Mask::Window(70), Some(10.0)),
    (Mask::Window(300), None),
];

/// Heads of all common sizes, with each mask.
fn check(kv_type: KvType, masks: &[(Mask, Option<f32>)], seed: u64) {
    let mut rng = Rng::new(seed);
    let mut cases = Vec::new();
    for (dim, kv_heads, group) in [
        (64, 2, 1),
        (128, 1, 7),
        (128, 2, 4),
        (64, 1, 16),
        (256, 1, 5),
        (256, 2, 1),
    ] {
        for &(mask, softcap) in masks {
            let heads = Heads {
                kv_type,
                mask,
                kv_heads,
                group,
                dim,
                softcap,
            };
            cases.push(heads.case(&mut rng));
        }
    }
    compare(&cases);
}

#[test]
#[ignore = "needs a GPU"]
fn heads_of_common_sizes_agree_with_the_reference() {
    check(KvType::F16, &MASKS, 11);
    check(KvType::Bf16, &MASKS, 12);
}

#[test]
#[ignore = "needs a GPU"]
fn keys_and_values_of_eight_bits_agree_with_the_reference() {
    check(KvType::Q8_0, &MASKS[..2], 13);
    check(KvType::Fp8, &MASKS[..2], 14);
}
