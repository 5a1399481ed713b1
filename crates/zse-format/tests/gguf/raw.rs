//! GGUF files byte by byte, valid or not, with a note of where each field stands.

use zse_format::{Array, Checkpoint, Value};

/// What a field says; decides which values make a file malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    TensorCount,
    MetadataCount,
    KeyLength,
    ValueType,
    StringLength,
    ElementType,
    ArrayLength,
    Bool,
    Alignment,
    NameLength,
    Dims,
    Dim,
    TensorType,
    Offset,
}

/// A field of a file.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    /// Bytes: 1, 4 or 8.
    pub(crate) width: usize,
    /// As errors name it.
    pub(crate) name: String,
}

/// A file in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    entries: u64,
    tensors: u64,
    /// The key or tensor that is being written.
    whole: String,
}

pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

impl Raw {
    pub(crate) fn new(version: u32, tensors: u64, entries: u64) -> Self {
        let mut raw = Self {
            whole: "the header".into(),
            ..Self::default()
        };
        raw.bytes.extend(b"GGUF");
        raw.bytes.extend(version.to_le_bytes());
        raw.field(Kind::TensorCount, "tensor count", &tensors.to_le_bytes());
        raw.field(
            Kind::MetadataCount,
            "metadata count",
            &entries.to_le_bytes(),
        );
        raw
    }

    fn field(&mut self, kind: Kind, part: &str, bytes: &[u8]) {
        let name = format!("{part} of {}", self.whole);
        self.fields.push(Field {
            kind,
            at: self.bytes.len(),
            width: bytes.len(),
            name,
        });
        self.bytes.extend(bytes);
    }

    /// A key and the type of its value, which follows.
    pub(crate) fn key(&mut self, key: &[u8], value_type: u32) {
        self.whole = format!("metadata entry {}", self.entries);
        self.entries += 1;
        self.field(Kind::KeyLength, "key", &(key.len() as u64).to_le_bytes());
        self.bytes.extend(key);
        self.whole = format!("metadata {:?}", String::from_utf8_lossy(key));
        self.field(Kind::ValueType, "value type", &value_type.to_le_bytes());
    }

    pub(crate) fn value(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    pub(crate) fn bool(&mut self, value: u8) {
        self.field(Kind::Bool, "value", &[value]);
    }

    pub(crate) fn string(&mut self, text: &[u8]) {
        self.field(
            Kind::StringLength,
            "string length",
            &(text.len() as u64).to_le_bytes(),
        );
        self.bytes.extend(text);
    }

    pub(crate) fn array(&mut self, element_type: u32, len: u64) {
        self.field(
            Kind::ElementType,
            "element type",
            &element_type.to_le_bytes(),
        );
        self.field(Kind::ArrayLength, "array length", &len.to_le_bytes());
    }

    pub(crate) fn alignment(&mut self, alignment: u32) {
        self.key(b"general.alignment", 4);
        self.field(Kind::Alignment, "value", &alignment.to_le_bytes());
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.key(key.as_bytes(), STRING);
        self.string(text.as_bytes());
    }

    pub(crate) fn tensor(&mut self, name: &[u8], dims: &[u64], ty: u32, offset: u64) {
        self.whole = format!("tensor {}", self.tensors);
        self.tensors += 1;
        self.field(Kind::NameLength, "name", &(name.len() as u64).to_le_bytes());
        self.bytes.extend(name);
        self.whole = format!("tensor {:?}", String::from_utf8_lossy(name));
        let n_dims = (dims.len() as u32).to_le_bytes();
        self.field(Kind::Dims, "number of dimensions", &n_dims);
        for (i, dim) in dims.iter().enumerate() {
            self.field(Kind::Dim, &format!("dimension {i}"), &dim.to_le_bytes());
        }
        self.field(Kind::TensorType, "type", &ty.to_le_bytes());
        self.field(Kind::Offset, "offset", &offset.to_le_bytes());
    }

    /// Padding, and `len` bytes of tensor data.
    pub(crate) fn data(&mut self, alignment: usize, len: usize) {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(alignment), 0);
        self.bytes.resize(self.bytes.len() + len, 0xA5);
    }

    /// The file with one field changed.
    pub(crate) fn with(&self, field: &Field, value: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[field.at..field.at + field.width]
            .copy_from_slice(&value.to_le_bytes()[..field.width]);
        bytes
    }
}

/// A small valid file with every value type, nested arrays and four tensors. It ends with the last
/// byte of the last tensor, so that any shorter one is malformed.
pub(crate) fn sample(version: u32, alignment: u32) -> Raw {
    let mut raw = Raw::new(version, 4, 19);
    raw.text("general.architecture", "llama");
    raw.alignment(alignment);
    for (ty, bytes) in scalars() {
        raw.key(format!("test.scalar.{ty}").as_bytes(), ty);
        raw.value(&bytes);
    }
    raw.key(b"test.bool", 7);
    raw.bool(1);
    raw.key(b"test.i32s", ARRAY);
    raw.array(5, 3);
    raw.value(&[0xFF; 12]);
    raw.key(b"test.bools", ARRAY);
    raw.array(7, 2);
    raw.bool(0);
    raw.bool(1);
    raw.key(b"test.strings", ARRAY);
    raw.array(STRING, 3);
    for text in [&b"one"[..], b"", b"\xE2\x96"] {
        raw.string(text);
    }
    raw.key(b"test.nested", ARRAY);
    raw.array(ARRAY, 2);
    raw.array(STRING, 1);
    raw.string(b"deep");
    raw.array(2, 2);
    raw.value(&[1, 0, 2, 0]);
    raw.key(b"test.empty", ARRAY);
    raw.array(STRING, 0);
    raw.text("test.last", "the last entry");
    let step = u64::from(alignment);
    let after = |offset: u64, size: u64| (offset + size).next_multiple_of(step);
    let (norm, quant) = (0, after(0, 48));
    let (scalar, k_quant) = (after(quant, 68), after(after(quant, 68), 4));
    raw.tensor(b"norm.weight", &[4, 3], 0, norm);
    raw.tensor(b"quant.weight", &[32, 2], 8, quant);
    raw.tensor(b"scalar", &[], 0, scalar);
    raw.tensor(b"k_quant.weight", &[256, 1, 1, 1], 12, k_quant);
    raw.data(alignment as usize, k_quant as usize + 144);
    raw
}

/// A value of each number type: its id, its bytes.
pub(crate) fn scalars() -> Vec<(u32, Vec<u8>)> {
    vec![
        (0, vec![200]),
        (1, (-100i8).to_le_bytes().to_vec()),
        (2, 60_000u16.to_le_bytes().to_vec()),
        (3, (-30_000i16).to_le_bytes().to_vec()),
        (4, 4_000_000_000u32.to_le_bytes().to_vec()),
        (5, (-2_000_000_000i32).to_le_bytes().to_vec()),
        (6, 1.5f32.to_le_bytes().to_vec()),
        (10, u64::MAX.to_le_bytes().to_vec()),
        (11, i64::MIN.to_le_bytes().to_vec()),
        (12, (-0.1f64).to_le_bytes().to_vec()),
    ]
}

/// Touches all that an open file has; returns how many values and bytes that was.
pub(crate) fn walk(checkpoint: &Checkpoint) -> usize {
    let metadata: usize = checkpoint.metadata().iter().map(|(_, v)| values(v)).sum();
    let tensors: usize = checkpoint
        .tensors()
        .map(|t| t.data.len() + t.shape.len())
        .sum();
    metadata + tensors
}

fn values(value: Value<'_>) -> usize {
    match value {
        Value::Array(array) => of_array(array),
        Value::String(bytes) => bytes.len(),
        _ => 1,
    }
}

fn of_array(array: Array<'_>) -> usize {
    array.iter().map(values).sum()
}
