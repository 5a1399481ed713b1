//! Rules for single files: their size, their first lines, and words that no file may have.

use super::code::only_code;
use super::{Finding, Source};

const MAX_LINES: usize = 600;

/// Folders of one machine. In two parts each, so that this file does not have them.
const MACHINE_PATHS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/ba", "sh_jobs"),
];

/// Lints that may not be allowed, and what to do instead.
const NEVER_ALLOWED: [(&str, &str); 2] = [
    ("dead_code", "delete the code"),
    ("too_many_arguments", "pass a struct"),
];

/// Every rule about a single file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let extension = source.extension();
    let lines = source.text.lines().count();
    if matches!(extension, "rs" | "cu" | "cuh" | "ts" | "tsx" | "py") && lines > MAX_LINES {
        let message = format!("{lines} lines; split the file, {MAX_LINES} is the most");
        findings.push(source.finding(None, message));
    }
    if extension == "rs" && !source.text.starts_with("//!") {
        findings.push(source.finding(Some(1), "a file starts with `//!`: what it is for"));
    }
    if extension == "py" && !has_docstring(&source.text) {
        findings.push(source.finding(Some(1), "a Python file starts with a docstring"));
    }
    for (line, text) in (1..).zip(source.text.lines()) {
        for path in MACHINE_PATHS {
            if text.contains(path) {
                let message = format!("{path} is a path of one machine; make it relative");
                findings.push(source.finding(Some(line), message));
            }
        }
    }
    if extension == "rs" {
        for (line, code) in (1..).zip(only_code(&source.text).lines()) {
            for (lint, instead) in NEVER_ALLOWED {
                if code.contains(lint) {
                    let message = format!("do not allow {lint}: {instead}");
                    findings.push(source.finding(Some(line), message));
                }
            }
        }
    }
    findings
}

/// Whether the first statement is a string.
fn has_docstring(python: &str) -> bool {
    let mut lines = python.lines().map(str::trim);
    let first = lines
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .unwrap_or_default();
    let first = first.strip_prefix(['r', 'R']).unwrap_or(first);
    first.starts_with("\"\"\"") || first.starts_with("'''")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn long_files_are_found() {
        for extension in ["rs", "cu", "ts", "py"] {
            let start = if extension == "py" {
                "\"\"\"Doc.\"\"\"\n"
            } else {
                "//! Doc.\n"
            };
            let path = format!("a.{extension}");
            let longest = format!("{start}{}", "x\n".repeat(599));
            assert!(findings(&path, &longest).is_empty(), "{path}");
            let found = findings(&path, &format!("{longest}x\n"));
            assert_eq!(
                found,
                [format!(
                    "{path}: 601 lines; split the file, 600 is the most"
                )]
            );
        }
        assert!(findings("a.md", &"x\n".repeat(1000)).is_empty());
    }

    #[test]
    fn rust_files_start_with_a_doc() {
        assert!(findings("a.rs", "//! Doc.\nfn f() {}").is_empty());
        for text in ["", "fn f() {}", "/// Doc.\nfn f() {}", "\n//! Doc."] {
            assert_eq!(findings("a.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn python_files_start_with_a_docstring() {
        for text in [
            "\"\"\"Doc.\"\"\"",
            "#!/usr/bin/env python3\n# Note\n\n'''Doc.'''",
            "r\"\"\"D\"\"\"",
        ] {
            assert!(findings("a.py", text).is_empty(), "{text:?}");
        }
        for text in [
            "",
            "import os\n\"\"\"Late.\"\"\"",
            "# Note",
            "\"Not a docstring\"",
        ] {
            assert_eq!(findings("a.py", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn paths_of_a_machine_are_found_in_any_text() {
        for path in MACHINE_PATHS {
            let found = findings("docs/a.md", &format!("fine\nsee {path}x"));
            assert_eq!(found.len(), 1, "{path}");
            assert!(found[0].starts_with("docs/a.md:2: "), "{found:?}");
        }
        assert!(findings("a.md", "work/ and tmp/x").is_empty());
    }

    #[test]
    fn lints_that_hide_debts_are_found() {
        for (lint, _) in NEVER_ALLOWED {
            let text = format!("//! Doc.\n// {lint}\n#[allow(clippy::{lint})]\nfn f() {{}}");
            let found = findings("a.rs", &text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("a.rs:3: "), "{found:?}");
        }
    }
}
