//! A model's metadata and tensors, whichever files they come from.

use std::path::Path;
use std::sync::Arc;

use zse_quant::GgmlType;

use crate::gguf::header::{Gguf, Tensor, Whole};
use crate::gguf::split;
use crate::source::Source;
use crate::{FormatError, Metadata, Problem, names};

/// A model file, or the files of a split model, opened in place.
///
/// `Send + Sync`; share it through an [`Arc`].
#[derive(Debug)]
pub struct Checkpoint {
    metadata: Metadata,
    shards: Vec<Shard>,
    by_name: Vec<TensorId>,
}

/// One file and its tensors.
#[derive(Debug)]
struct Shard {
    source: Arc<Source>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TensorId {
    shard: u32,
    index: u32,
}

impl TensorId {
    fn find(self, shards: &[Shard]) -> (&Shard, &Tensor) {
        let shard = &shards[self.shard as usize];
        (shard, &shard.tensors[self.index as usize])
    }
}

/// A tensor: its description, and its data as the file holds it.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The tensor's name, unique in its checkpoint, e.g. `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// How the elements are encoded.
    pub ty: GgmlType,
    /// 1 to 4 dimensions in ggml's order, fastest first: `shape[0]` is the row length.
    pub shape: &'a [u64],
    /// The encoded rows one after the other, without padding: `ty.row_bytes(shape[0])` times the
    /// other dimensions. Aligned in memory as in the file (see `general.alignment`), and for bytes
    /// from memory as these are: cast only after a check.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl Checkpoint {
    /// Opens a GGUF file. If the model is split over several files, `path` is any of them, and the
    /// others are found beside it by name (`name-00002-of-00005.gguf`).
    ///
    /// # Errors
    /// [`FormatError::Io`], [`FormatError::Malformed`]; of a split model, also [`FormatError::Split`],
    /// [`FormatError::Missing`] and [`FormatError::WrongType`].
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let gguf = Gguf::parse(Source::map(path)?)?;
        Self::join(split::complete(path, gguf)?)
    }

    /// Reads a GGUF file that is part of the program; `name` stands for the path in messages.
    ///
    /// # Errors
    /// [`FormatError::Malformed`]; [`FormatError::Split`] if it is a part of a split model.
    pub fn from_static(bytes: &'static [u8], name: &str) -> Result<Self, FormatError> {
        Self::in_memory(Source::from_static(bytes, name))
    }

    /// Reads a GGUF file from memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// [`FormatError::Malformed`]; [`FormatError::Split`] if it is a part of a split model.
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self, FormatError> {
        Self::in_memory(Source::from_vec(bytes, name))
    }

    fn in_memory(source: Source) -> Result<Self, FormatError> {
        let gguf = Gguf::parse(source)?;
        split::refuse_part(&gguf)?;
        Self::join(vec![gguf])
    }

    /// One checkpoint of all files; the first one's metadata is the model's.
    fn join(files: Vec<Gguf>) -> Result<Self, FormatError> {
        let mut first_metadata = None;
        let mut shards = Vec::with_capacity(files.len());
        for Gguf {
            source,
            metadata,
            tensors,
        } in files
        {
            first_metadata.get_or_insert(metadata);
            shards.push(Shard { source, tensors });
        }
        let metadata = first_metadata.expect("a model is read from at least one file");

        let mut by_name = Vec::with_capacity(shards.iter().map(|s| s.tensors.len()).sum());
        for (shard, Shard { tensors, .. }) in (0..).zip(&shards) {
            by_name.extend((0..tensors.len() as u32).map(|index| TensorId { shard, index }));
        }
        names::sort(&mut by_name, |id| &id.find(&shards).1.name).map_err(|id| {
            let (shard, tensor) = id.find(&shards);
            let fault = tensor.name_fault(Problem::Duplicate);
            fault.of(shard.source.name(), Whole::Tensor(&tensor.name))
        })?;
        Ok(Self {
            metadata,
            shards,
            by_name,
        })
    }

    /// The model's metadata (of a split model, the first file's).
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let id = names::find(&self.by_name, |id| &id.find(&self.shards).1.name, name)?;
        let (shard, tensor) = id.find(&self.shards);
        Some(shard.view(tensor))
    }

    /// All tensors in the order of the files.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.tensors.iter().map(|tensor| shard.view(tensor)))
    }

    /// Bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.source.bytes().len() as u64)
            .sum()
    }

    /// Whether the files are mapped: if not, they stay in memory whole for as long as this lives.
    pub fn is_mapped(&self) -> bool {
        self.shards.iter().all(|shard| shard.source.is_map())
    }

    /// Gives the memory of a tensor's data back to the operating system, e.g. once it is packed
    /// elsewhere. The data can still be used, and is then read from the file again. Does nothing
    /// where the file is not mapped, or `tensor` is not of this checkpoint.
    pub fn release_pages(&self, tensor: &TensorView<'_>) {
        let data = tensor.data.as_ptr_range();
        for shard in &self.shards {
            let file = shard.source.bytes().as_ptr_range();
            if file.start <= data.start && data.end <= file.end {
                let start = data.start.addr() - file.start.addr();
                shard.source.release(start..start + tensor.data.len());
            }
        }
    }
}

impl Shard {
    fn view<'a>(&'a self, tensor: &'a Tensor) -> TensorView<'a> {
        // The header's check has placed every tensor within the file.
        let start = tensor.start as usize;
        let data = &self.source.bytes()[start..start + tensor.size];
        TensorView {
            name: &tensor.name,
            ty: tensor.ty,
            shape: tensor.shape(),
            data,
        }
    }
}
