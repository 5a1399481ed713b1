//! The report: all sections under one heading, with versions and known differences.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::llama;
use crate::section::Section;

/// Writes `sections` to `path`.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(path: &Path, sections: &[Section]) -> Result<()> {
    let mut text = format!(
        "# Parity with llama.cpp\n\n\
         The same files through llama.cpp and through ZSE, made by `just parity`; how, is in \
         [parity/README.md](../parity/README.md).\n\n\
         {}; both on `{}`, which for ZSE is {}.\n\n",
        llama::version(),
        std::env::consts::ARCH,
        zse_cpu::Isa::available()[0],
    );
    for section in sections {
        text += &section.to_string();
    }
    text += include_str!("differences.md");
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
