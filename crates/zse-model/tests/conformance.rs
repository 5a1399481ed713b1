//! The conformance suite on the reference itself: every case builds, runs and gives numbers, and
//! a case can tell a wrong result from a right one.

use zse_model::conformance::{decoder_cases, nmse, op_cases};
use zse_model::reference::Reference;

#[test]
fn every_case_runs_on_the_reference() {
    for seed in [1, 2] {
        let cases = op_cases(seed)
            .unwrap()
            .into_iter()
            .chain(decoder_cases(seed).unwrap());
        for case in cases {
            let (outputs, _) = case
                .run(&Reference)
                .unwrap_or_else(|e| panic!("{}: {e}", case.name));
            assert!(!outputs.is_empty(), "{}: no outputs", case.name);
            assert!(
                outputs.iter().all(|v| v.is_finite()),
                "{}: not finite",
                case.name
            );
            let power: f32 = outputs.iter().map(|v| v * v).sum();
            assert!(power > 0.0, "{}: all zero", case.name);
        }
    }
}

#[test]
fn nmse_tells_wrong_results_from_right_ones() {
    assert_eq!(nmse(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
    assert_eq!(nmse(&[0.0, 0.0], &[3.0, 4.0]), 1.0);
    assert!(nmse(&[f32::NAN, 0.0], &[3.0, 4.0]).is_nan());
    assert!(nmse(&[1.0], &[3.0, 4.0]).is_nan());
}
