//! The fixtures of zse-model, recorded from Hugging Face transformers, on a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

use std::path::PathBuf;

use zse_cuda::CudaBackend;
use zse_model::conformance::Golden;

/// The fixtures, or those in the folder that `ZSE_GOLDEN` names: away from where this was built.
fn files() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("ZSE_GOLDEN") else {
        return Golden::files().expect("fixtures are there");
    };
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "golden"))
        .collect();
    assert!(!paths.is_empty(), "ZSE_GOLDEN holds no fixtures");
    paths.sort();
    paths
}

#[test]
#[ignore = "needs a GPU"]
fn fixtures_hold() {
    for portable in [false, true] {
        let backend = CudaBackend::with(0, portable).expect("a GPU");
        for file in files() {
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
