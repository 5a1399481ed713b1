//! The header of a `.zse` file: what its tensors are, where, and where the file came from.

use std::fmt;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use zse_quant::GgmlType;

use crate::Layout;
use crate::checksum::Checksum;
use crate::gguf::limits::MAX_DIMS;
use crate::text::read_text;

/// The whole header.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Index {
    pub(crate) provenance: Provenance,
    /// In the order of the file.
    pub(crate) groups: Vec<Group>,
    /// In the order of the file, group by group.
    pub(crate) tensors: Vec<Entry>,
}

/// Where a `.zse` file came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Provenance {
    /// The program that wrote the file, and its version: `zse 0.1.0`.
    pub converter: String,
    /// What the layouts were chosen for: `cpu`, `cuda` or `portable`.
    pub target: String,
    /// What was converted.
    pub source: Origin,
}

/// The model that a `.zse` file was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Origin {
    /// Its file name, without folders.
    pub name: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// XXH3-64 over the XXH3-64 (8 bytes, little-endian) of its tensors' bytes, as the source stores
    /// them or gives them to be read, in the order of the file that was made.
    pub xxh3: Checksum,
}

/// Tensors that are used together: those of a layer, or what comes before or after all layers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Group {
    /// `input`, `blk.N` or `output` in files that zse writes.
    pub name: String,
    /// Number of its tensors, which follow those of the group before it.
    pub tensors: u64,
    /// Where it begins, in bytes from the start of the tensor data.
    pub offset: u64,
    /// Bytes from there to the end of its last tensor.
    pub bytes: u64,
}

/// A tensor's description.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    #[serde(rename = "type", with = "type_name")]
    pub(crate) ty: GgmlType,
    #[serde(with = "layout_tag")]
    pub(crate) layout: Layout,
    pub(crate) shape: Shape,
    /// From the start of the tensor data.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Of the bytes as they are stored.
    pub(crate) xxh3: Checksum,
}

/// 1 to 4 dimensions, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) n_dims: u8,
    /// Those from `n_dims` on are 1.
    pub(crate) dims: [u64; MAX_DIMS as usize],
}

impl Shape {
    /// The shape of these dimensions; `None` for none, or more than 4.
    pub(crate) fn new(shape: &[u64]) -> Option<Self> {
        let mut dims = [1; MAX_DIMS as usize];
        dims.get_mut(..shape.len())?.copy_from_slice(shape);
        (!shape.is_empty()).then_some(Self {
            n_dims: shape.len() as u8,
            dims,
        })
    }

    pub(crate) fn dims(&self) -> &[u64] {
        &self.dims[..self.n_dims.into()]
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.dims().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not by way of a list: a hostile one would be as long as the file.
        struct Dims;

        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {MAX_DIMS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = [1; MAX_DIMS as usize];
                let mut n_dims = 0;
                while let Some(dim) = seq.next_element()? {
                    *dims
                        .get_mut(n_dims)
                        .ok_or_else(|| A::Error::invalid_length(n_dims + 1, &self))? = dim;
                    n_dims += 1;
                }
                Shape::new(&dims[..n_dims]).ok_or_else(|| A::Error::invalid_length(0, &self))
            }
        }

        deserializer.deserialize_seq(Dims)
    }
}

/// A type by ggml's name of it.
mod type_name {
    use super::*;

    pub(super) fn serialize<S: Serializer>(ty: &GgmlType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(ty.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GgmlType, D::Error> {
        read_text(from, "the name of a tensor type", GgmlType::parse)
    }
}

/// A layout by its tag.
mod layout_tag {
    use super::*;

    pub(super) fn serialize<S: Serializer>(layout: &Layout, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(layout.tag())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Layout, D::Error> {
        read_text(from, "a layout that this zse knows", Layout::from_tag)
    }
}
