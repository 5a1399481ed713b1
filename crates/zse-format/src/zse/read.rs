//! Reading `.zse` files: prelude, header and metadata, all checked before anything is used.

use std::ops::Range;
use std::sync::Arc;

use zse_quant::GgmlType;
use zse_quant::pack::unpack_rows;

use super::index::{Entry, Group, Index, Provenance};
use super::{GROUP_ALIGNMENT, MAGIC, MAX_HEADER_BYTES, PRELUDE, TENSOR_ALIGNMENT, VERSION};
use crate::checkpoint::Tensor;
use crate::checksum::Checksum;
use crate::data::{Made, Make, rows_of};
use crate::gguf::cursor::{Cursor, Fault};
use crate::gguf::header::{LEAST_ENTRY_BYTES, Whole, entries};
use crate::gguf::limits::{MAX_DIMS, MAX_METADATA, MAX_NAME_BYTES, MAX_TENSORS};
use crate::source::Source;
use crate::{FileBytes, FormatError, Layout, Metadata, Problem};

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Zse {
    pub(crate) source: Arc<Source>,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) converted: Converted,
}

/// What a `.zse` file says of itself besides metadata and tensors.
#[derive(Clone, Debug)]
pub struct Converted {
    provenance: Provenance,
    groups: Vec<Group>,
    checksums: Vec<Checksum>,
}

impl Converted {
    /// Where the file came from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Which tensors are used together, in the order of their use.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The checksums of the tensors' bytes as they are stored, in the order of the file.
    pub fn checksums(&self) -> &[Checksum] {
        &self.checksums
    }
}

/// Whether a file that begins so is a `.zse` file, or one that a transfer has damaged.
pub(crate) fn is_zse(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC[..4])
}

/// What the prelude says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prelude {
    n_entries: usize,
    header_bytes: u64,
    metadata_bytes: u64,
    data_at: u64,
    pub(super) checksum: u64,
}

impl Prelude {
    /// The header.
    fn header(&self) -> Range<usize> {
        PRELUDE..PRELUDE + self.header_bytes as usize
    }

    /// Header and metadata: what the checksum is of.
    pub(super) fn described(&self) -> Range<usize> {
        PRELUDE..PRELUDE + (self.header_bytes + self.metadata_bytes) as usize
    }

    /// Reads the prelude; its lengths fit the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes, 0);
        let magic = cursor.take(MAGIC.len() as u64, "magic")?;
        if magic != MAGIC {
            let problem = Problem::Json("shows that the file was copied as text".to_owned());
            return Err(Fault::new("magic", 0, problem));
        }
        let found = cursor.u32("version")?;
        if found != VERSION {
            let read = "version 1 is";
            return Err(Fault::new("version", 8, Problem::Version { found, read }));
        }
        let n_entries = u64::from(cursor.u32("metadata count")?);
        let header_bytes = cursor.u64("header length")?;
        let metadata_bytes = cursor.u64("metadata length")?;
        let data_at = cursor.u64("start of the tensor data")?;
        let promised = cursor.u64("file length")?;
        let checksum = cursor.u64("checksum")?;
        let reserved = cursor.u64("reserved field")?;

        let found = bytes.len() as u64;
        if promised != found {
            let problem = Problem::FileSize { promised, found };
            return Err(Fault::new("file length", 40, problem));
        }
        let bounded = |part, at, value, most| match value <= most {
            true => Ok(()),
            false => Err(Fault::new(
                part,
                at,
                Problem::OutOfRange {
                    value,
                    least: 0,
                    most,
                },
            )),
        };
        let most = MAX_HEADER_BYTES.min(cursor.left());
        bounded("header length", 16, header_bytes, most)?;
        bounded(
            "metadata length",
            24,
            metadata_bytes,
            cursor.left() - header_bytes,
        )?;
        let most = MAX_METADATA.min(metadata_bytes / LEAST_ENTRY_BYTES as u64);
        bounded("metadata count", 12, n_entries, most)?;
        bounded("reserved field", 56, reserved, 0)?;
        let least = PRELUDE as u64 + header_bytes + metadata_bytes;
        if !data_at.is_multiple_of(GROUP_ALIGNMENT) {
            let problem = Problem::Unaligned {
                offset: data_at,
                alignment: GROUP_ALIGNMENT,
            };
            return Err(Fault::new("start of the tensor data", 32, problem));
        }
        if data_at < least || data_at > found {
            let problem = Problem::OutOfRange {
                value: data_at,
                least,
                most: found,
            };
            return Err(Fault::new("start of the tensor data", 32, problem));
        }
        Ok(Self {
            n_entries: n_entries as usize, // at most MAX_METADATA
            header_bytes,
            metadata_bytes,
            data_at,
            checksum,
        })
    }
}

impl Zse {
    /// Reads and checks everything but the contents of tensors.
    pub(crate) fn parse(source: Source) -> Result<Self, FormatError> {
        let source = Arc::new(source);
        let (bytes, file) = (source.bytes(), source.name());
        let prelude = Prelude::read(bytes).map_err(|fault| fault.of(file, Whole::Header))?;
        let text = &bytes[prelude.header()];
        let index: Index = serde_json::from_slice(text).map_err(|error| {
            let at = PRELUDE as u64 + place(text, error.line(), error.column());
            let problem = Problem::Json(error.to_string());
            Fault::new("JSON", at, problem).of(file, Whole::Header)
        })?;

        // The metadata end where they say, so that none of them runs into the tensors.
        let end = prelude.described().end;
        let mut cursor = Cursor::new(&bytes[..end], prelude.header().end);
        let entries = entries(&mut cursor, file, prelude.n_entries)?;
        if cursor.left() > 0 {
            let found = prelude.metadata_bytes;
            let expected = found - cursor.left();
            let problem = Problem::Mismatch { found, expected };
            return Err(Fault::new("metadata length", 24, problem).of(file, Whole::Header));
        }
        let metadata = Metadata::new(Arc::clone(&source), entries)?;
        let padding = &bytes[end..prelude.data_at as usize];
        if let Some(at) = padding.iter().position(|&byte| byte != 0) {
            let (found, expected) = (padding[at].into(), 0);
            let problem = Problem::Mismatch { found, expected };
            let at = (end + at) as u64;
            let fault = Fault::new("padding behind the metadata", at, problem);
            return Err(fault.of(file, Whole::Header));
        }

        let checker = Checker {
            file,
            text,
            available: bytes.len() as u64 - prelude.data_at,
        };
        checker.check(&index)?;
        let checksums = index.tensors.iter().map(|t| t.xxh3).collect();
        // Where each name stands is not looked for: in a large header that would take too long.
        let tensor = |t: Entry| described(t, prelude.data_at, PRELUDE as u64, &source);
        let tensors = index.tensors.into_iter().map(tensor).collect();
        let converted = Converted {
            provenance: index.provenance,
            groups: index.groups,
            checksums,
        };
        Ok(Self {
            source: Arc::clone(&source),
            metadata,
            tensors,
            converted,
        })
    }
}

/// A checked tensor, as checkpoints have them.
fn described(entry: Entry, data_at: u64, at: u64, source: &Arc<Source>) -> Tensor {
    let start = data_at + entry.offset;
    let (ty, dims) = (entry.ty, entry.shape.dims);
    let tiles = start as usize..(start + entry.bytes) as usize;
    let tiles = (entry.layout == Layout::Tiles16).then_some(tiles);
    // The rows take no more than their tiles, which have a size.
    let size = match &tiles {
        Some(_) => Layout::Rows.tensor_bytes(ty, &dims).unwrap_or(0),
        None => entry.bytes as usize,
    };
    let made = tiles.map(|tiles| {
        let tiles = FileBytes::new(Arc::clone(source), tiles);
        Box::new(Made::new(Unpack {
            ty,
            dims,
            size,
            tiles,
        }))
    });
    Tensor {
        name: entry.name,
        ty,
        n_dims: entry.shape.n_dims,
        dims,
        size,
        source: 0,
        start,
        at,
        made,
        layout: entry.layout,
    }
}

/// The rows of a tensor that is stored as tiles.
#[derive(Debug)]
struct Unpack {
    ty: GgmlType,
    dims: [u64; MAX_DIMS as usize],
    /// Bytes of all rows.
    size: usize,
    tiles: FileBytes,
}

impl Make for Unpack {
    fn len(&self) -> usize {
        self.size
    }

    fn make(&self, range: Range<usize>) -> Vec<u8> {
        let [cols, rows, experts @ ..] = self.dims.map(|dim| dim as usize);
        let experts: usize = experts.iter().product();
        let tiles_of_matrix = self.tiles.len() / experts.max(1);
        let row = self.ty.row_bytes(cols).expect("sizes were checked at open");
        // Where the tiles of rows end; cut at multiples of the step.
        let tiles_to = |rows| {
            let bytes = Layout::Tiles16.matrix_bytes(self.ty, rows, cols);
            bytes.expect("sizes were checked at open")
        };
        let step = Layout::Tiles16.step();
        let mut all = vec![0; range.len()];
        let mut left = &mut all[..];
        for (matrix, wanted) in rows_of(range, row, rows) {
            let tiles = &self.tiles[matrix * tiles_of_matrix..][..tiles_of_matrix];
            let whole = wanted.start / step * step..wanted.end.next_multiple_of(step).min(rows);
            let tiles = &tiles[tiles_to(whole.start)..tiles_to(whole.end)];
            let (to, rest) = left.split_at_mut(wanted.len() * row);
            let unpack = |to: &mut [u8]| {
                let unpacked = unpack_rows(self.ty, whole.len(), cols, tiles, to);
                unpacked.expect("sizes were checked at open");
            };
            match whole == wanted {
                true => unpack(to),
                false => {
                    let mut unpacked = vec![0; whole.len() * row];
                    unpack(&mut unpacked);
                    let first = (wanted.start - whole.start) * row;
                    to.copy_from_slice(&unpacked[first..first + to.len()]);
                }
            }
            left = rest;
        }
        all
    }

    fn release(&self, range: Range<usize>) {
        // Pages of tiles that are in use beside are read again.
        if range.end == self.size {
            self.tiles.release();
        }
    }
}

/// The byte of `text` that is meant by a line and a column, both from 1.
fn place(text: &[u8], line: usize, column: usize) -> u64 {
    let before = text.split_inclusive(|&b| b == b'\n').take(line.max(1) - 1);
    let start: usize = before.map(<[u8]>::len).sum();
    (start + column.max(1) - 1).min(text.len()) as u64
}

/// Holds the rules of the index.
struct Checker<'a> {
    file: &'a str,
    /// The header.
    text: &'a [u8],
    /// Bytes of tensor data in the file.
    available: u64,
}

impl Checker<'_> {
    /// Groups lie one after the other within the file, tensors one after the other within their
    /// groups, which end with their last; all are aligned and of their size.
    fn check(&self, index: &Index) -> Result<(), FormatError> {
        let Index {
            groups, tensors, ..
        } = index;
        if tensors.len() as u64 > MAX_TENSORS {
            let problem = Problem::TooMany {
                count: tensors.len() as u64,
                most: MAX_TENSORS,
            };
            let fault = Fault::new("number of tensors", PRELUDE as u64, problem);
            return Err(fault.of(self.file, Whole::Header));
        }
        let mut rest = &tensors[..];
        let mut end = 0;
        for group in groups {
            let of_group = |part, problem| {
                let at = self.find(&group.name);
                Fault::new(part, at, problem).of(self.file, Whole::Group(&group.name))
            };
            // Without empty groups, there are no more groups than tensors.
            let (value, most) = (group.tensors, rest.len() as u64);
            if !(1..=most).contains(&value) {
                let least = 1;
                let problem = Problem::OutOfRange { value, least, most };
                return Err(of_group("number of tensors", problem));
            }
            let (of_this, after) = rest.split_at(group.tensors as usize);
            rest = after;
            let within = end..self.available;
            check_place(group.offset, group.bytes, GROUP_ALIGNMENT, &within)
                .map_err(|problem| of_group("offset", problem))?;
            let expected = self.check_group(group, of_this)? - group.offset;
            if group.bytes != expected {
                let found = group.bytes;
                let problem = Problem::Mismatch { found, expected };
                return Err(of_group("number of bytes", problem));
            }
            end = group.offset + group.bytes;
        }
        if let [first, ..] = rest {
            let (found, expected) = ((tensors.len() - rest.len()) as u64, tensors.len() as u64);
            let problem = Problem::Mismatch { found, expected };
            let fault = Fault::new("tensors in all groups", self.find(&first.name), problem);
            return Err(fault.of(self.file, Whole::Header));
        }
        Ok(())
    }

    /// Returns where the last of the tensors ends.
    fn check_group(&self, group: &Group, tensors: &[Entry]) -> Result<u64, FormatError> {
        let mut within = group.offset..group.offset + group.bytes;
        for tensor in tensors {
            let of_tensor = |(part, problem)| {
                let at = self.find(&tensor.name);
                Fault::new(part, at, problem).of(self.file, Whole::Tensor(&tensor.name))
            };
            check_description(tensor).map_err(of_tensor)?;
            check_place(tensor.offset, tensor.bytes, TENSOR_ALIGNMENT, &within)
                .map_err(|problem| of_tensor(("offset", problem)))?;
            within.start = tensor.offset + tensor.bytes;
        }
        Ok(within.start)
    }

    /// Where a name stands in the file, for messages; the header's start if it is escaped there.
    fn find(&self, name: &str) -> u64 {
        let quoted = format!("\"{name}\"");
        let found = memchr::memmem::find(self.text, quoted.as_bytes());
        (PRELUDE + found.map_or(0, |at| at + 1)) as u64
    }
}

/// A tensor's name, shape and size.
fn check_description(tensor: &Entry) -> Result<(), (&'static str, Problem)> {
    let in_range = |part, value, least, most| match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err((part, Problem::OutOfRange { value, least, most })),
    };
    in_range(
        "length of the name",
        tensor.name.len() as u64,
        1,
        MAX_NAME_BYTES,
    )?;
    for &dim in tensor.shape.dims() {
        in_range("dimension", dim, 1, i64::MAX as u64)?;
    }
    let expected = tensor.layout.tensor_bytes(tensor.ty, tensor.shape.dims());
    let expected = expected.map_err(|problem| ("shape", problem))? as u64;
    match tensor.bytes == expected {
        true => Ok(()),
        false => {
            let found = tensor.bytes;
            Err(("number of bytes", Problem::Mismatch { found, expected }))
        }
    }
}

/// Whether `size` bytes at `offset` are aligned and lie in `within`.
fn check_place(offset: u64, size: u64, alignment: u64, within: &Range<u64>) -> Result<(), Problem> {
    if !offset.is_multiple_of(alignment) {
        return Err(Problem::Unaligned { offset, alignment });
    }
    if offset < within.start {
        let (least, most) = (within.start, within.end);
        return Err(Problem::OutOfRange {
            value: offset,
            least,
            most,
        });
    }
    match offset
        .checked_add(size)
        .is_some_and(|end| end <= within.end)
    {
        true => Ok(()),
        false => Err(Problem::OutsideFile {
            offset,
            size,
            available: within.end,
        }),
    }
}

/// Compares prelude, header and metadata with their checksum.
pub(crate) fn verify_prelude(source: &Source) -> Result<(), FormatError> {
    let whole = |fault: Fault| fault.of(source.name(), Whole::Header);
    let prelude = Prelude::read(source.bytes()).map_err(whole)?;
    let found = Checksum::of(&source.bytes()[prelude.described()]);
    match found.0 == prelude.checksum {
        true => Ok(()),
        false => {
            let problem = Problem::Checksum {
                promised: prelude.checksum,
                found: found.0,
            };
            Err(whole(Fault::new("checksum", 48, problem)))
        }
    }
}
