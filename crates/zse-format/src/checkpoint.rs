//! A model's metadata and tensors, whichever files they come from.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use zse_quant::GgmlType;

use crate::checksum::Checksum;
use crate::data::{Made, TensorData};
use crate::gguf::cursor::Fault;
use crate::gguf::header::{Gguf, Whole};
use crate::gguf::limits::MAX_DIMS;
use crate::gguf::split;
use crate::source::Source;
use crate::zse::read::{Converted, Zse, is_zse, verify_prelude};
use crate::{FileBytes, FormatError, Layout, Metadata, Problem, TensorBytes, hf, names};

/// A model's files, opened in place.
///
/// `Send + Sync`; share it through an [`Arc`].
#[derive(Debug)]
pub struct Checkpoint {
    metadata: Metadata,
    sources: Vec<Arc<Source>>,
    tensors: Vec<Tensor>,
    /// Indices of `tensors`.
    by_name: Vec<u32>,
    /// Of a `.zse` file: what it says besides.
    converted: Option<Converted>,
}

/// A tensor's description, and where its data come from.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) name: Box<str>,
    pub(crate) ty: GgmlType,
    pub(crate) n_dims: u8,
    /// Those from `n_dims` on are 1.
    pub(crate) dims: [u64; MAX_DIMS as usize],
    /// Bytes of data.
    pub(crate) size: usize,
    /// The number of the file that has the tensor.
    pub(crate) source: u32,
    /// Where the data starts in that file, which holds all of it.
    pub(crate) start: u64,
    /// Where the tensor's description stands in that file.
    pub(crate) at: u64,
    /// For data that no file has: how they are made. `start` then says nothing, unless it
    /// is that of tiles.
    pub(crate) made: Option<Box<Made>>,
    /// In which order the file has the data, from `start` on.
    pub(crate) layout: Layout,
}

impl Tensor {
    /// Where the tensor's bytes are in a `.zse` file.
    fn stored(&self) -> Range<usize> {
        let start = self.start as usize;
        self.tiles().unwrap_or(start..start + self.size)
    }

    /// Where the tensor's tiles are in the file, if it has them.
    fn tiles(&self) -> Option<Range<usize>> {
        if self.layout == Layout::Rows {
            return None;
        }
        let size = self.layout.tensor_bytes(self.ty, &self.dims).ok()?;
        Some(self.start as usize..self.start as usize + size)
    }

    /// The dimensions, fastest first; a scalar has one of 1.
    pub(crate) fn shape(&self) -> &[u64] {
        &self.dims[..usize::from(self.n_dims).max(1)]
    }
}

/// A tensor whose name another one has, and the sources.
pub(crate) struct Duplicate {
    pub(crate) sources: Vec<Arc<Source>>,
    pub(crate) tensor: Tensor,
}

/// A tensor: its description, and its data.
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
    pub data: TensorData<'a>,
    /// The tiles of [`zse_quant::pack`], matrix after matrix, where the file stores the rows so.
    /// `data` has them unpacked.
    pub tiles: Option<&'a [u8]>,
}

impl<'a> TensorView<'a> {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The order in which the file has the tensor's bytes.
    pub fn layout(&self) -> Layout {
        match self.tiles {
            Some(_) => Layout::Tiles16,
            None => Layout::Rows,
        }
    }

    /// The tensor's bytes in its [`layout`](Self::layout).
    pub fn stored(&self) -> TensorBytes<'a> {
        self.tiles
            .map_or_else(|| self.data.bytes(), TensorBytes::of_file)
    }

    /// The bytes `range` of [`stored`](Self::stored), which are whole rows, or tiles; see
    /// [`TensorData::piece`].
    pub fn stored_piece(&self, range: Range<usize>) -> TensorBytes<'a> {
        match self.tiles {
            Some(tiles) => TensorBytes::of_file(&tiles[range]),
            None => self.data.piece(range),
        }
    }

    /// Number of bytes of [`stored`](Self::stored), which this does not make.
    pub fn stored_len(&self) -> usize {
        self.tiles.map_or(self.data.len(), <[u8]>::len)
    }
}

impl Checkpoint {
    /// Opens a GGUF file, or the directory of a model as Hugging Face lays it out.
    ///
    /// If a GGUF model is split over several files, `path` is any of them, and the others are found
    /// beside it by name (`name-00002-of-00005.gguf`). A directory may also be named by its
    /// `config.json` or one of its safetensors files.
    ///
    /// # Errors
    /// [`FormatError::Io`], [`FormatError::Malformed`]; of a split model, also [`FormatError::Split`],
    /// [`FormatError::Missing`] and [`FormatError::WrongType`]; of a directory, also
    /// [`FormatError::Unusable`].
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        if let Some(directory) = hf::directory(path) {
            return hf::open(&directory);
        }
        let source = Source::map(path)?;
        if is_zse(source.bytes()) {
            return Self::of_zse(Zse::parse(source)?);
        }
        Self::join(split::complete(path, Gguf::parse(source)?)?)
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
        if is_zse(source.bytes()) {
            return Self::of_zse(Zse::parse(source)?);
        }
        let gguf = Gguf::parse(source)?;
        split::refuse_part(&gguf)?;
        Self::join(vec![gguf])
    }

    /// One checkpoint of all files; the first one's metadata is the model's.
    fn join(files: Vec<Gguf>) -> Result<Self, FormatError> {
        let mut files = files.into_iter();
        let first = files
            .next()
            .expect("a model is read from at least one file");
        let (mut sources, mut tensors) = (vec![first.source], first.tensors);
        for (source, file) in (1..).zip(files) {
            sources.push(file.source);
            let of_source = |tensor| Tensor { source, ..tensor };
            tensors.extend(file.tensors.into_iter().map(of_source));
        }
        Self::of_parts(first.metadata, sources, tensors).map_err(|duplicate| {
            let Duplicate { sources, tensor } = *duplicate;
            let fault = tensor.name_fault(Problem::Duplicate);
            let file = sources[tensor.source as usize].name();
            fault.of(file, Whole::Tensor(&tensor.name))
        })
    }

    /// A checkpoint of parts that were checked, but for tensors of the same name.
    pub(crate) fn of_parts(
        metadata: Metadata,
        sources: Vec<Arc<Source>>,
        mut tensors: Vec<Tensor>,
    ) -> Result<Self, Box<Duplicate>> {
        let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
        match names::sort(&mut by_name, |i| &tensors[i as usize].name) {
            Ok(()) => Ok(Self {
                metadata,
                sources,
                tensors,
                by_name,
                converted: None,
            }),
            Err(i) => Err(Box::new(Duplicate {
                sources,
                tensor: tensors.swap_remove(i as usize),
            })),
        }
    }

    fn of_zse(zse: Zse) -> Result<Self, FormatError> {
        let Zse {
            source,
            metadata,
            tensors,
            converted,
        } = zse;
        let joined = Self::of_parts(metadata, vec![source], tensors).map_err(|duplicate| {
            let Duplicate { sources, tensor } = *duplicate;
            let fault = Fault::new("name", tensor.at, Problem::Duplicate);
            fault.of(sources[0].name(), Whole::Tensor(&tensor.name))
        })?;
        Ok(Self {
            converted: Some(converted),
            ..joined
        })
    }

    /// What a `.zse` file says of itself; `None` for other files.
    pub fn converted(&self) -> Option<&Converted> {
        self.converted.as_ref()
    }

    /// Compares the file's contents with the checksums in it, and tells `progress` how many bytes it
    /// has compared after each tensor. Says whether there are checksums: only `.zse` files have them.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], which names the first damaged tensor.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<bool, FormatError> {
        let Some(converted) = &self.converted else {
            return Ok(false);
        };
        let source = &self.sources[0];
        verify_prelude(source)?;
        for (tensor, &promised) in self.tensors.iter().zip(converted.checksums()) {
            let place = tensor.stored();
            let bytes = &source.bytes()[place.clone()];
            let found = Checksum::of(bytes);
            source.release(place);
            if found != promised {
                let problem = Problem::Checksum {
                    promised: promised.0,
                    found: found.0,
                };
                let fault = Fault::new("checksum", tensor.at, problem);
                return Err(fault.of(source.name(), Whole::Tensor(&tensor.name)));
            }
            progress(bytes.len() as u64);
        }
        Ok(true)
    }

    /// The paths of all files, or the names given to bytes in memory.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.name())
    }

    /// The [tiles](TensorView::tiles) of the tensor with this name, where the file has them; they
    /// stay there for as long as this is kept.
    pub fn tiles(&self, name: &str) -> Option<FileBytes> {
        let tensor = self.find(name)?;
        let source = &self.sources[tensor.source as usize];
        Some(FileBytes::new(Arc::clone(source), tensor.tiles()?))
    }

    /// The model's metadata (of a split model, the first file's).
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        Some(self.view(self.find(name)?))
    }

    /// All tensors in the order of the files.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|tensor| self.view(tensor))
    }

    /// Bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        let bytes = self.sources.iter().map(|s| s.bytes().len() as u64);
        bytes.sum()
    }

    /// Most bytes of a tensor that were made at once, as no file has them so. Only what came out counts, not
    /// what making it took beside (numbers in f32, tiles that a piece cuts).
    pub fn most_made(&self) -> usize {
        let made = self.tensors.iter().filter_map(|t| t.made.as_deref());
        made.map(Made::most).max().unwrap_or(0)
    }

    /// Whether the files are mapped: if not, they stay in memory whole for as long as this lives.
    pub fn is_mapped(&self) -> bool {
        self.sources.iter().all(|source| source.is_map())
    }

    /// Has the operating system read the first `len` bytes of each file, so that they are there when they
    /// are used. Does nothing where the files are not mapped.
    pub fn prefetch(&self, len: usize) {
        self.sources.iter().for_each(|source| source.prefetch(len));
    }

    /// Gives the memory of a tensor's data back to the operating system, e.g. once it is packed
    /// elsewhere. The data can still be used, and is then read from the file, or made, again. Does
    /// nothing where the file is not mapped, or `tensor` is not of this checkpoint.
    pub fn release_pages(&self, tensor: &TensorView<'_>) {
        let made = self.find(tensor.name).and_then(|t| t.made.as_ref());
        if let Some(made) = made {
            made.release();
        }
        if let Some(bytes) = tensor.tiles.or(tensor.data.in_file()) {
            self.release_bytes(bytes);
        }
    }

    /// As [`release_pages`](Self::release_pages), for part of a tensor's bytes.
    pub fn release_bytes(&self, bytes: &[u8]) {
        let data = bytes.as_ptr_range();
        for source in &self.sources {
            let file = source.bytes().as_ptr_range();
            if file.start <= data.start && data.end <= file.end {
                let start = data.start.addr() - file.start.addr();
                source.release(start..start + bytes.len());
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let i = names::find(&self.by_name, |i| &self.tensors[i as usize].name, name)?;
        Some(&self.tensors[i as usize])
    }

    fn view<'a>(&'a self, tensor: &'a Tensor) -> TensorView<'a> {
        let data = match &tensor.made {
            Some(made) => TensorData::made(made, tensor.size),
            None => {
                let start = tensor.start as usize;
                let source = &self.sources[tensor.source as usize];
                TensorData::of_file(source, start..start + tensor.size)
            }
        };
        let file = || self.sources[tensor.source as usize].bytes();
        let tiles = tensor.tiles().map(|place| &file()[place]);
        TensorView {
            name: &tensor.name,
            ty: tensor.ty,
            shape: tensor.shape(),
            data,
            tiles,
        }
    }
}
