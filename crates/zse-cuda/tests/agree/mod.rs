//! What all comparisons with the reference do.

use zse_cuda::{CudaBackend, Kernels};
use zse_model::conformance::{Case, nmse};
use zse_model::reference::Reference;

/// The kernels that this machine can run.
pub(crate) fn kernels() -> impl Iterator<Item = Kernels> {
    let found = zse_cuda::cublas();
    Kernels::ALL
        .into_iter()
        .filter(move |kernels| !kernels.cublas || found.is_some())
}

/// Runs every case with all kernels: those for this card and the portable ones, with cuBLASLt and without.
///
/// # Panics
/// If one fails, or is further from the reference than its tolerance.
pub(crate) fn compare(cases: &[Case]) {
    let backends = kernels().map(|kernels| CudaBackend::with(0, kernels).expect("a GPU"));
    let backends: Vec<CudaBackend> = backends.collect();
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
        backends.len() * cases.len(),
        failures.join("\n")
    );
}
