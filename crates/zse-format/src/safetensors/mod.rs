//! Safetensors files, alone ([`header`]) and as the shards of a model ([`index`]). The format is
//! specified at <https://huggingface.co/docs/safetensors>.

mod dtype;
mod header;
pub(crate) mod index;

use std::path::Path;
use std::sync::Arc;

pub use dtype::Dtype;
use header::Entry;

use crate::FormatError;
use crate::source::Source;

/// What a safetensors file may hold here; more is refused. All real files are far below.
pub(crate) mod limits {
    /// Bytes of a header: the format's own limit.
    pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;
    /// Tensors of a file.
    pub(crate) const MAX_TENSORS: usize = 1 << 20;
    /// Dimensions of a tensor.
    pub(crate) const MAX_DIMS: usize = 5;
}

/// A safetensors file, opened in place.
#[derive(Debug)]
pub struct Safetensors {
    source: Arc<Source>,
    /// By name.
    entries: Vec<Entry>,
}

/// A tensor of a safetensors file.
#[derive(Clone, Copy, Debug)]
pub struct SafetensorsView<'a> {
    /// The tensor's name, unique in its file, e.g. `model.norm.weight`.
    pub name: &'a str,
    /// How the elements are encoded.
    pub dtype: Dtype,
    /// Dimensions, slowest first; a scalar has none.
    pub shape: &'a [u64],
    /// The elements, row after row. At any place in memory: cast only after a check.
    pub data: &'a [u8],
}

impl Safetensors {
    /// Opens a file.
    ///
    /// # Errors
    /// [`FormatError::Io`], [`FormatError::Malformed`].
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::read(Source::map(path)?)
    }

    /// Reads a file from memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// [`FormatError::Malformed`].
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self, FormatError> {
        Self::read(Source::from_vec(bytes, name))
    }

    fn read(source: Source) -> Result<Self, FormatError> {
        let entries = header::read(source.bytes(), source.name())?;
        Ok(Self {
            source: Arc::new(source),
            entries,
        })
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = SafetensorsView<'_>> {
        self.entries.iter().map(|entry| self.view(entry))
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<SafetensorsView<'_>> {
        let found = self.entries.binary_search_by(|e| (*e.name).cmp(name));
        found.ok().map(|i| self.view(&self.entries[i]))
    }

    pub(crate) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> SafetensorsView<'a> {
        SafetensorsView {
            name: &entry.name,
            dtype: entry.dtype,
            shape: entry.shape(),
            data: &self.source.bytes()[entry.range.clone()],
        }
    }
}
