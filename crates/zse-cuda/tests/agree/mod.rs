//! What all comparisons with the reference do.

use zse_cuda::{CudaBackend, Kernels};
use zse_model::conformance::{Case, nmse};
use zse_model::reference::Reference;

#[path = "../share/mod.rs"]
mod share;

/// The kernels that this machine can run; our own for this card alone where a checker looks at them.
pub(crate) fn kernels() -> impl Iterator<Item = Kernels> {
    let (found, one) = (zse_cuda::cublas(), share::kernels());
    Kernels::ALL.into_iter().filter(move |&kernels| match one {
        Some(one) => kernels == one,
        None => !kernels.cublas || found.is_some(),
    })
}

/// Runs every case, or this process's share of them, with all kernels: those for this card and the portable ones, with
/// cuBLASLt and without.
///
/// # Panics
/// If one fails, or is further from the reference than its tolerance.
pub(crate) fn compare(cases: &[Case]) {
    let backends = kernels().map(|kernels| CudaBackend::with(0, kernels).expect("a GPU"));
    let backends: Vec<CudaBackend> = backends.collect();
    let mut failures = Vec::new();
    for case in share::of(cases) {
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
        println!("compared: {}", case.name);
    }
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n{}",
        failures.len(),
        backends.len() * cases.len(),
        failures.join("\n")
    );
}
