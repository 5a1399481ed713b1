//! Where code may be `unsafe`.

use super::code::{is_word, only_code};
use super::crates::Package;
use super::{Finding, Source};

/// Folders and files whose code may be `unsafe`. (That each block says why it is sound, clippy's
/// `undocumented_unsafe_blocks` checks.)
const MAY_BE_UNSAFE: [&str; 7] = [
    "crates/zse-cpu/",
    "crates/zse-cuda/",
    // The block casts.
    "crates/zse-quant/src/block.rs",
    // The choice of vectors.
    "crates/zse-quant/src/encode/search.rs",
    // The maps.
    "crates/zse-format/src/source.rs",
    // A global allocator, which measures what hostile files make a reader allocate.
    "crates/zse-format/tests/gguf/counting.rs",
    // Calls llama.cpp, to compare with it.
    "parity/",
];

/// Crates with such code; all others forbid it to the compiler as well.
const UNSAFE_CRATES: [&str; 4] = ["zse-cpu", "zse-cuda", "zse-quant", "zse-format"];

/// Every use of `unsafe` where it may not be.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let allowed = MAY_BE_UNSAFE
        .iter()
        .any(|place| source.path.starts_with(place));
    if source.extension() != "rs" || allowed {
        return Vec::new();
    }
    (1..)
        .zip(only_code(&source.text).lines())
        .filter(|(_, code)| code.split(|c| !is_word(c)).any(|word| word == "unsafe"))
        .map(|(line, _)| {
            let message = "`unsafe` belongs in zse-cpu, zse-cuda, zse-quant's block casts and choice of \
                           vectors, or zse-format's maps";
            source.finding(Some(line), message)
        })
        .collect()
}

/// Every library or binary of a crate without `unsafe` code whose root does not forbid it.
pub(super) fn check_roots(packages: &[Package], sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages
        .iter()
        .filter(|p| !UNSAFE_CRATES.contains(&p.name.as_str()))
    {
        for root in &package.roots {
            let root = root.replace('\\', "/");
            let is_root = |source: &&Source| {
                let is_main =
                    source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs");
                is_main && root.ends_with(&format!("/{}", source.path))
            };
            let Some(source) = sources.iter().find(is_root) else {
                continue;
            };
            if !only_code(&source.text).contains("#![forbid(unsafe_code)]") {
                findings.push(source.finding(None, "needs `#![forbid(unsafe_code)]`"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::crates::packages;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn unsafe_is_found_outside_its_places() {
        let text = "fn f() {}\nunsafe fn g() {}\n";
        let found = check(&source("crates/zse-model/src/a.rs", text));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, Some(2));
        for code in [
            "unsafe { f() }",
            "unsafe impl Send for A {}",
            "#[unsafe(no_mangle)]",
        ] {
            for path in [
                "crates/zse-format/src/header.rs",
                "crates/zse-quant/src/q4.rs",
            ] {
                assert_eq!(check(&source(path, code)).len(), 1, "{path}: {code}");
            }
        }
        for place in MAY_BE_UNSAFE {
            let path = if place.ends_with('/') {
                format!("{place}src/a.rs")
            } else {
                place.to_owned()
            };
            assert!(check(&source(&path, text)).is_empty(), "{path}");
        }
    }

    #[test]
    fn the_word_alone_is_not_unsafe() {
        let text =
            "//! unsafe\n#![forbid(unsafe_code)]\nconst A: &str = \"unsafe {\"; /* unsafe */";
        assert!(check(&source("crates/zse/src/lib.rs", text)).is_empty());
    }

    #[test]
    fn safe_crates_forbid_it() {
        let root = env!("CARGO_MANIFEST_DIR").replace('\\', "\\\\");
        let metadata = |name: &str| {
            format!(
                r#"{{"workspace_root": "{root}", "packages": [{{"name": "{name}", "manifest_path": "{root}/Cargo.toml", "dependencies": [],
                    "targets": [{{"src_path": "/repo/crates/{name}/src/lib.rs"}},
                                {{"src_path": "/repo/crates/{name}/tests/t.rs"}}]}}]}}"#
            )
        };
        let found = |name: &str, text: &str| {
            let packages = packages(&metadata(name)).expect("well-formed");
            let sources = [
                source(&format!("crates/{name}/src/lib.rs"), text),
                source(&format!("crates/{name}/tests/t.rs"), "//! Test."),
            ];
            check_roots(&packages, &sources).len()
        };
        assert_eq!(found("zse-text", "//! Doc.\n"), 1);
        assert_eq!(found("zse-text", "//! #![forbid(unsafe_code)]\n"), 1);
        assert_eq!(found("zse-text", "//! Doc.\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(found("zse-cpu", "//! Doc.\n"), 0);
    }
}
