//! Writing `.zse` files: everything but the tensors' data, which come in any order.

use zse_quant::GgmlType;

use super::index::{Entry, Group, Index, Provenance, Shape};
use super::{GROUP_ALIGNMENT, MAGIC, MAX_HEADER_BYTES, PRELUDE, TENSOR_ALIGNMENT, VERSION};
use crate::checksum::Checksum;
use crate::{EncodedValue, FilePlan, FormatError, GgufWriter, Layout, Metadata};

/// What comes before the tensor data of a `.zse` file: metadata, and the tensors to follow, group
/// by group in the order of their use.
#[derive(Clone, Debug)]
pub struct ZseWriter {
    /// Metadata, names, types and shapes follow GGUF's rules.
    described: GgufWriter,
    provenance: Provenance,
    layouts: Vec<(Layout, u64)>,
    /// Name and number of tensors.
    groups: Vec<(String, u64)>,
}

impl ZseWriter {
    /// A file without tensors.
    pub fn new(provenance: Provenance) -> Self {
        Self {
            described: GgufWriter::new(),
            provenance,
            layouts: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Where the file came from.
    pub fn provenance_mut(&mut self) -> &mut Provenance {
        &mut self.provenance
    }

    /// Sets a metadata entry; see [`GgufWriter::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set(&mut self, key: &str, value: impl Into<EncodedValue>) -> Result<(), FormatError> {
        self.described.set(key, value)
    }

    /// Sets all entries that describe the model of another file; see [`GgufWriter::set_all`].
    ///
    /// # Errors
    /// As there.
    pub fn set_all(&mut self, metadata: &Metadata) -> Result<(), FormatError> {
        self.described.set_all(metadata)
    }

    /// Declares the next tensor, of the last group if that is of this name.
    ///
    /// # Errors
    /// As [`GgufWriter::declare`], and if the layout cannot hold the type.
    pub fn declare(
        &mut self,
        group: &str,
        name: &str,
        ty: GgmlType,
        layout: Layout,
        shape: &[u64],
    ) -> Result<(), FormatError> {
        self.described.declare(name, ty, shape)?;
        let bytes = layout
            .tensor_bytes(ty, shape)
            .map_err(|problem| FormatError::Unwritable {
                file: ".zse header".to_owned(),
                field: format!("tensor {name:?}"),
                problem: format!("its layout {problem}"),
            })?;
        self.layouts.push((layout, bytes as u64));
        match self.groups.last_mut() {
            Some((last, tensors)) if last == group => *tensors += 1,
            _ => self.groups.push((group.to_owned(), 1)),
        }
        Ok(())
    }

    /// The file, with checksums of 0: they take as much room as any.
    ///
    /// # Errors
    /// If names and metadata are more than a file may hold.
    pub fn plan(&self) -> Result<FilePlan, FormatError> {
        let index = self.index(&[]);
        let (header, data_at) = self.header(&index)?;
        let tensors = index.tensors.iter().map(|t| {
            let start = data_at + t.offset;
            start..start + t.bytes
        });
        let tensors: Vec<_> = tensors.collect();
        Ok(FilePlan {
            bytes: tensors.last().map_or(data_at, |last| last.end),
            tensors,
            header,
        })
    }

    /// What comes before the tensor data, given the tensors' checksums in the order in which they
    /// were declared.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn finished_header(&self, checksums: &[Checksum]) -> Result<Vec<u8>, FormatError> {
        Ok(self.header(&self.index(checksums))?.0)
    }

    fn index(&self, checksums: &[Checksum]) -> Index {
        let mut groups = Vec::with_capacity(self.groups.len());
        let mut tensors = Vec::with_capacity(self.layouts.len());
        let mut declared = self.described.declared().zip(&self.layouts);
        let mut checksums = checksums.iter().copied();
        let mut end: u64 = 0;
        for (name, count) in &self.groups {
            let start = end.next_multiple_of(GROUP_ALIGNMENT);
            end = start;
            for ((name, ty, shape), &(layout, bytes)) in declared.by_ref().take(*count as usize) {
                let offset = end.next_multiple_of(TENSOR_ALIGNMENT);
                end = offset + bytes;
                tensors.push(Entry {
                    name: name.into(),
                    ty,
                    layout,
                    shape: Shape::new(shape).expect("a declared shape has 1 to 4 dimensions"),
                    offset,
                    bytes,
                    xxh3: checksums.next().unwrap_or_default(),
                });
            }
            groups.push(Group {
                name: name.clone(),
                tensors: *count,
                offset: start,
                bytes: end - start,
            });
        }
        Index {
            provenance: self.provenance.clone(),
            groups,
            tensors,
        }
    }

    /// Prelude, header, metadata and padding; and how many bytes that is.
    fn header(&self, index: &Index) -> Result<(Vec<u8>, u64), FormatError> {
        let json = serde_json::to_vec(index).expect("an index has only strings as keys");
        if json.len() as u64 > MAX_HEADER_BYTES {
            return Err(FormatError::Unwritable {
                file: ".zse header".to_owned(),
                field: "the list of tensors".to_owned(),
                problem: format!("it takes {} bytes, at most {MAX_HEADER_BYTES}", json.len()),
            });
        }
        let (entries, metadata) = self.described.encoded_metadata();
        let end = PRELUDE + json.len() + metadata.len();
        let data_at = (end as u64).next_multiple_of(GROUP_ALIGNMENT);
        let data = index
            .groups
            .last()
            .map_or(0, |last| last.offset + last.bytes);

        let mut bytes = Vec::with_capacity(data_at as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&entries.to_le_bytes());
        let lengths = [
            json.len() as u64,
            metadata.len() as u64,
            data_at,
            data_at + data,
        ];
        for length in lengths {
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        let described = [json, metadata].concat();
        bytes.extend_from_slice(&Checksum::of(&described).0.to_le_bytes());
        bytes.resize(PRELUDE, 0);
        bytes.extend_from_slice(&described);
        bytes.resize(data_at as usize, 0);
        Ok((bytes, data_at))
    }
}
