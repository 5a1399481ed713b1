//! The executor against the reference: every operation, type and whole decoders, on every
//! instruction set of this machine.

use zse_cpu::{CpuBackend, Isa};
use zse_model::conformance::{Case, adapter_cases, decoder_cases, nmse, op_cases};
use zse_model::reference::Reference;

fn compare(cases: &[Case]) {
    let mut failures = Vec::new();
    for case in cases {
        let (expected, _) = case.run(&Reference).expect("the reference runs everything");
        for isa in Isa::available() {
            match case.run(&CpuBackend { isa: Some(isa) }) {
                Ok((got, _)) if nmse(&got, &expected) <= case.tolerance => {}
                Ok((got, _)) => {
                    let nmse = nmse(&got, &expected);
                    failures.push(format!("{isa} {}: nmse {nmse:e}", case.name));
                }
                Err(e) => failures.push(format!("{isa} {}: {e}", case.name)),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn operations_agree_with_the_reference() {
    for seed in 0..2 {
        compare(&op_cases(seed).expect("the suite builds its cases"));
    }
}

#[test]
fn decoders_agree_with_the_reference() {
    compare(&decoder_cases(7).expect("the suite builds its cases"));
}

#[test]
fn adapters_agree_with_the_reference() {
    for seed in 0..2 {
        compare(&adapter_cases(seed).expect("the suite builds its cases"));
    }
}
