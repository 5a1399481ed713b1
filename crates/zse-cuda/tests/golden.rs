//! The fixtures of zse-model, recorded from Hugging Face transformers, on a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

mod share;

use std::path::PathBuf;

use zse_cuda::{CudaBackend, Kernels};
use zse_model::conformance::{Golden, decoder_cases, nmse};
use zse_model::executor::Staged;
use zse_model::program::ProgramOutput;
use zse_model::reference::Reference;

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
    let all = [false, true].map(|portable| Kernels {
        portable,
        ..Kernels::default()
    });
    for kernels in share::kernels().map_or(all.to_vec(), |one| vec![one]) {
        let portable = kernels.portable;
        let backend = CudaBackend::with(0, kernels).expect("a GPU");
        for file in share::of(&files()) {
            let golden = Golden::open(file).expect("a good fixture");
            let report = golden.compare(&backend).expect("it runs");
            println!(
                "compared: portable {portable:5} {:20} {:.1e}",
                golden.name, report.error
            );
            assert!(report.error <= 1e-2, "{}: {report:?}", golden.name);
            assert_eq!(report.diverged, None, "{}", golden.name);
        }
    }
}

/// The first layers on another executor, as where a GPU has no room for all; blocks are swapped out and in.
#[test]
#[ignore = "needs a GPU"]
fn models_on_two_executors_hold() {
    let staged = |n| {
        let gpu = CudaBackend::open(0).expect("a GPU");
        Staged::new(Box::new(Reference), Box::new(gpu), Some(n))
    };
    for file in files() {
        let golden = Golden::open(&file).expect("a good fixture");
        let layers = golden.model.info.layers;
        if layers < 2 || !matches!(golden.model.program.output, ProgramOutput::Logits(_)) {
            continue;
        }
        let report = golden.compare(&staged(layers / 2)).expect("it runs");
        println!("two executors {:20} {:.1e}", golden.name, report.error);
        assert!(report.error <= 1e-2, "{}: {report:?}", golden.name);
        assert_eq!(report.diverged, None, "{}", golden.name);
    }
    for case in decoder_cases(9).expect("the suite builds its cases") {
        let (expected, _) = case.run(&Reference).expect("it runs");
        let (got, _) = case.run(&staged(1)).expect("it runs");
        let error = nmse(&got, &expected);
        assert!(error <= case.tolerance.max(1e-4), "{}: {error}", case.name);
    }
}
