//! The rules, and what they are applied to.

mod code;
mod crates;
mod files;
mod unsafety;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A rule broken at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// From the repository's root.
    path: String,
    /// From 1; `None` where the whole file is meant.
    line: Option<usize>,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// A text file of the repository.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn extension(&self) -> &str {
        Path::new(&self.path)
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default()
    }

    fn finding(&self, line: Option<usize>, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
        }
    }
}

/// What a check found.
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) files: usize,
    pub(crate) crates: usize,
}

/// Applies every rule to the repository at `root`: to all files that git tracks or would.
pub(crate) fn check(root: &Path) -> Result<Report> {
    let sources = sources(root)?;
    let packages = crates::packages(&output(
        root,
        env!("CARGO"),
        &["metadata", "--no-deps", "--format-version=1", "--locked"],
    )?)?;
    let mut findings: Vec<Finding> = sources
        .iter()
        .flat_map(|source| {
            files::check(source)
                .into_iter()
                .chain(unsafety::check(source))
        })
        .collect();
    findings.extend(crates::check(&packages));
    findings.extend(unsafety::check_roots(&packages, &sources));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(Report {
        findings,
        files: sources.len(),
        crates: packages.len(),
    })
}

/// The text files of the repository; binary ones are left out.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let listing = output(
        root,
        "git",
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    )?;
    let mut sources = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let file = root.join(path);
        // A file can be deleted, or a link, and still be listed.
        if !fs::symlink_metadata(&file).is_ok_and(|data| data.is_file()) {
            continue;
        }
        let bytes = fs::read(&file).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(sources)
}

fn output(root: &Path, program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {} failed: {message}",
        args.join(" ")
    );
    String::from_utf8(output.stdout).with_context(|| format!("{program} did not print UTF-8"))
}
