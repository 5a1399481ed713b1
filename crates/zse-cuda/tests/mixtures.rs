//! Mixtures of experts against the reference: as many tokens as fill tiles of every size, and more than are
//! worked on at once. Needs a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

mod agree;
mod mixture;
mod model;

use std::sync::Arc;

use zse_model::conformance::{Case, Rng, batch, tolerance};
use zse_model::executor::Budget;
use zse_quant::GgmlType;

use agree::compare;
use mixture::Mixture;

const VOCAB: usize = 61;

struct Suite {
    mixture: Mixture,
    /// Tokens of each batch.
    tokens: Vec<usize>,
}

impl Suite {
    fn case(&self, rng: &mut Rng) -> Case {
        let most = self.tokens.iter().copied().max().unwrap_or(1);
        let model = self.mixture.model(rng.bits(), most);
        let budget = Budget::for_context(most, 1, most);
        let batches = self.tokens.iter().map(|&n| {
            let ids = rng.ids(n, VOCAB);
            batch(&model, &budget, &[(&ids[..], 0)])
        });
        let types = self.mixture.types.map(tolerance);
        Case {
            adapters: Vec::new(),
            batches: batches.collect(),
            name: model.info.name.clone(),
            budget,
            tolerance: 2.0 * types.into_iter().fold(0.0, f64::max),
            model: Arc::clone(&model),
        }
    }
}

fn compare_all(mixtures: &[Suite]) {
    let mut rng = Rng::new(5);
    let cases: Vec<Case> = mixtures.iter().map(|m| m.case(&mut rng)).collect();
    compare(&cases);
}

#[test]
#[ignore = "needs a GPU"]
fn experts_agree_with_the_reference() {
    use GgmlType as T;
    let types = [
        [T::Q4_0; 3],
        [T::Q8_0; 3],
        [T::Q4K, T::Q4K, T::Q6K],
        [T::Q5K, T::Q4K, T::Q5K],
        [T::Iq4Xs; 3],
        [T::F16; 3],
        [T::Bf16; 3],
    ];
    let mixtures = types.map(|types| Suite {
        mixture: Mixture {
            types,
            experts: 12,
            top_k: 3,
            cols: 512,
            ff: 768,
            vocab: VOCAB,
        },
        tokens: vec![1, 9, 40, 130, 600],
    });
    compare_all(&mixtures);
}

/// Rows of odd sizes, few experts, and all of them.
#[test]
#[ignore = "needs a GPU"]
fn odd_mixtures_agree_with_the_reference() {
    use GgmlType as T;
    let odd = |ty, experts, top_k, cols, ff| Suite {
        mixture: Mixture {
            types: [ty; 3],
            experts,
            top_k,
            cols,
            ff,
            vocab: VOCAB,
        },
        tokens: vec![10, 77, 300],
    };
    compare_all(&[
        odd(T::Q8_0, 1, 1, 96, 160),
        odd(T::Q4_0, 5, 5, 160, 32),
        odd(T::Bf16, 3, 2, 72, 104),
        odd(T::F16, 40, 4, 200, 24),
    ]);
}

/// More pairs than are worked on at once.
#[test]
#[ignore = "needs a GPU"]
fn long_prompts_agree_with_the_reference() {
    compare_all(&[Suite {
        mixture: Mixture {
            types: [GgmlType::Q8_0; 3],
            experts: 9,
            top_k: 4,
            cols: 64,
            ff: 32,
            vocab: VOCAB,
        },
        tokens: vec![4100],
    }]);
}
