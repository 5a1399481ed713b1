//! Writing a model anew as a `.zse` or GGUF file: `zse convert` and `zse quantize`.
//!
//! Tensors are read from the source in place, brought into their new types and layouts on several
//! threads, and written slab by slab, so that memory stays small whatever the size of the model.

mod error;
mod identity;
mod merge;
mod output;
mod partial;
mod space;

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::Regex;
use zse_format::{Checkpoint, Checksummer, GgufWriter, Layout, TensorView};
use zse_model::{Model, ModelOptions};
use zse_quant::GgmlType;

use crate::quantize::encode::{self, Form};
use crate::quantize::rules::{Choice, Chooser};
use crate::quantize::{
    Importance, Mixture, QuantizeProgress, QuantizeReport, check_requantize, thread_count,
};

pub use error::ConvertError;
use identity::identity;
use merge::Merge;
use output::Output;
use partial::{Finished, Partial, partial_path};

/// What the layouts of a `.zse` file are chosen for. Any device reads any file; on another one
/// than its own it is unpacked while it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Matrices in the tiles that the CPU's kernels read: nothing is left to do at a start.
    #[default]
    Cpu,
    /// Rows as in GGUF, which the GPU permutes as they arrive: behind the copy, at no cost.
    Cuda,
    /// Rows as in GGUF.
    Portable,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::Portable];

    /// The name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Portable => "portable",
        }
    }
}

/// A type for the tensors whose names a pattern is found in.
#[derive(Clone, Debug)]
pub struct TypeRule {
    pattern: Regex,
    ty: GgmlType,
}

impl TypeRule {
    /// Reads `PATTERN=TYPE`: a regular expression that is looked for anywhere in a name, and the
    /// name of a type that can be encoded.
    ///
    /// # Errors
    /// [`ConvertError::TypeRule`], which says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ConvertError> {
        let refused = |why: String| ConvertError::TypeRule {
            text: text.to_owned(),
            why,
        };
        let (pattern, name) = text
            .rsplit_once('=')
            .ok_or_else(|| refused("it is not PATTERN=TYPE".to_owned()))?;
        let ty = GgmlType::parse(name)
            .filter(|&ty| zse_quant::can_encode(ty))
            .ok_or_else(|| refused(format!("{name:?} is no type that can be encoded")))?;
        let pattern = Regex::new(pattern).map_err(|error| refused(error.to_string()))?;
        Ok(Self { pattern, ty })
    }
}

/// How to convert; the default keeps all types, for the CPU.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// What a `.zse` file is for; a GGUF file has one layout.
    pub target: Target,
    /// Which types; `None`: those of the source.
    pub mixture: Option<&'static Mixture>,
    /// Types that go before the mixture's; the first that fits a name counts.
    pub rules: Vec<TypeRule>,
    /// Gives every matrix the mixture's base type.
    pub pure: bool,
    /// Allows other types for a source that is quantized already; the errors of both add up.
    pub allow_requantize: bool,
    /// How much columns matter.
    pub importance: Option<Arc<Importance>>,
    /// Adapters (LoRA) that are added to the weights, before these are encoded.
    pub merge: Vec<PathBuf>,
    /// Threads; see [`QuantizeOptions::threads`](crate::quantize::QuantizeOptions::threads).
    pub threads: Option<usize>,
}

/// What a conversion wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertReport {
    /// Sizes and types before and after.
    pub quantized: QuantizeReport,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// Tensors that an interrupted conversion had finished.
    pub resumed: usize,
}

/// A tensor of the source and the form it gets.
struct Job<'a> {
    tensor: TensorView<'a>,
    to: Form,
    importance: Option<&'a [f32]>,
    /// Whether adapters change it.
    is_merged: bool,
}

/// The source is read while the result is written: no file may be both.
fn refuse_own_source(source: &Checkpoint, out: &Path) -> Result<(), ConvertError> {
    let read: Vec<_> = source
        .files()
        .filter_map(|f| Path::new(f).canonicalize().ok())
        .collect();
    for path in [out.to_owned(), partial_path(out)] {
        if path.canonicalize().is_ok_and(|path| read.contains(&path)) {
            return Err(ConvertError::OwnSource { path });
        }
    }
    Ok(())
}

/// No file gets the name of a folder; that would show when all is encoded.
fn refuse_folder(out: &Path) -> Result<(), ConvertError> {
    match out.is_dir() {
        true => Err(ConvertError::Io {
            path: out.to_owned(),
            action: "write",
            source: io::ErrorKind::IsADirectory.into(),
        }),
        false => Ok(()),
    }
}

/// Writes the model of `source` to `out`, whose extension, `.zse` or `.gguf`, says what it becomes.
/// `progress` is told after each piece, and may end the work there.
///
/// The file grows under the name of `out` with `.partial` behind it. If the work ends before its
/// time, that file stays, and the same call goes on with it; tensors that were finished are not
/// encoded again.
///
/// # Errors
/// If `out` has another extension; an adapter is not for this model, or cannot be merged; the source is
/// quantized already (and that is not allowed) or of an architecture whose CPU layout is not known; a
/// weight is not finite; there is not room enough; a file cannot be read or written; or `progress`
/// ended the work.
pub fn convert(
    source: &Arc<Checkpoint>,
    out: &Path,
    options: &ConvertOptions,
    progress: impl FnMut(QuantizeProgress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport, ConvertError> {
    let output = Output::new(out, source, options.target)?;
    let tiled = match output.is_tiled() {
        true => tiled(source)?,
        false => HashSet::new(),
    };
    write(source, out, (output, &tiled), options, progress)
}

/// [`convert`] to a GGUF file, whatever its name ends in.
pub(crate) fn to_gguf(
    source: &Checkpoint,
    out: &Path,
    options: &ConvertOptions,
    progress: impl FnMut(QuantizeProgress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport, ConvertError> {
    let output = (Output::Gguf(GgufWriter::new()), &HashSet::new());
    write(source, out, output, options, progress)
}

/// Writes `out` in the form of `output`, with the tensors of these names in tiles.
fn write(
    source: &Checkpoint,
    out: &Path,
    (mut output, tiled): (Output, &HashSet<String>),
    options: &ConvertOptions,
    mut progress: impl FnMut(QuantizeProgress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport, ConvertError> {
    let threads = thread_count(options.threads)?;
    refuse_own_source(source, out)?;
    refuse_folder(out)?;
    let merge = Merge::open(&options.merge, source)?;
    let (jobs, mut report) = jobs(source, (&output, tiled), options, &merge)?;
    output.declare(source, options.mixture, &jobs)?;
    let plan = output.plan()?;
    report.bytes_after = plan.tensors.iter().map(|t| t.end - t.start).sum();
    let identity = identity(source, &plan.header, options, &merge);
    let mut partial = Partial::open(out, plan, identity)?;
    if let Err(error) = space::check(&partial) {
        partial.leave();
        return Err(error);
    }
    partial.begin()?;
    let resumed = partial.count();

    let total = jobs.iter().map(|job| job.tensor.stored_len() as u64).sum();
    let mut done = 0;
    for (i, job) in jobs.iter().enumerate() {
        let tensor = &job.tensor;
        let mut tell = |bytes: usize| {
            done += bytes as u64;
            progress(QuantizeProgress {
                tensor: tensor.name,
                from: tensor.ty,
                to: job.to.ty,
                done,
                total,
            })
        };
        let stopped = if partial.finished(i).is_some() {
            tell(tensor.stored_len())
        } else {
            let (finished, stopped) =
                write_tensor(source, &mut partial, i, job, &merge, threads, &mut tell)?;
            if let Some(finished) = finished {
                partial.finish_tensor(i, finished)?;
            }
            stopped
        };
        source.release_pages(tensor);
        let is_last = i + 1 == jobs.len();
        if stopped.is_break() && !(is_last && partial.finished(i).is_some()) {
            return Err(ConvertError::Interrupted {
                partial: partial.partial().to_owned(),
                finished: partial.count(),
                tensors: jobs.len(),
            });
        }
    }
    let finished: Vec<Finished> = (0..jobs.len())
        .map(|i| partial.finished(i).expect("every tensor was written"))
        .collect();
    let file_bytes = partial.plan().bytes;
    let header = output.finished_header(&finished)?;
    partial.finish(&header)?;
    Ok(ConvertReport {
        quantized: report,
        file_bytes,
        resumed,
    })
}

/// What is to be done for each tensor, in the order of the result, and the report as far as it can
/// be told before.
fn jobs<'a>(
    source: &'a Checkpoint,
    (output, tiled): (&Output, &HashSet<String>),
    options: &'a ConvertOptions,
    merge: &Merge,
) -> Result<(Vec<Job<'a>>, QuantizeReport), ConvertError> {
    let importance = options.importance.as_deref();
    let chooser = options
        .mixture
        .map(|mixture| Chooser::new(source, mixture, options.pure, importance.is_some()));
    let mut report = QuantizeReport::default();
    let mut jobs = Vec::new();
    for tensor in source.tensors() {
        let rule = options
            .rules
            .iter()
            .find(|r| r.pattern.is_match(tensor.name));
        let choice = match (rule, &chooser) {
            (Some(rule), _) => Choice::of_type(&tensor, rule.ty),
            (None, Some(chooser)) => chooser.choose(&tensor),
            (None, None) => Choice::unchanged(&tensor),
        };
        let ty = choice.ty;
        check_requantize(&tensor, ty, options.allow_requantize)?;
        let is_merged = merge.changes(tensor.name);
        if is_merged {
            merge::check_type(&tensor, ty, options.allow_requantize)?;
        }
        report.count(&tensor, choice);
        let layout = match tiled.contains(tensor.name) && ty.is_weight() {
            true => Layout::Tiles16,
            false => Layout::Rows,
        };
        let importance = match importance {
            Some(importance) if ty != tensor.ty || is_merged => importance.of(&tensor)?,
            _ => None,
        };
        jobs.push(Job {
            tensor,
            to: Form {
                ty,
                layout,
                group: choice.group,
            },
            importance,
            is_merged,
        });
    }
    output.sort(&mut jobs);
    Ok((jobs, report))
}

/// The names of the tensors that the CPU reads as tiles.
fn tiled(source: &Arc<Checkpoint>) -> Result<HashSet<String>, ConvertError> {
    let model = Model::load(Arc::clone(source), &ModelOptions::default())
        .map_err(ConvertError::Architecture)?;
    Ok(zse_cpu::tiled_tensors(&model))
}

/// Writes tensor `i`, and says what is known of it then: nothing if `tell` ended the work before
/// its last slab.
fn write_tensor(
    source: &Checkpoint,
    partial: &mut Partial,
    i: usize,
    job: &Job<'_>,
    merge: &Merge,
    threads: usize,
    tell: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(Option<Finished>, ControlFlow<()>), ConvertError> {
    let (mut written, mut read) = (Checksummer::default(), Checksummer::default());
    let mut left = job.tensor.stored_len();
    let mut stopped = ControlFlow::Continue(());
    let added = job.is_merged.then(|| merge.of(job.tensor.name));
    partial.begin_tensor(i);
    let done = encode::tensor(
        &job.tensor,
        job.to,
        job.importance,
        added
            .as_ref()
            .map(|added| added as &(dyn encode::Added + Sync)),
        threads,
        |bytes, slab| {
            partial.append(bytes)?;
            written.write(bytes);
            read.write(slab);
            source.release_bytes(slab);
            left -= slab.len();
            stopped = tell(slab.len());
            match stopped.is_break() && left > 0 {
                true => Err(Piece::Stopped),
                false => Ok(()),
            }
        },
    );
    let finished = match done {
        Ok(()) => Some(Finished {
            written: written.finish(),
            read: read.finish(),
        }),
        Err(Piece::Stopped) => None,
        Err(Piece::Failed(error)) => return Err(error),
    };
    Ok((finished, stopped))
}

/// Why a tensor was not written to its end.
enum Piece {
    Stopped,
    Failed(ConvertError),
}

impl<E: Into<ConvertError>> From<E> for Piece {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The name of a file for people, without its folders.
fn file_name(path: &str) -> Cow<'_, str> {
    let name = Path::new(path).file_name();
    name.map_or(Cow::from(path), |name| name.to_string_lossy())
}
