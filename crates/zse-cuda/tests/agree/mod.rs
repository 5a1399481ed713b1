//! What all comparisons with the reference do.

use zse_cuda::CudaBackend;
use zse_model::conformance::{Case, nmse};
use zse_model::reference::Reference;

/// Runs every case with the kernels for this card and with the portable ones.
///
/// # Panics
/// If one fails, or is further from the reference than its tolerance.
pub(crate) fn compare(cases: &[Case]) {
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
