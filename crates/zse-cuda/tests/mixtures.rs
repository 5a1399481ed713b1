//! Mixtures of experts against the reference: as many tokens as fill tiles of every size, and more than are
//! worked on at once. Needs a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

mod agree;

use std::sync::Arc;

use zse_model::conformance::{Case, Fill, Rng, Synth, batch, tolerance};
use zse_model::executor::Budget;
use zse_model::program::{Act, EmbedIndex, ProgramOutput};
use zse_model::{Builder, Model, ModelInfo, TOP, Weights};
use zse_quant::GgmlType;

use agree::compare;

const VOCAB: usize = 61;

struct Mixture {
    /// Of gate, up and down.
    types: [GgmlType; 3],
    experts: usize,
    top_k: usize,
    cols: usize,
    ff: usize,
    /// Tokens of each batch.
    tokens: Vec<usize>,
}

impl Mixture {
    fn case(&self, rng: &mut Rng) -> Case {
        let &Self {
            types,
            experts,
            top_k,
            cols,
            ff,
            ..
        } = self;
        let [gate, up, down] = types;
        let names = types.map(GgmlType::name);
        let name = format!("{names:?} {experts}x[{ff}, {cols}] top {top_k}");
        let mut synth = Synth::new(rng.bits());
        for (tensor, ty, shape, deviation) in [
            ("x.weight", GgmlType::F32, &[cols, VOCAB][..], 1.0),
            ("router.weight", GgmlType::F32, &[cols, experts], 0.2),
            ("gate.weight", gate, &[cols, ff, experts], 0.1),
            ("up.weight", up, &[cols, ff, experts], 0.1),
            ("down.weight", down, &[ff, cols, experts], 0.1),
        ] {
            synth
                .tensor(tensor, ty, shape, Fill::Normal(deviation))
                .expect("a good tensor");
        }
        let checkpoint = synth.finish().expect("a good checkpoint");
        let mut b = Builder::new(&name, Arc::clone(&checkpoint));
        let output = self.describe(&mut b);
        let program = b.finish(output).expect("a good program");
        let weights = Weights::new(checkpoint, &program).expect("its weights");
        let most = self.tokens.iter().copied().max().unwrap_or(1);
        let info = ModelInfo {
            architecture: "mixture".to_owned(),
            name: name.clone(),
            layers: 1,
            width: cols,
            vocab: VOCAB,
            context: most,
            trained_context: most,
        };
        let model = Arc::new(Model {
            info,
            program,
            weights,
        });
        let budget = Budget::for_context(most, 1, most);
        let batches = self.tokens.iter().map(|&n| {
            let ids = rng.ids(n, VOCAB);
            batch(&model, &budget, &[(&ids[..], 0)])
        });
        Case {
            adapters: Vec::new(),
            batches: batches.collect(),
            name,
            budget,
            tolerance: 2.0 * types.map(tolerance).into_iter().fold(0.0, f64::max),
            model: Arc::clone(&model),
        }
    }

    fn describe(&self, b: &mut Builder) -> ProgramOutput {
        let &Self {
            experts,
            top_k,
            cols,
            ff,
            ..
        } = self;
        let table = b.weight(TOP, "x", VOCAB, cols);
        let x = b.embed(table, EmbedIndex::Token);
        let scores = b.linear(x, TOP, "router", experts);
        let route = b.moe_route(scores, top_k, true, 1.0);
        let [gate, up] = ["gate", "up"].map(|name| b.experts(TOP, name, experts, [ff, cols]));
        let down = b.experts(TOP, "down", experts, [cols, ff]);
        let y = b.moe_ffn(x, route, [gate, up, down], Act::Silu);
        ProgramOutput::Logits(b.gather_rows(y))
    }
}

fn compare_all(mixtures: &[Mixture]) {
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
    let mixtures = types.map(|types| Mixture {
        types,
        experts: 12,
        top_k: 3,
        cols: 512,
        ff: 768,
        tokens: vec![1, 9, 40, 130, 600],
    });
    compare_all(&mixtures);
}

/// Rows of odd sizes, few experts, and all of them.
#[test]
#[ignore = "needs a GPU"]
fn odd_mixtures_agree_with_the_reference() {
    use GgmlType as T;
    let odd = |ty, experts, top_k, cols, ff| Mixture {
        types: [ty; 3],
        experts,
        top_k,
        cols,
        ff,
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
    compare_all(&[Mixture {
        types: [GgmlType::Q8_0; 3],
        experts: 9,
        top_k: 4,
        cols: 64,
        ff: 32,
        tokens: vec![4100],
    }]);
}
