//! The header of a safetensors file: a JSON object of tensor descriptions.
//!
//! ```text
//! length of the header u64 | header: {"NAME": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
//! | tensor data; offsets count from here
//! ```

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::dtype::Dtype;
use super::limits::{MAX_DIMS, MAX_HEADER_BYTES, MAX_TENSORS};
use crate::{FormatError, Problem, names};

/// Bytes of the length of the header.
const LENGTH: usize = 8;

/// Bytes that a tensor takes in a header, at least.
const LEAST_ENTRY_BYTES: usize = r#""":{"dtype":"U8","shape":[],"data_offsets":[0,0]}"#.len();

/// A tensor's description.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Box<str>,
    pub(super) dtype: Dtype,
    shape: Shape,
    /// Of the tensor data, and from [`place`](Self::place) on of the file.
    pub(super) range: Range<usize>,
}

impl Entry {
    pub(super) fn shape(&self) -> &[u64] {
        &self.shape.dims[..usize::from(self.shape.len)]
    }

    /// Checks that the tensor lies within the `available` bytes from `data_at` on, and is as large
    /// as it says; its range is then one of the file.
    fn place(&mut self, data_at: usize, available: usize) -> Result<(), (&'static str, Problem)> {
        let size = self
            .shape
            .size(self.dtype)
            .ok_or(("shape", Problem::Overflow))?;
        let Range { start, end } = self.range;
        if end > available || start > end {
            let problem = Problem::OutsideFile {
                offset: start as u64,
                size: end.saturating_sub(start) as u64,
                available: available as u64,
            };
            return Err(("data_offsets", problem));
        }
        let found = (end - start) as u64;
        if found != size {
            let expected = size;
            return Err(("data_offsets", Problem::DataSize { found, expected }));
        }
        self.range = data_at + start..data_at + end;
        Ok(())
    }
}

/// Reads the header of `file`, whose bytes are `bytes`, and checks that the tensors fill the rest
/// of it without gaps or overlaps. The result is sorted by name.
pub(super) fn read(bytes: &[u8], file: &str) -> Result<Vec<Entry>, FormatError> {
    let malformed = |field: String, offset: usize, problem| FormatError::Malformed {
        file: file.to_owned(),
        field,
        offset: offset as u64,
        problem,
    };
    let length = |problem| malformed("length of the header".to_owned(), 0, problem);
    let Some((head, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Err(length(Problem::CutOff {
            needed: LENGTH as u64,
            left: bytes.len() as u64,
        }));
    };
    let len = u64::from_le_bytes(*head);
    let most = MAX_HEADER_BYTES.min(rest.len() as u64);
    if len > most {
        let least = 2;
        return Err(length(Problem::OutOfRange {
            value: len,
            least,
            most,
        }));
    }
    let (header, data) = rest.split_at(len as usize);
    let json = |problem| malformed("header".to_owned(), LENGTH, problem);
    if !header.starts_with(b"{") {
        return Err(json(Problem::Json(
            "does not begin with a brace".to_owned(),
        )));
    }
    let mut entries = entries(header)
        .map_err(|error| json(Problem::Json(format!("is not what it should be: {error}"))))?;
    let data_at = LENGTH + header.len();
    for entry in &mut entries {
        entry
            .place(data_at, data.len())
            .map_err(|(part, problem)| {
                malformed(
                    format!("{part} of tensor {:?}", entry.name),
                    LENGTH,
                    problem,
                )
            })?;
    }
    fill(&mut entries, data_at..bytes.len())
        .map_err(|(field, at, problem)| malformed(field, at, problem))?;

    let mut by_name: Vec<u32> = (0..entries.len() as u32).collect();
    names::sort(&mut by_name, |i| &entries[i as usize].name).map_err(|i| {
        let name = &entries[i as usize].name;
        malformed(
            format!("name of tensor {name:?}"),
            LENGTH,
            Problem::Duplicate,
        )
    })?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Checks that the tensors fill `data`; sorts them by their place.
fn fill(entries: &mut [Entry], data: Range<usize>) -> Result<(), (String, usize, Problem)> {
    entries.sort_unstable_by_key(|e| (e.range.start, e.range.end));
    let mut end = data.start;
    let mut before = "";
    for entry in &*entries {
        let problem = if entry.range.start < end {
            let other = before.to_owned();
            Problem::Overlap { other }
        } else if entry.range.start > end {
            let bytes = (entry.range.start - end) as u64;
            Problem::Gap { bytes }
        } else {
            end = entry.range.end;
            before = &entry.name;
            continue;
        };
        let field = format!("data_offsets of tensor {:?}", entry.name);
        return Err((field, LENGTH, problem));
    }
    if end < data.end {
        let bytes = (data.end - end) as u64;
        return Err((
            "end of the tensor data".to_owned(),
            end,
            Problem::Gap { bytes },
        ));
    }
    Ok(())
}

/// The header's tensors in its order.
fn entries(header: &[u8]) -> Result<Vec<Entry>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(header);
    let most = (header.len() / LEAST_ENTRY_BYTES).min(MAX_TENSORS);
    let entries = json.deserialize_map(Entries(Vec::with_capacity(most)))?;
    json.end()?;
    Ok(entries)
}

struct Entries(Vec<Entry>);

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Entry>, A::Error> {
        let Self(mut entries) = self;
        while let Some(Name(name)) = map.next_key()? {
            if name == "__metadata__" {
                map.next_value::<Strings>()?;
                continue;
            }
            if entries.len() >= MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            let Described {
                dtype: Name(dtype),
                shape,
                data_offsets: [start, end],
            } = map.next_value()?;
            entries.push(Entry {
                name: name.into(),
                dtype: Dtype::from_name(&dtype)
                    .ok_or_else(|| A::Error::custom(format!("unknown dtype {dtype:?}")))?,
                shape,
                range: start..end,
            });
        }
        Ok(entries)
    }
}

#[derive(Deserialize)]
struct Described<'a> {
    #[serde(borrow)]
    dtype: Name<'a>,
    shape: Shape,
    data_offsets: [usize; 2],
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object of strings, which are checked and dropped.
struct Strings;

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;
        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strings, A::Error> {
                while map.next_entry::<IgnoredAny, Name<'de>>()?.is_some() {}
                Ok(Strings)
            }
        }
        deserializer.deserialize_map(StringsVisitor)
    }
}

/// Dimensions, slowest first.
#[derive(Debug)]
struct Shape {
    dims: [u64; MAX_DIMS],
    len: u8,
}

impl Shape {
    /// Bytes of a tensor; `None` where they are too many or no whole number.
    fn size(&self, dtype: Dtype) -> Option<u64> {
        let dims = &self.dims[..usize::from(self.len)];
        let elements = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim))?;
        let bits = elements.checked_mul(dtype.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX_DIMS} sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape {
                    dims: [0; MAX_DIMS],
                    len: 0,
                };
                while let Some(dim) = seq.next_element()? {
                    let at = usize::from(shape.len);
                    let to = shape.dims.get_mut(at);
                    *to.ok_or_else(|| A::Error::invalid_length(at + 1, &self))? = dim;
                    shape.len += 1;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(ShapeVisitor)
    }
}
