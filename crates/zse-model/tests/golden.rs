//! Every architecture against Hugging Face transformers, on the fixtures that
//! `tests/golden/make.py` makes.

use std::collections::BTreeSet;
use std::path::Path;

use zse_model::arch::ARCHITECTURES;
use zse_model::conformance::{Golden, GoldenError};
use zse_model::program::ProgramOutput;
use zse_model::reference::Reference;

#[test]
fn reference_computes_what_transformers_compute() {
    hold_all_to_transformers(Golden::open);
}

#[test]
fn directories_of_safetensors_compute_the_same() {
    hold_all_to_transformers(Golden::open_directory);
}

fn hold_all_to_transformers(open: fn(&Path) -> Result<Golden, GoldenError>) {
    let mut architectures = BTreeSet::new();
    for file in Golden::files().unwrap() {
        let golden = open(&file).unwrap();
        let report = golden.compare(&Reference).unwrap();
        println!("{:20} {:.1e}", golden.name, report.error);
        let tolerance = match golden.model.program.output {
            ProgramOutput::Logits(_) => 1e-4,
            ProgramOutput::Pooled(_) | ProgramOutput::Hidden(_) => 1e-5,
        };
        assert!(report.error <= tolerance, "{}: {report:?}", golden.name);
        assert_eq!(report.diverged, None, "{}", golden.name);
        architectures.insert(golden.model.info.architecture.clone());
    }
    let all: BTreeSet<_> = ARCHITECTURES.iter().map(|a| a.name.to_owned()).collect();
    assert_eq!(architectures, all, "an architecture lacks a golden fixture");
}
