//! The fixtures of zse-model, recorded from Hugging Face transformers, on the CPU.

use zse_cpu::{CpuBackend, Isa};
use zse_model::conformance::Golden;

#[test]
fn fixtures_hold_on_every_instruction_set() {
    for file in Golden::files().expect("fixtures are there") {
        hold(&Golden::open(&file).expect("a good fixture"));
    }
}

#[test]
fn fixtures_of_adapters_hold_on_every_instruction_set() {
    for file in Golden::adapter_files().expect("fixtures are there") {
        hold(&Golden::open_directory(&file).expect("a good fixture"));
    }
}

fn hold(golden: &Golden) {
    for isa in Isa::available() {
        let report = golden
            .compare(&CpuBackend { isa: Some(isa) })
            .expect("it runs");
        println!("{isa:8} {:20} {:.1e}", golden.name, report.error);
        assert!(report.error <= 1e-4, "{isa} {}: {report:?}", golden.name);
        assert_eq!(report.diverged, None, "{isa} {}", golden.name);
    }
}
