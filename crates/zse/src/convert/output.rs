//! The file that a conversion writes: which tensors, in which order, and what comes before them.

use std::path::Path;

use zse_format::{
    Checkpoint, Checksum, Checksummer, FilePlan, FormatError, GgufWriter, Origin, Provenance,
    ZseWriter,
};

use super::partial::Finished;
use super::{ConvertError, Job, Target, file_name};
use crate::quantize::{Mixture, set_types};

/// A file's description in the making.
pub(super) enum Output {
    Gguf(GgufWriter),
    Zse(Box<ZseWriter>, Target),
}

impl Output {
    /// The output that the extension of `path` asks for.
    pub(super) fn new(
        path: &Path,
        source: &Checkpoint,
        target: Target,
    ) -> Result<Self, ConvertError> {
        let extension = path.extension().and_then(|e| e.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("gguf") => Ok(Self::Gguf(GgufWriter::new())),
            Some("zse") => {
                let provenance = Provenance {
                    converter: format!("zse {}", env!("CARGO_PKG_VERSION")),
                    target: target.name().to_owned(),
                    source: Origin {
                        name: file_name(source.metadata().file()).into_owned(),
                        bytes: source.file_bytes(),
                        xxh3: Checksum::default(),
                    },
                };
                Ok(Self::Zse(Box::new(ZseWriter::new(provenance)), target))
            }
            _ => Err(ConvertError::Extension {
                path: path.to_owned(),
            }),
        }
    }

    /// Whether matrices are to be in the CPU's tiles.
    pub(super) fn is_tiled(&self) -> bool {
        matches!(self, Self::Zse(_, Target::Cpu))
    }

    /// Brings the tensors into the order of the file: in a `.zse` file by layer.
    pub(super) fn sort(&self, jobs: &mut [Job<'_>]) {
        if let Self::Zse(..) = self {
            jobs.sort_by_key(|job| Stage::of(job.tensor.name));
        }
    }

    /// Describes the model of `source` with these tensors.
    pub(super) fn declare(
        &mut self,
        source: &Checkpoint,
        mixture: Option<&Mixture>,
        jobs: &[Job<'_>],
    ) -> Result<(), FormatError> {
        let metadata = source.metadata();
        match self {
            Self::Gguf(writer) => {
                writer.set_all(metadata)?;
                set_types(mixture, |key, value| writer.set(key, value))?;
                jobs.iter().try_for_each(|Job { tensor, to, .. }| {
                    writer.declare(tensor.name, to.ty, tensor.shape)
                })
            }
            Self::Zse(writer, _) => {
                writer.set_all(metadata)?;
                set_types(mixture, |key, value| writer.set(key, value))?;
                jobs.iter().try_for_each(|Job { tensor, to, .. }| {
                    let group = Stage::of(tensor.name).name();
                    writer.declare(&group, tensor.name, to.ty, to.layout, tensor.shape)
                })
            }
        }
    }

    pub(super) fn plan(&self) -> Result<FilePlan, FormatError> {
        match self {
            Self::Gguf(writer) => Ok(writer.plan()),
            Self::Zse(writer, _) => writer.plan(),
        }
    }

    /// The first bytes of the file, now that all tensors are known.
    pub(super) fn finished_header(mut self, all: &[Finished]) -> Result<Vec<u8>, FormatError> {
        match &mut self {
            Self::Gguf(writer) => Ok(writer.plan().header),
            Self::Zse(writer, _) => {
                let mut source = Checksummer::default();
                for tensor in all {
                    source.write(&tensor.read.0.to_le_bytes());
                }
                writer.provenance_mut().source.xxh3 = source.finish();
                let checksums: Vec<Checksum> = all.iter().map(|t| t.written).collect();
                writer.finished_header(&checksums)
            }
        }
    }
}

/// When a tensor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Input,
    Layer(u32),
    Output,
}

impl Stage {
    fn of(name: &str) -> Self {
        let layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split('.').next()?.parse().ok());
        match layer {
            Some(layer) => Self::Layer(layer),
            None if name.starts_with("output") || name.starts_with("cls") => Self::Output,
            None => Self::Input,
        }
    }

    /// The name of the tensors' group.
    fn name(self) -> String {
        match self {
            Self::Input => "input".to_owned(),
            Self::Layer(layer) => format!("blk.{layer}"),
            Self::Output => "output".to_owned(),
        }
    }
}
