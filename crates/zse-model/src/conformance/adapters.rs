//! Adapters on whole decoders and on mixtures: some sequences use one, some another, some several, some
//! none.

use zse_format::{Lora, LoraMatrix, LoraWeight};
use zse_quant::GgmlType;

use super::cases::mixtures_to_adapt;
use super::{Case, DecoderSpec, Rng, batch, decoder, tolerance};
use crate::adapter::{Adapter, AdapterError};
use crate::error::ModelError;
use crate::executor::{AdapterId, AdapterUse, Batch, Budget, KvType};
use crate::model::Model;
use crate::program::Op;

/// An adapter of random numbers for the products of `model`: for all of them with the first `rank`,
/// for every other one with the others in turn. Some experts are left as they are.
///
/// # Errors
/// If the adapter is not for its model: a mistake in the suite.
pub fn adapter(model: &Model, ranks: &[usize], seed: u64) -> Result<Adapter, AdapterError> {
    let mut rng = Rng::new(seed);
    let checkpoint = model.weights.checkpoint();
    let mut weights: Vec<LoraWeight> = Vec::new();
    let multiplied = model.program.nodes.iter().flat_map(|node| match node.op {
        Op::Linear { weight, .. } => vec![weight],
        Op::MoeFfn { gate, up, down, .. } => vec![gate, up, down],
        _ => Vec::new(),
    });
    let places = multiplied.flat_map(|id| {
        let tensor = model.program.tensor(id);
        (0..tensor.experts).map(|expert| (&tensor.name, expert, tensor.experts))
    });
    for (stored, expert, experts) in places {
        let name = match stored.as_str() {
            "token_embd.weight" => "output.weight",
            name => name,
        };
        let view = checkpoint.tensor(stored).expect("the program names it");
        let is_there = |w: &LoraWeight| w.name == name && w.expert == expert;
        if weights.iter().any(is_there) || experts > 1 && rng.below(4) == 0 {
            continue;
        }
        let rank = ranks[weights.len() % ranks.len()];
        let (cols, rows) = (view.shape[0] as usize, view.shape[1] as usize);
        let mut matrix = |rows: usize, cols: usize, std: f32| {
            let numbers: Vec<f32> = (0..rows * cols).map(|_| std * rng.normal()).collect();
            LoraMatrix::new(rows, cols, &numbers)
        };
        weights.push(LoraWeight {
            name: name.to_owned(),
            expert,
            a: matrix(rank, cols, 1.0 / (cols as f32).sqrt()),
            b: matrix(rows, rank, 0.3),
            scale: 2.0 / rank as f32,
        });
    }
    Adapter::new(model, &Lora::new("synthetic", weights))
}

/// Decoders of some types, and mixtures, with adapters, in steps of prompts and of single tokens.
///
/// # Errors
/// If a case contradicts itself: a mistake in the suite.
pub fn adapter_cases(seed: u64) -> Result<Vec<Case>, ModelError> {
    let mut rng = Rng::new(seed);
    let mut cases = Vec::new();
    for ty in [GgmlType::F32, GgmlType::Bf16, GgmlType::Q4K] {
        let model = decoder(&DecoderSpec::small(ty), rng.bits())?;
        let adapters = [&[4][..], &[17, 1]].map(|ranks| adapter(&model, ranks, rng.bits()));
        let budget = Budget {
            kv_type: KvType::F32,
            ..Budget::for_context(64, 4, 128)
        };
        let lens = [21, 1, 33, 5];
        let ids = lens.map(|n| rng.ids(n, model.info.vocab));
        let next = [1, 1, 9, 1].map(|n| rng.ids(n, model.info.vocab));
        let first = ids.each_ref().map(|ids| (ids.as_slice(), 0));
        let second: Vec<_> = next.iter().map(Vec::as_slice).zip(lens).collect();
        let batches = vec![
            with_adapters(batch(&model, &budget, &first)),
            with_adapters(batch(&model, &budget, &second)),
        ];
        cases.push(Case {
            name: format!("adapters on {}", ty.name()),
            adapters: adapters
                .into_iter()
                .collect::<Result<_, _>>()
                .expect("made for this model"),
            model,
            budget,
            batches,
            tolerance: tolerance(ty),
        });
    }
    for mut case in mixtures_to_adapt(&mut rng)? {
        let adapters = [&[4][..], &[17, 1]].map(|ranks| adapter(&case.model, ranks, rng.bits()));
        case.name = format!("adapters on {}", case.name);
        case.adapters = adapters
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("made for this model");
        case.batches = case.batches.into_iter().map(with_adapters).collect();
        cases.push(case);
    }
    Ok(cases)
}

/// Gives each of four sequences its adapters.
fn with_adapters(mut batch: Batch) -> Batch {
    let used = |adapter, scale| AdapterUse {
        adapter: AdapterId(adapter),
        scale,
    };
    let adapters = [
        vec![used(1, 1.0)],
        Vec::new(),
        vec![used(0, 1.0)],
        vec![used(0, -0.5), used(1, 0.25)],
    ];
    for (seq, adapters) in batch.seqs.iter_mut().zip(adapters) {
        seq.adapters = adapters;
    }
    batch
}
