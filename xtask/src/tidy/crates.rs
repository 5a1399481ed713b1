//! Which crate may import which, and that every crate takes the workspace's lints.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

/// Every crate, each above those it may use, with the crates that it may import. A crate's tests
/// may import any that stand above it in this list, or that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("zse-quant", &[]),
    ("zse-format", &["zse-quant"]),
    ("zse-text", &["zse-format"]),
    ("zse-model", &["zse-quant", "zse-format"]),
    ("zse-cpu", &["zse-quant", "zse-model"]),
    ("zse-engine", &["zse-text", "zse-model"]),
    ("zse-cuda", &["zse-quant", "zse-model"]),
    ("zse-hub-mock", &[]),
    ("zse-hub", &["zse-quant", "zse-format"]),
    // The facade: it puts the parts together for everyone else.
    (
        "zse",
        &[
            "zse-quant",
            "zse-format",
            "zse-text",
            "zse-model",
            "zse-cpu",
            "zse-cuda",
            "zse-engine",
        ],
    ),
    ("zse-server", &["zse", "zse-hub"]),
    ("zse-cli", &["zse", "zse-hub", "zse-server"]),
    ("xtask", &[]),
];

/// A crate of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    /// Where the manifest stands, from the repository's root, and its text.
    manifest_path: String,
    manifest: String,
    /// Source files of its targets, absolute.
    pub(super) roots: Vec<String>,
    imports: Vec<Import>,
}

#[derive(Debug)]
struct Import {
    name: String,
    for_tests: bool,
}

/// The crates in the output of `cargo metadata --no-deps`.
pub(super) fn packages(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata is not JSON")?;
    let list = |value: &Value, key: &str| -> Vec<Value> {
        value[key].as_array().cloned().unwrap_or_default()
    };
    let text = |value: &Value, key: &str| -> Result<String> {
        let text = value[key]
            .as_str()
            .with_context(|| format!("cargo metadata has no {key}"))?;
        Ok(text.to_owned())
    };
    let root = text(&metadata, "workspace_root")?;
    let mut packages = Vec::new();
    for package in list(&metadata, "packages") {
        let path = text(&package, "manifest_path")?;
        let manifest = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let roots = list(&package, "targets")
            .iter()
            .map(|t| text(t, "src_path"))
            .collect::<Result<_>>()?;
        let imports = list(&package, "dependencies")
            .iter()
            .map(|d| {
                Ok(Import {
                    name: text(d, "name")?,
                    for_tests: d["kind"] == "dev",
                })
            })
            .collect::<Result<_>>()?;
        let from_root = path
            .strip_prefix(&root)
            .unwrap_or(&path)
            .trim_start_matches(['/', '\\']);
        packages.push(Package {
            name: text(&package, "name")?,
            manifest_path: from_root.to_owned(),
            manifest,
            roots,
            imports,
        });
    }
    Ok(packages)
}

/// Every import that the table does not allow, and every crate without the workspace's lints.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages
        .iter()
        .flat_map(|package| check_package(package, packages))
        .collect()
}

fn check_package(package: &Package, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut finding = |message: String| {
        let path = package.manifest_path.clone();
        findings.push(Finding {
            path,
            line: None,
            message,
        });
    };
    let lints = package
        .manifest
        .split("[lints]")
        .nth(1)
        .map(str::trim_start);
    if !lints.is_some_and(|lints| lints.starts_with("workspace = true")) {
        finding("needs `[lints] workspace = true`".to_owned());
    }
    let place = |name: &str| MAY_IMPORT.iter().position(|&(known, _)| known == name);
    let Some(own_place) = place(&package.name) else {
        finding("is not in the table of imports (xtask/src/tidy/crates.rs)".to_owned());
        return findings;
    };
    let allowed = MAY_IMPORT[own_place].1;
    let is_ours = |import: &&Import| packages.iter().any(|p| p.name == import.name);
    for Import { name, for_tests } in package.imports.iter().filter(is_ours) {
        let below = place(name).is_some_and(|place| place < own_place);
        if allowed.contains(&name.as_str()) || *for_tests && below {
            continue;
        }
        let who = if *for_tests { "'s tests" } else { "" };
        finding(format!(
            "{}{who} must not import {name}: ARCHITECTURE.md says who imports whom",
            package.name
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, imports: &[(&str, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: format!("crates/{name}/Cargo.toml"),
            manifest: "[package]\n\n[lints]\nworkspace = true\n".to_owned(),
            roots: Vec::new(),
            imports: imports
                .iter()
                .map(|&(name, for_tests)| Import {
                    name: name.to_owned(),
                    for_tests,
                })
                .collect(),
        }
    }

    fn messages(package: Package) -> Vec<String> {
        let names = MAY_IMPORT.iter().map(|(name, _)| *name);
        let mut all: Vec<_> = names
            .filter(|name| *name != package.name)
            .map(|name| self::package(name, &[]))
            .collect();
        all.push(package);
        check(&all)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn imports_are_those_of_the_table() {
        assert!(
            messages(package(
                "zse-model",
                &[("zse-format", false), ("half", false)]
            ))
            .is_empty()
        );
        for (from, to) in [
            ("zse-quant", "zse-format"),
            ("zse-format", "zse-model"),
            ("zse-model", "zse-cpu"),
            ("zse-engine", "zse-cpu"),
            ("zse-cli", "zse-engine"),
        ] {
            let found = messages(package(from, &[(to, false)]));
            assert_eq!(found.len(), 1, "{from} -> {to}: {found:?}");
            assert!(
                found[0].contains(&format!("{from} must not import {to}")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn tests_may_import_what_is_below() {
        assert!(messages(package("zse-engine", &[("zse-cpu", true)])).is_empty());
        assert_eq!(
            messages(package("zse-model", &[("zse-engine", true)])).len(),
            1
        );
    }

    #[test]
    fn a_new_crate_needs_its_row() {
        assert_eq!(messages(package("zse-new", &[])).len(), 1);
    }

    #[test]
    fn lints_are_the_workspaces() {
        for manifest in ["[package]", "[lints]\n[lints.rust]\nworkspace = true"] {
            let without = Package {
                manifest: manifest.to_owned(),
                ..package("zse-quant", &[])
            };
            assert_eq!(messages(without).len(), 1, "{manifest}");
        }
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (i, (name, imports)) in MAY_IMPORT.iter().enumerate() {
            for import in *imports {
                let place = MAY_IMPORT.iter().position(|(known, _)| known == import);
                assert!(place.is_some_and(|place| place < i), "{name} -> {import}");
            }
        }
    }

    #[test]
    fn metadata_is_read_as_cargo_writes_it() {
        let root = env!("CARGO_MANIFEST_DIR").replace('\\', "\\\\");
        let metadata = format!(
            r#"{{"workspace_root": "{root}", "packages": [{{"name": "a", "manifest_path": "{root}/Cargo.toml",
                "targets": [{{"src_path": "a/src/lib.rs"}}],
                "dependencies": [{{"name": "b", "kind": null}}, {{"name": "c", "kind": "dev"}},
                                 {{"name": "d", "kind": "build"}}]}}]}}"#
        );
        let packages = packages(&metadata).expect("well-formed");
        assert_eq!(
            (packages[0].name.as_str(), &packages[0].roots[..]),
            ("a", &["a/src/lib.rs".to_owned()][..])
        );
        assert_eq!(packages[0].manifest_path, "Cargo.toml");
        let imports: Vec<_> = packages[0]
            .imports
            .iter()
            .map(|i| (i.name.as_str(), i.for_tests))
            .collect();
        assert_eq!(imports, [("b", false), ("c", true), ("d", false)]);
    }
}
