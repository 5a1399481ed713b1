//! One operation at a time: each case embeds random rows, applies the operation, and gives the
//! result back as if it were logits.

use std::sync::Arc;

use zse_quant::GgmlType;

use super::synth::OUTLIER;
use super::{Case, Fill, Rng, Synth, batch, tolerance};
use crate::builder::{AttentionSpec, Builder, TOP};
use crate::error::ModelError;
use crate::executor::{Budget, KvType};
use crate::model::{Model, ModelInfo};
use crate::program::{
    Act, EmbedIndex, Mask, Paged, PoolKind, ProgramOutput, Rope, RopeScaling, RopeStyle, ValueId,
};
use crate::weights::Weights;

/// Rows of every embedding table.
const VOCAB: usize = 61;

/// Most tokens of a sequence.
const CONTEXT: usize = 2048;

/// A case for every operation, type, activation and mask, with shapes drawn from `seed`.
///
/// # Errors
/// If a case contradicts itself: a mistake in the suite.
pub fn op_cases(seed: u64) -> Result<Vec<Case>, ModelError> {
    let mut rng = Rng::new(seed);
    let mut cases = vec![
        norms(&mut rng)?,
        elementwise(&mut rng)?,
        layer_norm(&mut rng, true)?,
        layer_norm(&mut rng, false)?,
        segments(&mut rng)?,
        partial_rope(&mut rng, RopeStyle::Interleaved)?,
        partial_rope(&mut rng, RopeStyle::Halves)?,
        big_mixture(&mut rng)?,
        long_attention(&mut rng, Mask::Causal)?,
        long_attention(&mut rng, Mask::Window(70))?,
    ];
    for &ty in GgmlType::WEIGHTS {
        for fill in [Fill::Normal(1.0), Fill::Outliers(1.0)] {
            cases.push(linear(&mut rng, ty, fill)?);
        }
        cases.push(mixture(&mut rng, ty)?);
        cases.push(embedding(&mut rng, ty)?);
    }
    for kv_type in KvType::ALL {
        for mask in [
            Mask::Causal,
            Mask::Window(7),
            Mask::Window(70),
            Mask::Bidirectional,
        ] {
            cases.push(attention(&mut rng, kv_type, mask)?);
        }
    }
    for kind in [PoolKind::Mean, PoolKind::Cls, PoolKind::Last] {
        cases.push(pool(&mut rng, kind)?);
    }
    Ok(cases)
}

/// A case under construction.
struct Draft {
    name: String,
    synth: Synth,
    kv_type: KvType,
    tolerance: f64,
}

impl Draft {
    fn new(name: String, rng: &mut Rng) -> Self {
        Self {
            name,
            synth: Synth::new(rng.bits()),
            kv_type: KvType::F32,
            tolerance: 1e-9,
        }
    }

    fn tensor(
        &mut self,
        name: &str,
        ty: GgmlType,
        shape: &[usize],
        fill: Fill,
    ) -> Result<(), ModelError> {
        Ok(self
            .synth
            .tensor(&format!("{name}.weight"), ty, shape, fill)?)
    }

    fn table(&mut self, name: &str, cols: usize, fill: Fill) -> Result<(), ModelError> {
        self.tensor(name, GgmlType::F32, &[cols, VOCAB], fill)
    }

    /// Builds the program that `describe` writes (its result gathered as the output) and two
    /// steps of three sequences, the second going on where the first ended.
    fn finish(
        self,
        rng: &mut Rng,
        describe: impl FnOnce(&mut Builder) -> ProgramOutput,
    ) -> Result<Case, ModelError> {
        let lens = [1, 1 + rng.below(40), 60 + rng.below(50)];
        self.finish_with(rng, &lens, &[1, 17, 1], describe)
    }

    /// As [`Draft::finish`], with a step of a sequence of each of `lens` tokens, and one in which
    /// each goes on for as many tokens as `next` says.
    fn finish_with(
        self,
        rng: &mut Rng,
        lens: &[usize],
        next: &[usize],
        describe: impl FnOnce(&mut Builder) -> ProgramOutput,
    ) -> Result<Case, ModelError> {
        let checkpoint = self.synth.finish()?;
        let mut builder = Builder::new(&self.name, Arc::clone(&checkpoint));
        let output = describe(&mut builder);
        let program = builder.finish(output)?;
        let info = ModelInfo {
            architecture: "conformance".to_owned(),
            name: self.name.clone(),
            layers: 1,
            width: program.value(output.value()).cols,
            vocab: VOCAB,
            context: CONTEXT,
            trained_context: CONTEXT,
        };
        let weights = Weights::new(checkpoint, &program)?;
        let model = Arc::new(Model {
            info,
            program,
            weights,
        });
        let longest = lens.iter().zip(next).map(|(a, b)| a + b).max().unwrap_or(0);
        let budget = Budget {
            kv_type: self.kv_type,
            ..Budget::for_context(longest, lens.len(), lens.iter().sum())
        };
        let ids: Vec<Vec<u32>> = lens.iter().map(|&n| rng.ids(n, VOCAB)).collect();
        let first: Vec<_> = ids.iter().map(|ids| (ids.as_slice(), 0)).collect();
        let mut batches = vec![batch(&model, &budget, &first)];
        if !model.program.takes_whole_sequences() {
            let next: Vec<Vec<u32>> = next.iter().map(|&n| rng.ids(n, VOCAB)).collect();
            let second: Vec<_> = next
                .iter()
                .zip(lens)
                .map(|(ids, &len)| (ids.as_slice(), len))
                .collect();
            batches.push(batch(&model, &budget, &second));
        }
        Ok(Case {
            name: self.name,
            model,
            budget,
            adapters: Vec::new(),
            batches,
            tolerance: self.tolerance,
        })
    }
}

/// The rows of table `name` for the batch's tokens.
fn rows(b: &mut Builder, name: &str, cols: usize) -> ValueId {
    let table = b.weight(TOP, name, VOCAB, cols);
    b.embed(table, EmbedIndex::Token)
}

fn logits(b: &mut Builder, x: ValueId) -> ProgramOutput {
    ProgramOutput::Logits(b.gather_rows(x))
}

fn norms(rng: &mut Rng) -> Result<Case, ModelError> {
    let head = 1 + rng.below(70);
    let heads = OUTLIER / head + 1 + rng.below(5);
    let cols = heads * head;
    let mut d = Draft::new(format!("rms_norm {heads}x{head}"), rng);
    d.table("x", cols, Fill::Outliers(2.0))?;
    d.tensor("all", GgmlType::F32, &[cols], Fill::NearOne)?;
    d.tensor("head", GgmlType::F32, &[head], Fill::NearOne)?;
    d.finish(rng, |b| {
        let x = rows(b, "x", cols);
        let y = b.rms_norm(x, TOP, "all", 1e-5);
        let z = b.rms_norm_heads(x, TOP, "head", 1e-6, head);
        let sum = b.add(y, z);
        let norm = b.rms_norm(sum, TOP, "all", 1e-5);
        let out = b.add(sum, norm);
        logits(b, out)
    })
}

fn layer_norm(rng: &mut Rng, bias: bool) -> Result<Case, ModelError> {
    let cols = 1 + rng.below(300);
    let with = if bias { "with" } else { "without" };
    let mut d = Draft::new(format!("layer_norm {cols} {with} bias"), rng);
    d.table("x", cols, Fill::Normal(3.0))?;
    d.tensor("ln", GgmlType::F32, &[cols], Fill::NearOne)?;
    if bias {
        d.synth
            .tensor("ln.bias", GgmlType::F32, &[cols], Fill::Normal(0.5))?;
    }
    d.finish(rng, |b| {
        let x = rows(b, "x", cols);
        let y = b.layer_norm(x, TOP, "ln", 1e-5);
        logits(b, y)
    })
}

fn elementwise(rng: &mut Rng) -> Result<Case, ModelError> {
    let cols = 1 + rng.below(130);
    let mut d = Draft::new(format!("elementwise {cols}"), rng);
    d.table("x", cols, Fill::Normal(3.0))?;
    d.table("y", cols, Fill::Normal(1.0))?;
    d.finish(rng, |b| {
        let (x, y) = (rows(b, "x", cols), rows(b, "y", cols));
        let mut sum = b.scale(x, 0.37);
        for act in [Act::Silu, Act::GeluErf, Act::GeluTanh, Act::Relu] {
            let glu = b.glu(x, y, act);
            let a = b.activation(y, act);
            sum = b.add(sum, glu);
            sum = b.add(sum, a);
        }
        let capped = b.soft_cap(sum, 5.0);
        logits(b, capped)
    })
}

/// A number of columns that type `ty` can store, with a tail where it can have one.
fn odd_cols(rng: &mut Rng, ty: GgmlType) -> usize {
    match ty.block_len() {
        1 => 1 + rng.below(200),
        n => n * (1 + rng.below(3)),
    }
}

/// As [`odd_cols`], but enough that [`Fill::Outliers`] has one.
fn odd_cols_with_outlier(rng: &mut Rng, ty: GgmlType) -> usize {
    let block = ty.block_len();
    (odd_cols(rng, ty) + OUTLIER).next_multiple_of(block)
}

fn linear(rng: &mut Rng, ty: GgmlType, fill: Fill) -> Result<Case, ModelError> {
    // Enough rows that the outlier does not meet but small weights.
    let (cols, least) = match fill {
        Fill::Outliers(_) => (odd_cols_with_outlier(rng, ty), 8),
        _ => (odd_cols(rng, ty), 1),
    };
    let out = least + rng.below(70);
    let mut d = Draft::new(
        format!("linear {} [{out}, {cols}] {fill:?}", ty.name()),
        rng,
    );
    // And yet few, with a product of two of them: the rounding of the outlier's group shows more
    // than in a decoder's logits.
    let spread = if ty.is_quantized() && matches!(fill, Fill::Outliers(_)) {
        4.0
    } else {
        1.0
    };
    d.tolerance = spread * tolerance(ty);
    d.table("x", cols, fill)?;
    for name in ["a", "b", "c"] {
        d.tensor(name, ty, &[cols, out], Fill::Normal(0.3))?;
    }
    d.synth
        .tensor("b.bias", GgmlType::F32, &[out], Fill::Normal(0.1))?;
    d.finish(rng, |b| {
        let x = rows(b, "x", cols);
        let [p, q, r] = ["a", "b", "c"].map(|name| b.linear(x, TOP, name, out));
        let glu = b.glu(p, q, Act::Silu);
        let sum = b.add(glu, r);
        logits(b, sum)
    })
}

/// The shape of a mixture.
struct Mixture {
    ty: GgmlType,
    experts: usize,
    top_k: usize,
    cols: usize,
    ff: usize,
}

impl Mixture {
    /// One whose tokens, if they are many, are more than an executor may want to hold at once.
    fn small(ty: GgmlType) -> Self {
        Self {
            ty,
            experts: 5,
            top_k: 2,
            cols: 64,
            ff: 32,
        }
    }

    fn draft(&self, rng: &mut Rng) -> Result<Draft, ModelError> {
        let Self {
            ty,
            experts,
            top_k,
            cols,
            ff,
        } = *self;
        let mut d = Draft::new(
            format!("moe {} {experts}x[{ff}, {cols}] top {top_k}", ty.name()),
            rng,
        );
        d.tolerance = 2.0 * tolerance(ty);
        d.table("x", cols, Fill::Normal(1.0))?;
        d.tensor("router", GgmlType::F32, &[cols, experts], Fill::Normal(1.0))?;
        d.tensor("gate", ty, &[cols, ff, experts], Fill::Normal(0.3))?;
        d.tensor("up", ty, &[cols, ff, experts], Fill::Normal(0.3))?;
        d.tensor("down", ty, &[ff, cols, experts], Fill::Normal(0.3))?;
        Ok(d)
    }

    fn describe(&self, b: &mut Builder) -> ProgramOutput {
        let Self {
            experts,
            top_k,
            cols,
            ff,
            ..
        } = *self;
        let x = rows(b, "x", cols);
        let scores = b.linear(x, TOP, "router", experts);
        let route = b.moe_route(scores, top_k, true, 1.0);
        let gate = b.experts(TOP, "gate", experts, [ff, cols]);
        let up = b.experts(TOP, "up", experts, [ff, cols]);
        let down = b.experts(TOP, "down", experts, [cols, ff]);
        let y = b.moe_ffn(x, route, [gate, up, down], Act::Silu);
        logits(b, y)
    }
}

fn mixture(rng: &mut Rng, ty: GgmlType) -> Result<Case, ModelError> {
    let mixture = Mixture {
        ty,
        experts: 2 + rng.below(6),
        top_k: 1 + rng.below(2),
        cols: odd_cols(rng, ty),
        ff: odd_cols(rng, ty),
    };
    let draft = mixture.draft(rng)?;
    draft.finish(rng, |b| mixture.describe(b))
}

/// More pairs of a token and an expert than an executor may want to hold at once.
fn big_mixture(rng: &mut Rng) -> Result<Case, ModelError> {
    let mixture = Mixture::small(GgmlType::Q8_0);
    let draft = mixture.draft(rng)?;
    let lens = [1050 + rng.below(100)];
    draft.finish_with(rng, &lens, &[1], |b| mixture.describe(b))
}

/// Mixtures for adapters: four sequences, of few tokens and of many.
pub(super) fn mixtures_to_adapt(rng: &mut Rng) -> Result<Vec<Case>, ModelError> {
    let mut cases = Vec::new();
    for (mixture, lens) in [
        (Mixture::small(GgmlType::F32), [13, 1, 4, 6]),
        (
            Mixture {
                cols: 256,
                ..Mixture::small(GgmlType::Q8_0)
            },
            [500, 70, 600, 40],
        ),
    ] {
        let draft = mixture.draft(rng)?;
        cases.push(draft.finish_with(rng, &lens, &[1, 1, 1, 1], |b| mixture.describe(b))?);
    }
    Ok(cases)
}

fn embedding(rng: &mut Rng, ty: GgmlType) -> Result<Case, ModelError> {
    let cols = odd_cols(rng, ty);
    let mut d = Draft::new(format!("embed {} [{VOCAB}, {cols}]", ty.name()), rng);
    d.tolerance = 0.0;
    d.tensor("x", ty, &[cols, VOCAB], Fill::Normal(1.0))?;
    d.finish(rng, |b| {
        let x = rows(b, "x", cols);
        logits(b, x)
    })
}

/// The rows of two texts in a sequence.
fn segments(rng: &mut Rng) -> Result<Case, ModelError> {
    let cols = 1 + rng.below(100);
    let mut d = Draft::new(format!("embed by segment {cols}"), rng);
    d.tensor("types", GgmlType::F32, &[cols, 2], Fill::Normal(1.0))?;
    let separator = rng.below(VOCAB) as u32;
    d.finish(rng, |b| {
        let types = b.weight(TOP, "types", 2, cols);
        let x = b.embed(types, EmbedIndex::Segment { separator });
        ProgramOutput::Pooled(b.pool(x, PoolKind::Mean))
    })
}

/// The shape of an attention.
struct Heads {
    kv_type: KvType,
    mask: Mask,
    kv_heads: usize,
    /// Query heads of a KV head.
    group: usize,
    k_dim: usize,
    v_dim: usize,
    rope: Rope,
    softcap: Option<f32>,
}

impl Heads {
    fn draft(&self, rng: &mut Rng) -> Result<Draft, ModelError> {
        let Self {
            kv_type,
            mask,
            kv_heads,
            group,
            k_dim,
            v_dim,
            ..
        } = *self;
        let heads = kv_heads * group;
        let name =
            format!("attention {kv_type} {mask:?} {heads}/{kv_heads} heads of {k_dim}, {v_dim}");
        let mut d = Draft::new(name, rng);
        // The reference keeps its probabilities and queries unrounded; quantized caches may not.
        d.tolerance = if matches!(kv_type, KvType::Q8_0 | KvType::Q4_0 | KvType::Fp8) {
            1e-3
        } else {
            1e-7
        };
        d.kv_type = kv_type;
        d.table("q", heads * k_dim, Fill::Normal(1.0))?;
        d.table("k", kv_heads * k_dim, Fill::Normal(1.0))?;
        d.table("v", kv_heads * v_dim, Fill::Normal(1.0))?;
        Ok(d)
    }

    fn describe(self, b: &mut Builder) -> ProgramOutput {
        let Self {
            mask,
            kv_heads,
            group,
            k_dim,
            v_dim,
            rope,
            softcap,
            ..
        } = self;
        let heads = kv_heads * group;
        let q = rows(b, "q", heads * k_dim);
        let k = rows(b, "k", kv_heads * k_dim);
        let v = rows(b, "v", kv_heads * v_dim);
        let rope = b.rope_spec(rope);
        let (q, k) = (b.rope(q, k_dim, rope), b.rope(k, k_dim, rope));
        let window = match mask {
            Mask::Window(n) => Some(n),
            _ => None,
        };
        let state = b.paged_state(
            "kv".to_owned(),
            Paged {
                kv_heads,
                k_dim,
                v_dim,
                window,
            },
        );
        let scale = 1.0 / (k_dim as f32).sqrt();
        let out = b.attention(
            q,
            k,
            v,
            state,
            AttentionSpec {
                heads,
                scale,
                mask,
                softcap,
            },
        );
        logits(b, out)
    }
}

/// Plain rotary embeddings of the first `dims` numbers of a head.
fn plain_rope(dims: usize, style: RopeStyle) -> Rope {
    Rope {
        dims,
        style,
        base: 10_000.0,
        scaling: RopeScaling::None,
        factors: None,
        magnitude: 1.0,
    }
}

fn attention(rng: &mut Rng, kv_type: KvType, mask: Mask) -> Result<Case, ModelError> {
    let block = kv_type.block_len().max(2);
    let (kv_heads, group) = (1 + rng.below(3), 1 + rng.below(4));
    let (k_dim, v_dim) = (block * (1 + rng.below(3)), block * (1 + rng.below(3)));
    let style = rng.pick(&[RopeStyle::Interleaved, RopeStyle::Halves]);
    let heads = Heads {
        kv_type,
        mask,
        kv_heads,
        group,
        k_dim,
        v_dim,
        rope: plain_rope(k_dim, style),
        softcap: rng.pick(&[None, Some(10.0)]),
    };
    let draft = heads.draft(rng)?;
    draft.finish(rng, |b| heads.describe(b))
}

/// More keys than an executor may want to take at once, with few and with many queries.
fn long_attention(rng: &mut Rng, mask: Mask) -> Result<Case, ModelError> {
    let heads = Heads {
        kv_type: KvType::F32,
        mask,
        kv_heads: 1,
        group: 2,
        k_dim: 6,
        v_dim: 10,
        rope: plain_rope(6, RopeStyle::Halves),
        softcap: None,
    };
    let draft = heads.draft(rng)?;
    let lens = [580 + rng.below(50), 3];
    draft.finish_with(rng, &lens, &[17, 1], |b| heads.describe(b))
}

/// Rotary embeddings of the first half of each head, by themselves.
fn partial_rope(rng: &mut Rng, style: RopeStyle) -> Result<Case, ModelError> {
    let (heads, dims) = (1 + rng.below(4), 2 * (1 + rng.below(40)));
    let head = 2 * dims;
    let mut d = Draft::new(format!("rope {style:?} {dims} of {heads}x{head}"), rng);
    d.table("x", heads * head, Fill::Normal(1.0))?;
    d.finish(rng, |b| {
        let x = rows(b, "x", heads * head);
        let rope = b.rope_spec(plain_rope(dims, style));
        let y = b.rope(x, head, rope);
        logits(b, y)
    })
}

fn pool(rng: &mut Rng, kind: PoolKind) -> Result<Case, ModelError> {
    let cols = 1 + rng.below(100);
    let mut d = Draft::new(format!("pool {kind:?} {cols}"), rng);
    d.table("x", cols, Fill::Normal(1.0))?;
    d.finish(rng, |b| {
        let x = rows(b, "x", cols);
        ProgramOutput::Pooled(b.pool(x, kind))
    })
}
