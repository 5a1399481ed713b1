//! A GGUF file's header: the counts, the metadata and the tensors' descriptions, all checked.
//!
//! ```text
//! magic "GGUF" | version u32 | tensor count u64 | metadata count u64
//! metadata: key (u64 length, bytes) | value type u32 | value                      for each entry
//! tensors:  name (u64 length, bytes) | n_dims u32 | dims u64 x n_dims | type u32 | offset u64
//! padding to the alignment | tensor data; offsets count from here
//! ```

use std::fmt;
use std::sync::Arc;

use zse_quant::GgmlType;

use super::cursor::{Cursor, Fault};
use super::limits::{MAX_DIMS, MAX_KEY_BYTES, MAX_METADATA, MAX_NAME_BYTES, MAX_TENSORS};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use crate::checkpoint::Tensor;
use crate::metadata::{Entry, Metadata};
use crate::source::Source;
use crate::{FormatError, Layout, Problem, Value, ValueType};

/// An entry's key length, one byte of key, type and one byte of value.
pub(crate) const LEAST_ENTRY_BYTES: usize = 8 + 1 + 4 + 1;
/// A tensor's name length, one byte of name, number of dimensions, type and offset.
const LEAST_TENSOR_BYTES: usize = 8 + 1 + 4 + 4 + 8;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Gguf {
    pub(crate) source: Arc<Source>,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Tensor>,
}

impl Tensor {
    pub(crate) fn name_fault(&self, problem: Problem) -> Fault {
        Fault::new("name", self.at + 8, problem)
    }

    fn offset_fault(&self, problem: Problem) -> Fault {
        let before = 8 + self.name.len() as u64 + 4 + 8 * u64::from(self.n_dims) + 4;
        Fault::new("offset", self.at + before, problem)
    }
}

/// What an error's field belongs to.
pub(crate) enum Whole<'a> {
    Header,
    Entry(u64),
    Metadata(&'a str),
    TensorNumber(u64),
    Tensor(&'a str),
    Group(&'a str),
}

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "the header"),
            Self::Entry(i) => write!(f, "metadata entry {i}"),
            Self::Metadata(key) => write!(f, "metadata {key:?}"),
            Self::TensorNumber(i) => write!(f, "tensor {i}"),
            Self::Tensor(name) => write!(f, "tensor {name:?}"),
            Self::Group(name) => write!(f, "group {name:?}"),
        }
    }
}

impl Gguf {
    /// Reads and checks everything but the contents of tensors.
    pub(crate) fn parse(source: Source) -> Result<Self, FormatError> {
        let source = Arc::new(source);
        let file = source.name();
        let mut cursor = Cursor::new(source.bytes(), 0);
        let (n_tensors, n_entries) =
            preamble(&mut cursor).map_err(|fault| fault.of(file, Whole::Header))?;

        let entries = entries(&mut cursor, file, n_entries)?;
        let metadata = Metadata::new(Arc::clone(&source), entries)?;
        let alignment = alignment(&metadata)?;

        let mut tensors = Vec::with_capacity(n_tensors);
        for i in 0..n_tensors as u64 {
            tensors.push(tensor(&mut cursor, file, i)?);
        }
        place(&mut tensors, &cursor, file, u64::from(alignment))?;
        Ok(Self {
            source,
            metadata,
            tensors,
        })
    }
}

/// Magic, version and the numbers of tensors and metadata entries, which together fit the file.
fn preamble(cursor: &mut Cursor<'_>) -> Result<(usize, usize), Fault> {
    let magic = cursor.take(4, "magic")?;
    if magic != MAGIC {
        let found = magic.try_into().expect("four bytes were taken");
        return Err(Fault::new("magic", 0, Problem::NotGguf { found }));
    }
    let at = cursor.offset();
    match cursor.u32("version")? {
        2 | 3 => {}
        v if (1..=3).contains(&v.swap_bytes()) => {
            return Err(Fault::new("version", at, Problem::BigEndian));
        }
        found => {
            let read = "versions 2 and 3 are";
            return Err(Fault::new("version", at, Problem::Version { found, read }));
        }
    }
    let tensors_at = cursor.offset();
    let n_tensors = cursor.count("tensor count", LEAST_TENSOR_BYTES)?;
    let entries_at = cursor.offset();
    let n_entries = cursor.count("metadata count", LEAST_ENTRY_BYTES)?;
    // Each count was checked on its own; what both promise must fit as well.
    let left = cursor.left() - n_entries * LEAST_ENTRY_BYTES as u64;
    let most_tensors = (left / LEAST_TENSOR_BYTES as u64).min(MAX_TENSORS);
    let bounded = |part, at, count, most| match usize::try_from(count) {
        Ok(fits) if count <= most => Ok(fits),
        _ => Err(Fault::new(part, at, Problem::TooMany { count, most })),
    };
    let n_entries = bounded("metadata count", entries_at, n_entries, MAX_METADATA)?;
    let n_tensors = bounded("tensor count", tensors_at, n_tensors, most_tensors)?;
    Ok((n_tensors, n_entries))
}

/// Reads and checks `n_entries` metadata entries, at most [`MAX_METADATA`], which have room in the
/// file.
pub(crate) fn entries(
    cursor: &mut Cursor<'_>,
    file: &str,
    n_entries: usize,
) -> Result<Vec<Entry>, FormatError> {
    let mut entries = Vec::with_capacity(n_entries);
    for i in 0..n_entries as u64 {
        entries.push(entry(cursor, file, i)?);
    }
    Ok(entries)
}

fn entry(cursor: &mut Cursor<'_>, file: &str, i: u64) -> Result<Entry, FormatError> {
    let key = cursor
        .name("key", MAX_KEY_BYTES)
        .map_err(|fault| fault.of(file, Whole::Entry(i)))?;
    let of_key = |fault: Fault| fault.of(file, Whole::Metadata(key));
    let value_type = cursor.value_type("value type").map_err(of_key)?;
    let value_at = cursor.offset();
    cursor.check_value(value_type).map_err(of_key)?;
    Ok(Entry {
        key: key.into(),
        value_type,
        value_at,
    })
}

/// The alignment of tensor data in bytes.
fn alignment(metadata: &Metadata) -> Result<u32, FormatError> {
    let problem = match metadata.get(ALIGNMENT_KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(v)) if v.is_power_of_two() => return Ok(v),
        Some(Value::U32(found)) => Problem::Alignment { found },
        Some(other) => Problem::ValueType {
            found: other.value_type(),
            expected: ValueType::U32,
        },
    };
    Err(metadata.malformed(ALIGNMENT_KEY, problem))
}

fn tensor(cursor: &mut Cursor<'_>, file: &str, i: u64) -> Result<Tensor, FormatError> {
    let at = cursor.offset();
    let name = cursor
        .name("name", MAX_NAME_BYTES)
        .map_err(|fault| fault.of(file, Whole::TensorNumber(i)))?;
    described(cursor, at, name).map_err(|fault| fault.of(file, Whole::Tensor(name)))
}

/// What follows a tensor's name.
fn described(cursor: &mut Cursor<'_>, at: u64, name: &str) -> Result<Tensor, Fault> {
    const PARTS: [&str; MAX_DIMS as usize] =
        ["dimension 0", "dimension 1", "dimension 2", "dimension 3"];
    let n_dims_at = cursor.offset();
    let n_dims = cursor.u32("number of dimensions")?;
    if n_dims > MAX_DIMS {
        let problem = Problem::OutOfRange {
            value: n_dims.into(),
            least: 0,
            most: MAX_DIMS.into(),
        };
        return Err(Fault::new("number of dimensions", n_dims_at, problem));
    }
    let dims_at = cursor.offset();
    let mut dims = [1; MAX_DIMS as usize];
    for (dim, part) in dims.iter_mut().zip(PARTS).take(n_dims as usize) {
        let dim_at = cursor.offset();
        *dim = cursor.u64(part)?;
        // ggml's dimensions are signed.
        let most = i64::MAX as u64;
        if !(1..=most).contains(dim) {
            let problem = Problem::OutOfRange {
                value: *dim,
                least: 1,
                most,
            };
            return Err(Fault::new(part, dim_at, problem));
        }
    }
    let ty_at = cursor.offset();
    let found = cursor.u32("type")?;
    let ty = GgmlType::from_id(found)
        .ok_or_else(|| Fault::new("type", ty_at, Problem::UnknownTensorType { found }))?;
    let size = Layout::Rows
        .tensor_bytes(ty, &dims)
        .map_err(|problem| Fault::new("shape", dims_at, problem))?;
    let start = cursor.u64("offset")?;
    Ok(Tensor {
        name: name.into(),
        ty,
        n_dims: n_dims as u8,
        dims,
        size,
        source: 0,
        start,
        at,
        made: None,
        layout: Layout::Rows,
    })
}

/// Turns offsets from the start of the tensor data, which begins at the first aligned byte from
/// the cursor on, into offsets from the start of the file; all data must be aligned, within the
/// file and apart.
fn place(
    tensors: &mut [Tensor],
    cursor: &Cursor<'_>,
    file: &str,
    alignment: u64,
) -> Result<(), FormatError> {
    // The alignment is at most 2^31 and a file shorter than 2^63: this cannot overflow.
    let data_at = cursor.offset().next_multiple_of(alignment);
    let available = (cursor.offset() + cursor.left()).saturating_sub(data_at);
    for tensor in &mut *tensors {
        let (offset, size) = (tensor.start, tensor.size as u64);
        let problem = if !offset.is_multiple_of(alignment) {
            Problem::Unaligned { offset, alignment }
        } else if offset.checked_add(size).is_none_or(|end| end > available) {
            Problem::OutsideFile {
                offset,
                size,
                available,
            }
        } else {
            tensor.start = data_at + offset;
            continue;
        };
        return Err(tensor
            .offset_fault(problem)
            .of(file, Whole::Tensor(&tensor.name)));
    }

    let mut in_order: Vec<u32> = (0..tensors.len() as u32).collect();
    in_order.sort_unstable_by_key(|&i| tensors[i as usize].start);
    for pair in in_order.windows(2) {
        let [before, after] = [&tensors[pair[0] as usize], &tensors[pair[1] as usize]];
        if before.start + before.size as u64 > after.start {
            let problem = Problem::Overlap {
                other: before.name.to_string(),
            };
            return Err(after
                .offset_fault(problem)
                .of(file, Whole::Tensor(&after.name)));
        }
    }
    Ok(())
}
