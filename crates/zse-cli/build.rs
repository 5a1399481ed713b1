//! Gives the program the commit that it is built from (`ZSE_COMMIT`), for `zse bench`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=ZSE_COMMIT");
    // Grows with every commit. Named only if it is there: cargo would run this again each time.
    let log = Path::new("../../.git/logs/HEAD");
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    let commit = std::env::var("ZSE_COMMIT").ok().or_else(head);
    println!(
        "cargo::rustc-env=ZSE_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
}

/// The commit that git has checked out; `None` outside a repository.
fn head() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
