//! Whole decoders with random weights: what single operations hide (error growth, fused groups,
//! reuse of buffers) shows here.

use std::sync::Arc;

use zse_quant::GgmlType;

use super::{Case, Fill, Rng, Synth, batch, tolerance};
use crate::error::ModelError;
use crate::executor::{Batch, BlockBytes, Budget, KvOp, KvType};
use crate::model::{Model, ModelOptions};

/// A small decoder of the `llama` architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Type of all matrices.
    pub ty: GgmlType,
    /// Layers.
    pub layers: usize,
    /// Width, a multiple of the type's block.
    pub width: usize,
    /// Inner width of the MLP, likewise.
    pub ff: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// What the embedding table holds: the activations of the first layer.
    pub embedding: Fill,
}

impl DecoderSpec {
    /// Two layers of width 256: every type's blocks divide it.
    pub fn small(ty: GgmlType) -> Self {
        Self {
            ty,
            layers: 2,
            width: 256,
            ff: 512,
            heads: 4,
            kv_heads: 2,
            vocab: 97,
            embedding: Fill::Normal(1.0),
        }
    }
}

/// A decoder with weights from `seed`.
///
/// # Errors
/// If the specification contradicts itself.
pub fn decoder(spec: &DecoderSpec, seed: u64) -> Result<Arc<Model>, ModelError> {
    let DecoderSpec {
        ty,
        layers,
        width,
        ff,
        heads,
        kv_heads,
        vocab,
        embedding,
    } = *spec;
    let mut s = Synth::new(seed);
    let m = s.metadata();
    m.set("general.architecture", "llama")?;
    for (key, value) in [
        ("block_count", layers),
        ("embedding_length", width),
        ("feed_forward_length", ff),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("context_length", 512),
    ] {
        m.set(&format!("llama.{key}"), value as u32)?;
    }
    m.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)?;
    s.tensor(
        "token_embd.weight",
        GgmlType::F32,
        &[width, vocab],
        embedding,
    )?;
    let kv = width / heads * kv_heads;
    // Standard deviations that keep the residual stream of unit size through the layers.
    let std = |cols: usize| Fill::Normal(0.7 / (cols as f32).sqrt());
    for l in 0..layers {
        for (name, rows, cols) in [
            ("attn_q", width, width),
            ("attn_k", kv, width),
            ("attn_v", kv, width),
            ("attn_output", width, width),
            ("ffn_gate", ff, width),
            ("ffn_up", ff, width),
            ("ffn_down", width, ff),
        ] {
            s.tensor(
                &format!("blk.{l}.{name}.weight"),
                ty,
                &[cols, rows],
                std(cols),
            )?;
        }
        for name in ["attn_norm", "ffn_norm"] {
            s.tensor(
                &format!("blk.{l}.{name}.weight"),
                GgmlType::F32,
                &[width],
                Fill::NearOne,
            )?;
        }
    }
    s.tensor("output_norm.weight", GgmlType::F32, &[width], Fill::NearOne)?;
    s.tensor("output.weight", ty, &[width, vocab], std(width))?;
    Model::load(s.finish()?, &ModelOptions::default()).map(Arc::new)
}

/// A decoder for every weight type, with plain embeddings and with outlier channels, and two for
/// every KV type: one of them has its blocks swapped on the way.
///
/// # Errors
/// If a case contradicts itself: a mistake in the suite.
pub fn decoder_cases(seed: u64) -> Result<Vec<Case>, ModelError> {
    let mut rng = Rng::new(seed);
    let mut cases = Vec::new();
    for &ty in GgmlType::WEIGHTS {
        for embedding in [Fill::Normal(1.0), Fill::Outliers(1.0)] {
            let spec = DecoderSpec {
                embedding,
                ..DecoderSpec::small(ty)
            };
            cases.push(case(&mut rng, &spec, KvType::F32, tolerance(ty))?);
        }
    }
    for (kv_type, tolerance) in [
        (KvType::F16, 1e-6),
        (KvType::Bf16, 1e-5),
        (KvType::Q8_0, 1e-3),
        (KvType::Q4_0, 1e-2),
        (KvType::Fp8, 1e-2),
    ] {
        let spec = DecoderSpec::small(GgmlType::F32);
        cases.push(case(&mut rng, &spec, kv_type, tolerance)?);
        cases.push(swapped(
            case(&mut rng, &spec, kv_type, tolerance)?,
            &mut rng,
        ));
    }
    Ok(cases)
}

/// The first sequence of a [`case`] is swapped out behind the first batch, a stranger takes its
/// blocks, and it is swapped in to others.
fn swapped(case: Case, rng: &mut Rng) -> Case {
    let [first, mut last] = <[Batch; 2]>::try_from(case.batches).expect("a case has two batches");
    let bytes = [BlockBytes::default(), BlockBytes::default()];
    let old = &first.seqs[0].tables[0];
    let ids = rng.ids(old.len() * case.budget.block_len, case.model.info.vocab);
    let mut stranger = batch(&case.model, &case.budget, &[(&ids, 0)]);
    stranger.seqs[0].tables.clone_from(&first.seqs[0].tables);
    let out = old.iter().zip(bytes.iter().cloned());
    stranger.kv_ops = out.map(|(&from, to)| KvOp::SwapOut { from, to }).collect();
    let new: Vec<_> = (0..old.len() as u32).map(|i| 5 - i).collect();
    let back = new.iter().zip(bytes);
    last.kv_ops = back.map(|(&to, from)| KvOp::SwapIn { from, to }).collect();
    last.seqs[0].tables.fill(new);
    Case {
        name: format!("{} swapped", case.name),
        batches: vec![first, stranger, last],
        ..case
    }
}

fn case(
    rng: &mut Rng,
    spec: &DecoderSpec,
    kv_type: KvType,
    tolerance: f64,
) -> Result<Case, ModelError> {
    let model = decoder(spec, rng.bits())?;
    let budget = Budget {
        kv_type,
        ..Budget::for_context(128, 2, 128)
    };
    let (a, b) = (rng.ids(33, spec.vocab), rng.ids(5, spec.vocab));
    let (c, d) = (rng.ids(1, spec.vocab), rng.ids(20, spec.vocab));
    let batches = vec![
        batch(&model, &budget, &[(&a, 0), (&b, 0)]),
        batch(&model, &budget, &[(&c, a.len()), (&d, b.len())]),
    ];
    let name = format!(
        "decoder {} kv {kv_type} {:?}",
        spec.ty.name(),
        spec.embedding
    );
    Ok(Case {
        name,
        model,
        budget,
        adapters: Vec::new(),
        batches,
        tolerance,
    })
}
