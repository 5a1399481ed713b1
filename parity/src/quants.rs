//! The built-in model in every type of weights, in both engines.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use zse::quantize::{Importance, Mixture, QuantizeOptions};
use zse_format::Checkpoint;
use zse_quant::GgmlType;
use zse_text::Tokenizer;

use crate::llama::{self, FileType, Load};
use crate::measure::{Baseline, Measured, Text};
use crate::section::{Section, Table};

/// A kind of file.
struct Kind {
    /// Its name in ZSE and in llama.cpp.
    name: &'static str,
    /// What llama.cpp is asked for.
    file_type: FileType,
    /// Whether it is written with an importance matrix.
    weighted: bool,
}

const fn kind(name: &'static str, file_type: u32) -> Kind {
    Kind {
        name,
        file_type: FileType::Number(file_type),
        weighted: false,
    }
}

const fn weighted(name: &'static str, file_type: u32) -> Kind {
    Kind {
        weighted: true,
        ..kind(name, file_type)
    }
}

const NVFP4: Kind = Kind {
    name: "NVFP4",
    file_type: FileType::Only(GgmlType::Nvfp4),
    weighted: false,
};

/// Files whose matrices are all of one type, by its name.
const PURE: &[(&str, Kind)] = &[
    ("F16", kind("F16", 1)),
    ("BF16", kind("BF16", 32)),
    ("Q8_0", kind("Q8_0", 7)),
    ("Q6_K", kind("Q6_K", 18)),
    ("Q5_K", kind("Q5_K_S", 16)),
    ("Q5_1", kind("Q5_1", 9)),
    ("Q5_0", kind("Q5_0", 8)),
    ("Q4_K", kind("Q4_K_S", 14)),
    ("Q4_1", kind("Q4_1", 3)),
    ("Q4_0", kind("Q4_0", 2)),
    ("IQ4_NL", kind("IQ4_NL", 25)),
    ("IQ4_XS", kind("IQ4_XS", 30)),
    ("NVFP4", NVFP4),
    ("MXFP4", kind("MXFP4", 38)),
    ("Q3_K", kind("Q3_K_S", 11)),
    ("IQ3_S", weighted("IQ3_S", 26)),
    ("IQ3_XXS", weighted("IQ3_XXS", 23)),
    ("Q2_K", kind("Q2_K", 10)),
    ("IQ2_S", weighted("IQ2_M", 29)),
    ("IQ2_XS", weighted("IQ2_XS", 20)),
    ("Q2_0", kind("Q2_0", 41)),
    ("IQ2_XXS", weighted("IQ2_XXS", 19)),
    ("TQ2_0", kind("TQ2_0", 37)),
    ("IQ1_M", weighted("IQ1_M", 31)),
    ("TQ1_0", kind("TQ1_0", 36)),
    ("IQ1_S", weighted("IQ1_S", 24)),
    ("Q1_0", kind("Q1_0", 40)),
];

/// Files as people use them, by name: some tensors in a better type than most.
const MIXED: &[(&str, Kind)] = &[
    ("Q8_0", kind("Q8_0", 7)),
    ("Q6_K", kind("Q6_K", 18)),
    ("Q5_K_M", kind("Q5_K_M", 17)),
    ("Q4_K_M", kind("Q4_K_M", 15)),
    ("Q4_0", kind("Q4_0", 2)),
    ("Q3_K_M", kind("Q3_K_M", 12)),
    ("Q2_K", kind("Q2_K", 10)),
    ("Q4_K_M, weighted", weighted("Q4_K_M", 15)),
    ("Q3_K_M, weighted", weighted("Q3_K_M", 12)),
    ("Q2_K, weighted", weighted("Q2_K", 10)),
];

/// Files of which the perplexities must agree, and to what share.
const PROMISED: [&str; 4] = ["Q8_0", "Q6_K", "Q4_K_M", "Q4_0"];
const TOLERANCE: f64 = 0.005;

/// Tokens in a chunk.
const CHUNK: usize = 512;

/// What to measure on.
pub(crate) struct Setup<'a> {
    /// The model in F16 or F32.
    pub(crate) model: &'a Path,
    /// The same in F32.
    pub(crate) full: &'a Path,
    /// The text to predict.
    pub(crate) text: &'a str,
    /// The text to gather importance from.
    pub(crate) calibration: &'a str,
    /// Chunks of the text; `None`: all.
    pub(crate) chunks: Option<usize>,
    /// A folder for files in between.
    pub(crate) folder: &'a Path,
    pub(crate) threads: usize,
}

/// A run over all kinds.
struct Run<'a> {
    setup: &'a Setup<'a>,
    text: Text,
    baseline: Baseline,
    theirs: llama::Importance,
    ours: Arc<Importance>,
}

/// Measures every kind of file.
///
/// # Errors
/// If a file cannot be written, read or run.
pub(crate) fn section(setup: &Setup<'_>) -> Result<Section> {
    let run = Run::new(setup)?;
    let mut section = Section::new(
        "Quantized weights",
        "The built-in model in every type, each file in both engines on the same held-out text.",
    );
    section.add(format!(
        "{} chunks of {CHUNK} tokens; the {} tokens in the second halves are scored. Perplexity in \
         F32 (llama.cpp): {:.4}.",
        run.text.chunks.len(),
        run.text.scored_tokens(),
        run.baseline.perplexity,
    ));
    section.add(include_str!("columns.md"));

    section.add("### Files as people use them");
    let mut table = Table::new(&HEADS);
    for (name, kind) in MIXED {
        for (writer, row) in run.compare(&mut section, &mut table, name, kind, false)? {
            section.promise(
                row.change().abs() <= TOLERANCE || !PROMISED.contains(&kind.name),
                || {
                    format!(
                        "{} by {writer}: perplexities differ by {:.2}%",
                        kind.name,
                        100.0 * row.change()
                    )
                },
            );
        }
    }
    section.add(&table);
    let count = run.compare_types(&mut section)?;
    section.add(format!(
        "The types that both quantizers choose for each tensor are compared in {count} files: every \
         kind that both write, with importance and without."
    ));

    section.add("### Files of one type");
    let mut table = Table::new(&HEADS);
    for (name, kind) in PURE {
        run.compare(&mut section, &mut table, name, kind, true)?;
    }
    section.add(&table);
    Ok(section)
}

/// The heads of both tables; see `columns.md`.
const HEADS: [&str; 9] = [
    "type",
    "written by",
    "bits",
    "ppl llama.cpp",
    "ppl ZSE",
    "change",
    "KL",
    "same top-1",
    "KL from F32: llama.cpp, ZSE",
];

impl<'a> Run<'a> {
    fn new(setup: &'a Setup<'a>) -> Result<Self> {
        let tokenizer = Tokenizer::from_metadata(Checkpoint::open(setup.full)?.metadata())?;
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let read = |text| Text::new(&tokenizer.encode(text, false, true), CHUNK, bos);
        let mut text = read(setup.text).context("the text")?;
        text.chunks.truncate(setup.chunks.unwrap_or(usize::MAX));
        let calibration = read(setup.calibration).context("the calibration text")?;
        let baseline = Baseline::new(setup.full, &text, setup.threads)?;

        let model = llama::Model::open(setup.full, Load::All)?;
        let chunks: Vec<_> = calibration.chunks.iter().map(Vec::as_slice).collect();
        let theirs = llama::Importance::gather(&model, &chunks, setup.threads)?;
        let path = setup.folder.join("importance.gguf");
        theirs.write(&path)?;
        let ours = Arc::new(Importance::open(&path)?);
        Ok(Self {
            setup,
            text,
            baseline,
            theirs,
            ours,
        })
    }

    /// Measures the file of this kind that llama.cpp writes, and ZSE's where it can write one with
    /// other weights. Adds them to `table` as `name`, and gives them with who wrote them.
    fn compare(
        &self,
        section: &mut Section,
        table: &mut Table,
        name: &str,
        kind: &Kind,
        pure: bool,
    ) -> Result<Vec<(&'static str, Measured)>> {
        let (theirs, ours) = self.write(section, kind, pure)?;
        let Some(ours) = ours else {
            return Ok(vec![self.measure(table, name, "llama.cpp", &theirs)?]);
        };
        if same_weights(&theirs, &ours)? {
            return Ok(vec![self.measure(table, name, "both alike", &theirs)?]);
        }
        Ok(vec![
            self.measure(table, name, "llama.cpp", &theirs)?,
            self.measure(table, name, "ZSE", &ours)?,
        ])
    }

    /// Promises in `section` that both quantizers choose the same types in all files that both
    /// write, with importance and without; measures none. Returns how many files that are.
    fn compare_types(&self, section: &mut Section) -> Result<usize> {
        // llama.cpp writes MXFP4 for experts alone.
        let mixtures = Mixture::ALL.iter().filter(|m| m.name != "MXFP4");
        let kinds =
            mixtures.flat_map(|m| [kind(m.name, m.file_type), weighted(m.name, m.file_type)]);
        let mut count = 0;
        for kind in kinds {
            self.write(section, &kind, false)?;
            count += 1;
        }
        Ok(count)
    }

    /// Writes files of this kind with llama.cpp and, where it can, with ZSE. Promises in `section`
    /// that both chose the same types.
    fn write(
        &self,
        section: &mut Section,
        kind: &Kind,
        pure: bool,
    ) -> Result<(PathBuf, Option<PathBuf>)> {
        let Setup {
            model,
            folder,
            threads,
            ..
        } = *self.setup;
        let (theirs, ours) = (folder.join("llama.cpp.gguf"), folder.join("zse.gguf"));
        let importance = kind.weighted.then_some(&self.theirs);
        llama::quantize(model, &theirs, kind.file_type, pure, importance, threads)?;
        if Mixture::parse(kind.name).is_err() {
            return Ok((theirs, None));
        }
        let importance = kind.weighted.then(|| Arc::clone(&self.ours));
        quantize(model, &ours, kind.name, pure, importance, threads)?;
        let differing = differing_types(&theirs, &ours)?;
        section.promise(differing.is_empty(), || {
            let form = if pure { ", all of one type" } else { "" };
            let importance = if kind.weighted { ", weighted" } else { "" };
            let differing = differing.join(", ");
            format!(
                "{}{importance}{form}: other types by ZSE: {differing}",
                kind.name
            )
        });
        Ok((theirs, Some(ours)))
    }

    /// Measures `file` and adds its row to `table`.
    fn measure(
        &self,
        table: &mut Table,
        name: &str,
        writer: &'static str,
        file: &Path,
    ) -> Result<(&'static str, Measured)> {
        let m = Measured::new(file, &self.text, &self.baseline, self.setup.threads)
            .with_context(|| format!("{name} by {writer}"))?;
        let cells = [
            format!("`{name}`"),
            writer.to_owned(),
            format!("{:.2}", m.bits),
            format!("{:.4}", m.theirs),
            format!("{:.4}", m.ours),
            format!("{:+.3}%", 100.0 * m.change()),
            format!("{:.2e}", m.divergence),
            format!("{:.2}%", 100.0 * m.top1),
            format!("{:.2e}, {:.2e}", m.their_loss, m.our_loss),
        ];
        eprintln!("{}", cells.join("  "));
        table.row(cells);
        Ok((writer, m))
    }
}

/// Writes `model` with ZSE's quantizer.
fn quantize(
    model: &Path,
    to: &Path,
    mixture: &str,
    pure: bool,
    importance: Option<Arc<Importance>>,
    threads: usize,
) -> Result<()> {
    let options = QuantizeOptions {
        pure,
        importance,
        threads: Some(threads),
        ..QuantizeOptions::new(Mixture::parse(mixture)?)
    };
    zse::quantize::quantize(&Checkpoint::open(model)?, to, &options, |_| {
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// Writes `model` in F32.
///
/// # Errors
/// If it cannot be read or written.
pub(crate) fn in_full(model: &Path, to: &Path, threads: usize) -> Result<()> {
    quantize(model, to, "F32", false, None, threads)
}

/// The tensors that only one of two files has, or that have another type in `b` than in `a`.
fn differing_types(a: &Path, b: &Path) -> Result<Vec<String>> {
    let (a, b) = (Checkpoint::open(a)?, Checkpoint::open(b)?);
    let mut names: Vec<_> = a.tensors().chain(b.tensors()).map(|t| t.name).collect();
    names.sort_unstable();
    names.dedup();
    let ty = |file: &Checkpoint, name: &str| file.tensor(name).map(|tensor| tensor.ty);
    let shown = |ty: Option<GgmlType>| ty.map_or("none", GgmlType::name);
    let types = names.iter().map(|name| (name, ty(&a, name), ty(&b, name)));
    Ok(types
        .filter(|(_, a, b)| a != b)
        .map(|(name, a, b)| format!("`{name}` {} for {}", shown(b), shown(a)))
        .collect())
}

/// Whether all tensors of two files have the same types and bytes.
fn same_weights(a: &Path, b: &Path) -> Result<bool> {
    let (a, b) = (Checkpoint::open(a)?, Checkpoint::open(b)?);
    Ok(a.tensors().count() == b.tensors().count()
        && a.tensors().all(|x| {
            b.tensor(x.name)
                .is_some_and(|y| x.ty == y.ty && x.data.bytes() == y.data.bytes())
        }))
}

#[cfg(test)]
mod tests {
    use zse_format::GgufWriter;

    use super::*;

    #[test]
    fn tensors_of_other_types_and_missing_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, tensors: &[(&str, GgmlType)]| {
            let path = folder.path().join(name);
            let mut writer = GgufWriter::new();
            for (tensor, ty) in tensors {
                writer.declare(tensor, *ty, &[32]).unwrap();
            }
            let mut body = writer.create(&path).unwrap();
            for (tensor, ty) in tensors {
                body.write(tensor, &vec![0; ty.row_bytes(32).unwrap()])
                    .unwrap();
            }
            body.finish().unwrap();
            path
        };
        use GgmlType::{F16, Q4_0, Q8_0};
        let a = file("a.gguf", &[("same", F16), ("other", Q8_0), ("gone", F16)]);
        let b = file("b.gguf", &[("same", F16), ("other", Q4_0), ("new", F16)]);
        assert!(differing_types(&a, &a).unwrap().is_empty());
        let expected = [
            "`gone` none for f16",
            "`new` f16 for none",
            "`other` q4_0 for q8_0",
        ];
        assert_eq!(differing_types(&a, &b).unwrap(), expected);
    }
}
