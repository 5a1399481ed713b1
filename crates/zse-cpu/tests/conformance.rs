//! The executor against the reference: every operation, type and whole decoders, on every
//! instruction set of this machine.

use zse_cpu::{CpuBackend, Isa};
use zse_model::conformance::{Case, decoder_cases, op_cases};

fn compare(cases: &[Case]) {
    let mut failures = Vec::new();
    for isa in Isa::available() {
        for case in cases {
            let result = case.compare(&CpuBackend { isa: Some(isa) });
            match result {
                Ok(c) if c.nmse <= case.tolerance => {}
                Ok(c) => failures.push(format!("{isa} {}: nmse {:e}", case.name, c.nmse)),
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
    for seed in 0..3 {
        compare(&op_cases(seed).expect("the suite builds its cases"));
    }
}

#[test]
fn decoders_agree_with_the_reference() {
    compare(&decoder_cases(7).expect("the suite builds its cases"));
}
