//! Writing GGUF v3: metadata and the list of tensors first, then each tensor's data as it comes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use zse_quant::GgmlType;

use super::cursor::Cursor;
use super::limits::{MAX_DIMS, MAX_KEY_BYTES, MAX_METADATA, MAX_NAME_BYTES, MAX_TENSORS};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use crate::{EncodedValue, FilePlan, FormatError, Layout, Metadata};

/// What comes before the tensor data of a GGUF file: metadata and the tensors to follow.
///
/// [`create`](Self::create) writes it to a file, [`begin`](Self::begin) to anything; both then
/// take the tensors' data in the order in which they were declared.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    alignment: u32,
    metadata: Vec<(String, EncodedValue)>,
    /// Where in `metadata` each key stands.
    places: HashMap<String, usize>,
    tensors: Vec<Declared>,
    /// The names of `tensors`.
    names: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    ty: GgmlType,
    shape: Vec<u64>,
    /// Bytes of data, without padding.
    size: u64,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self {
            alignment: DEFAULT_ALIGNMENT,
            metadata: Vec::new(),
            places: HashMap::new(),
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }
}

fn unwritable(field: String, problem: impl Into<String>) -> FormatError {
    FormatError::Unwritable {
        file: "GGUF header".to_owned(),
        field,
        problem: problem.into(),
    }
}

fn too_many_entries() -> String {
    format!("a file holds at most {MAX_METADATA} metadata entries")
}

impl GgufWriter {
    /// An empty file with tensors aligned to 32 bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Aligns tensors to `alignment` bytes, a power of two.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if it is not, and if metadata leaves no entry for it.
    pub fn set_alignment(&mut self, alignment: u32) -> Result<(), FormatError> {
        if !alignment.is_power_of_two() {
            let problem = format!("{alignment} is not a power of two");
            return Err(unwritable(ALIGNMENT_KEY.to_owned(), problem));
        }
        let before = std::mem::replace(&mut self.alignment, alignment);
        if self.entries() > MAX_METADATA {
            self.alignment = before;
            return Err(unwritable(ALIGNMENT_KEY.to_owned(), too_many_entries()));
        }
        Ok(())
    }

    /// The alignment that is an entry of its own: 32 goes without saying.
    fn own_alignment(&self) -> Option<u32> {
        Some(self.alignment).filter(|&alignment| alignment != DEFAULT_ALIGNMENT)
    }

    /// Metadata entries of the file, the alignment's included.
    fn entries(&self) -> u64 {
        self.metadata.len() as u64 + u64::from(self.own_alignment().is_some())
    }

    /// Sets a metadata entry. A key that is set already keeps its place and gets the new value.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] for an empty or overlong key, for `general.alignment` (see
    /// [`set_alignment`](Self::set_alignment)), for arrays nested too deep, and for more entries
    /// than a file may hold.
    pub fn set(&mut self, key: &str, value: impl Into<EncodedValue>) -> Result<(), FormatError> {
        let refused = |problem: String| unwritable(format!("metadata {key:?}"), problem);
        let value = value.into();
        if key.is_empty() || key.len() as u64 > MAX_KEY_BYTES {
            return Err(refused(format!("a key has 1 to {MAX_KEY_BYTES} bytes")));
        }
        if key == ALIGNMENT_KEY {
            return Err(refused("call set_alignment instead".to_owned()));
        }
        Cursor::new(value.bytes(), 0)
            .check_value(value.value_type())
            .map_err(|fault| refused(format!("the value {}", fault.problem())))?;
        match self.places.get(key) {
            Some(&place) => self.metadata[place].1 = value,
            None if self.entries() >= MAX_METADATA => return Err(refused(too_many_entries())),
            None => {
                self.places.insert(key.to_owned(), self.metadata.len());
                self.metadata.push((key.to_owned(), value));
            }
        }
        Ok(())
    }

    /// Sets all entries of another file, but for those that describe the file and not the model:
    /// its alignment, and how it is split.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_all(&mut self, metadata: &Metadata) -> Result<(), FormatError> {
        for (key, value) in metadata.iter() {
            if key != ALIGNMENT_KEY && !key.starts_with("split.") {
                self.set(key, value)?;
            }
        }
        Ok(())
    }

    /// Declares the next tensor, with 1 to 4 dimensions, `shape[0]` the row length.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if the name is empty, overlong or taken, or if the shape is
    /// empty, has a 0, or has rows that are no whole number of blocks of `ty`.
    pub fn declare(&mut self, name: &str, ty: GgmlType, shape: &[u64]) -> Result<(), FormatError> {
        let refused = |problem: String| unwritable(format!("tensor {name:?}"), problem);
        if name.is_empty() || name.len() as u64 > MAX_NAME_BYTES {
            return Err(refused(format!("a name has 1 to {MAX_NAME_BYTES} bytes")));
        }
        if self.tensors.len() as u64 >= MAX_TENSORS {
            return Err(refused(format!(
                "a file holds at most {MAX_TENSORS} tensors"
            )));
        }
        if self.names.contains(name) {
            return Err(refused("it is declared twice".to_owned()));
        }
        let mut dims = [1; MAX_DIMS as usize];
        if shape.is_empty() || shape.len() > dims.len() || shape.contains(&0) {
            return Err(refused(format!(
                "shape {shape:?} is not 1 to {MAX_DIMS} positive numbers"
            )));
        }
        dims[..shape.len()].copy_from_slice(shape);
        let size = Layout::Rows
            .tensor_bytes(ty, &dims)
            .map_err(|problem| refused(format!("shape {shape:?}: a dimension {problem}")))?;
        self.names.insert(name.to_owned());
        self.tensors.push(Declared {
            name: name.to_owned(),
            ty,
            shape: shape.to_vec(),
            size: size as u64,
        });
        Ok(())
    }

    /// Writes the header to `out` (`name` is for messages); the tensors' data follows.
    ///
    /// # Errors
    /// [`FormatError::Io`] if writing fails.
    pub fn begin<W: Write>(&self, mut out: W, name: &str) -> Result<GgufBody<W>, FormatError> {
        let header = self.header();
        out.write_all(&header)
            .map_err(|source| io_error(name, "write", source))?;
        let tensors = self
            .tensors
            .iter()
            .map(|t| (t.name.clone(), t.size))
            .collect();
        let alignment = u64::from(self.alignment);
        Ok(GgufBody {
            out,
            file: name.to_owned(),
            alignment,
            tensors,
            current: 0,
            written: 0,
        })
    }

    /// Writes the header to a temporary file beside `path`, which [`GgufFile::finish`] renames to
    /// `path`: a file of that name is replaced by a whole one or not at all.
    ///
    /// # Errors
    /// [`FormatError::Io`] if the file cannot be created or written.
    pub fn create(&self, path: &Path) -> Result<GgufFile, FormatError> {
        let file_name = path.file_name().ok_or_else(|| {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "it has no file name");
            io_error(&path.display().to_string(), "create", reason)
        })?;
        let mut partial_name = file_name.to_owned();
        partial_name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(partial_name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial)
            .map_err(|source| io_error(&partial.display().to_string(), "create", source))?;
        // From here on, dropping `renames` removes the file.
        let renames = Rename {
            partial,
            path: path.to_owned(),
        };
        let body = self.begin(BufWriter::new(file), &path.display().to_string())?;
        Ok(GgufFile { body, renames })
    }

    /// The file, for who writes tensors by their places. Written so, or by
    /// [`begin`](Self::begin), it is the same.
    pub fn plan(&self) -> FilePlan {
        let header = self.header();
        let mut bytes = header.len() as u64;
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            tensors.push(bytes..bytes + tensor.size);
            bytes += tensor.size.next_multiple_of(self.alignment.into());
        }
        FilePlan {
            header,
            tensors,
            bytes,
        }
    }

    /// Name, type and shape of the tensors.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&str, GgmlType, &[u64])> {
        let tensors = self.tensors.iter();
        tensors.map(|t| (t.name.as_str(), t.ty, t.shape.as_slice()))
    }

    /// The metadata entries' number and bytes.
    pub(crate) fn encoded_metadata(&self) -> (u32, Vec<u8>) {
        let mut bytes = Vec::new();
        let own_alignment = self
            .own_alignment()
            .map(|alignment| (ALIGNMENT_KEY.to_owned(), EncodedValue::from(alignment)));
        for (key, value) in self.metadata.iter().chain(&own_alignment) {
            put_name(&mut bytes, key);
            put_u32(&mut bytes, value.value_type().id());
            bytes.extend_from_slice(value.bytes());
        }
        // At most MAX_METADATA.
        (self.entries() as u32, bytes)
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put_u32(&mut bytes, 3);
        put_u64(&mut bytes, self.tensors.len() as u64);
        let (entries, metadata) = self.encoded_metadata();
        put_u64(&mut bytes, entries.into());
        bytes.extend_from_slice(&metadata);
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_name(&mut bytes, &tensor.name);
            put_u32(&mut bytes, tensor.shape.len() as u32);
            tensor
                .shape
                .iter()
                .for_each(|&dim| put_u64(&mut bytes, dim));
            put_u32(&mut bytes, tensor.ty.id());
            put_u64(&mut bytes, offset);
            offset += tensor.size.next_multiple_of(self.alignment.into());
        }
        if !self.tensors.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(self.alignment as usize), 0);
        }
        bytes
    }
}

fn put_u32(bytes: &mut Vec<u8>, v: u32) {
    bytes.extend_from_slice(&v.to_le_bytes());
}

fn put_u64(bytes: &mut Vec<u8>, v: u64) {
    bytes.extend_from_slice(&v.to_le_bytes());
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    put_u64(bytes, name.len() as u64);
    bytes.extend_from_slice(name.as_bytes());
}

fn io_error(file: &str, action: &'static str, source: io::Error) -> FormatError {
    FormatError::Io {
        file: file.to_owned(),
        action,
        source,
    }
}

/// The tensor data of a GGUF file that is being written.
#[derive(Debug)]
pub struct GgufBody<W> {
    out: W,
    file: String,
    alignment: u64,
    /// Name and bytes of data of each tensor.
    tensors: Vec<(String, u64)>,
    /// The tensor being written, and how many of its bytes are.
    current: usize,
    written: u64,
}

impl<W: Write> GgufBody<W> {
    /// Writes the next piece of tensor `name`: all of its data, or some rows, or any part. Tensors
    /// come in the order in which they were declared.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if it is another tensor's turn or the data is more than was
    /// declared, [`FormatError::Io`] if writing fails.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<(), FormatError> {
        let size = match self.tensors.get(self.current) {
            Some((expected, size)) if expected == name => *size,
            Some((expected, _)) => {
                let got = self.written;
                return Err(self.refused(
                    name,
                    format!("{expected:?} comes first ({got} bytes of it are written)"),
                ));
            }
            None => return Err(self.refused(name, "all declared tensors are written".to_owned())),
        };
        let written = self.written + data.len() as u64;
        if written > size {
            return Err(self.refused(name, format!("it has {size} bytes, not {written}")));
        }
        self.put(data)?;
        self.written = written;
        if written == size {
            // At most the alignment less one: less than the `u32` it comes from.
            let padding = size.next_multiple_of(self.alignment) - size;
            self.put(&vec![0; padding as usize])?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if data of a declared tensor is missing, [`FormatError::Io`] if
    /// writing fails.
    pub fn finish(mut self) -> Result<W, FormatError> {
        if let Some((name, size)) = self.tensors.get(self.current) {
            let problem = format!("only {} of its {size} bytes were given", self.written);
            return Err(self.refused(name, problem));
        }
        self.out
            .flush()
            .map_err(|source| io_error(&self.file, "write", source))?;
        Ok(self.out)
    }

    fn put(&mut self, data: &[u8]) -> Result<(), FormatError> {
        self.out
            .write_all(data)
            .map_err(|source| io_error(&self.file, "write", source))
    }

    fn refused(&self, name: &str, problem: String) -> FormatError {
        FormatError::Unwritable {
            file: self.file.clone(),
            field: format!("tensor {name:?}"),
            problem,
        }
    }
}

/// A GGUF file that is being written, and does not have its name yet. Dropped unfinished, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct GgufFile {
    body: GgufBody<BufWriter<File>>,
    renames: Rename,
}

impl GgufFile {
    /// Writes the next piece of tensor `name`; see [`GgufBody::write`].
    ///
    /// # Errors
    /// As [`GgufBody::write`].
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<(), FormatError> {
        self.body.write(name, data)
    }

    /// Ends the file, makes it durable and gives it its name.
    ///
    /// # Errors
    /// As [`GgufBody::finish`].
    pub fn finish(self) -> Result<(), FormatError> {
        let Self { body, renames } = self;
        let file_name = body.file.clone();
        let failed = |action| {
            let file = file_name.clone();
            move |source| FormatError::Io {
                file,
                action,
                source,
            }
        };
        let file = body
            .finish()?
            .into_inner()
            .map_err(|e| failed("write")(e.into_error()))?;
        file.sync_all().map_err(failed("write"))?;
        drop(file);
        fs::rename(&renames.partial, &renames.path).map_err(failed("rename the finished file to"))
    }
}

/// A temporary file and the name it is to get.
#[derive(Debug)]
struct Rename {
    partial: PathBuf,
    path: PathBuf,
}

impl Drop for Rename {
    fn drop(&mut self) {
        // Gone already if it was renamed; if it cannot be removed, nothing here can help.
        drop(fs::remove_file(&self.partial));
    }
}
