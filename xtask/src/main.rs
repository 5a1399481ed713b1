//! Checks of this repository that no other tool does: `cargo xtask tidy`.
#![forbid(unsafe_code)]

mod tidy;

use std::env;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let task = env::args().nth(1);
    if task.as_deref() != Some("tidy") {
        eprintln!("usage: cargo xtask tidy\n\nHolds the rules of CONTRIBUTING.md over all files.");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match tidy::check(&root) {
        Ok(report) if report.findings.is_empty() => {
            println!(
                "tidy: {} files and {} crates keep the rules",
                report.files, report.crates
            );
            ExitCode::SUCCESS
        }
        Ok(report) => {
            for finding in &report.findings {
                println!("{finding}");
            }
            println!("tidy: {} findings", report.findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
