//! The executor against the reference: every operation, type and whole decoders, with the kernels for
//! this card and with the portable ones. Needs a GPU: `just gpu-check` runs it.
#![cfg(feature = "cuda")]

use zse_cuda::CudaBackend;
use zse_model::conformance::{Case, decoder_cases, nmse, op_cases};
use zse_model::reference::Reference;

fn compare(cases: &[Case]) {
    let backends = [false, true].map(|portable| CudaBackend::with(0, portable).expect("a GPU"));
    let mut failures = Vec::new();
    for case in cases {
        let (expected, _) = case.run(&Reference).expect("the reference runs everything");
        for backend in &backends {
            match case.run(backend) {
                Ok((got, _)) if nmse(&got, &expected) <= case.tolerance => {}
                Ok((got, _)) => {
                    let nmse = nmse(&got, &expected);
                    failures.push(format!("{backend:?} {}: nmse {nmse:e}", case.name));
                }
                Err(e) => failures.push(format!("{backend:?} {}: {e}", case.name)),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n{}",
        failures.len(),
        2 * cases.len(),
        failures.join("\n")
    );
}

#[test]
#[ignore = "needs a GPU"]
fn operations_agree_with_the_reference() {
    for seed in 0..2 {
        compare(&op_cases(seed).expect("the suite builds its cases"));
    }
}

#[test]
#[ignore = "needs a GPU"]
fn decoders_agree_with_the_reference() {
    compare(&decoder_cases(7).expect("the suite builds its cases"));
}
