//! What meets the weights is summed as the reference does it.

use std::sync::Arc;

use zse_cpu::CpuBackend;
use zse_model::Model;
use zse_model::conformance::{DecoderSpec, Golden, batch, decoder};
use zse_model::executor::{Backend, Budget, Fuse, Squares};
use zse_model::reference::Reference;
use zse_quant::GgmlType;

/// The sums of two passes, of 3 tokens and of 2 behind them.
fn squares(backend: &dyn Backend, model: &Arc<Model>, budget: &Budget) -> Squares {
    let mut executor = backend.compile(Arc::clone(model), budget).unwrap();
    let first = batch(model, budget, &[(&[1, 2, 3], 0)]);
    executor.submit(&first).unwrap();
    assert_eq!(executor.end_squares(), None);
    assert!(executor.start_squares());
    executor.submit(&first).unwrap();
    executor
        .submit(&batch(model, budget, &[(&[4, 5], 3)]))
        .unwrap();
    let squares = executor.end_squares().expect("they were begun");
    assert_eq!(executor.end_squares(), None);
    squares
}

fn check(model: &Arc<Model>) {
    for fuse in [Fuse::All, Fuse::None] {
        let budget = Budget {
            fuse,
            ..Budget::for_context(64, 1, 64)
        };
        let expected = squares(&Reference, model, &budget);
        let found = squares(&CpuBackend::default(), model, &budget);
        let mut weights = 0;
        for ((id, expected), (same, found)) in expected.weights().zip(found.weights()) {
            assert_eq!((id, &expected.rows), (same, &found.rows));
            // A stack is met by all rows as often as it has chosen experts.
            assert_eq!(found.rows.iter().sum::<u64>() % 5, 0);
            for (a, b) in expected.sums.iter().zip(&found.sums) {
                assert!((a - b).abs() <= 1e-3 * a.abs() + 1e-6, "{a} and {b}");
            }
            weights += 1;
        }
        assert_eq!(weights, found.weights().count());
        assert!(weights > 4);
    }
}

#[test]
fn a_decoders_weights_are_met_as_in_the_reference() {
    check(&decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap());
}

#[test]
fn experts_are_met_by_the_tokens_that_choose_them() {
    for file in Golden::files().expect("fixtures are there") {
        let golden = Golden::open(&file).expect("a good fixture");
        if golden.name.contains("moe") || golden.name.contains("mixtral") {
            check(&golden.model);
        }
    }
}

#[test]
fn more_tokens_than_a_mixture_computes_at_once_are_refused() {
    let files = Golden::files().expect("fixtures are there");
    let mixtral = files.iter().find(|file| file.ends_with("mixtral.golden"));
    let golden = Golden::open(mixtral.expect("a mixture")).expect("a good fixture");
    let budget = Budget::for_context(4096, 1, 4096);
    let mut executor = CpuBackend::default()
        .compile(Arc::clone(&golden.model), &budget)
        .unwrap();
    assert!(!executor.start_squares());
}
