//! The fixtures of zse-model, recorded from Hugging Face transformers, on a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

use zse_cuda::CudaBackend;
use zse_model::conformance::Golden;

#[test]
#[ignore = "needs a GPU"]
fn fixtures_hold() {
    for portable in [false, true] {
        let backend = CudaBackend::with(0, portable).expect("a GPU");
        for file in Golden::files().expect("fixtures are there") {
            let golden = Golden::open(&file).expect("a good fixture");
            let report = golden.compare(&backend).expect("it runs");
            println!(
                "portable {portable:5} {:20} {:.1e}",
                golden.name, report.error
            );
            assert!(report.error <= 1e-2, "{}: {report:?}", golden.name);
            assert_eq!(report.diverged, None, "{}", golden.name);
        }
    }
}
