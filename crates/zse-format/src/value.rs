//! Metadata values: read from a file ([`Value`], [`Array`]) and to be written ([`EncodedValue`]).

use std::fmt;

use crate::gguf::cursor::Cursor;

/// The types of GGUF metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this id in GGUF files.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The type's id in GGUF files.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The type's name, e.g. `"u32"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Encoded bytes of a value of fixed size; `None` for strings and arrays.
    pub(crate) fn fixed_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// Encoded bytes of the smallest value: an empty string is its length, an empty array its
    /// type and length.
    pub(crate) fn least_bytes(self) -> usize {
        match self {
            Self::String => 8,
            Self::Array => 12,
            fixed => fixed.fixed_bytes().unwrap_or(1),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A metadata value, borrowed from the file.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    /// Text, which GGUF says is UTF-8; token strings in the wild sometimes are not.
    String(&'a [u8]),
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
        }
    }

    /// An integer of any width, if the value is one.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// An integer of any width that fits in a `u32`.
    pub fn as_u32(&self) -> Option<u32> {
        self.as_integer()?.try_into().ok()
    }

    /// An integer of any width that fits in an `i32`.
    pub fn as_i32(&self) -> Option<i32> {
        self.as_integer()?.try_into().ok()
    }

    /// An integer of any width that fits in a `u64`.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_integer()?.try_into().ok()
    }

    /// A float, rounded to `f32` if it is an `f64`.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(v) => Some(v),
            Self::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// A bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A string's bytes.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Self::String(v) => Some(v),
            _ => None,
        }
    }

    /// A string that is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        match *self {
            Self::Array(v) => Some(v),
            _ => None,
        }
    }

    /// For messages: the type, and the value where it is short.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::String(v) if std::str::from_utf8(v).is_err() => {
                "a string that is not UTF-8".to_owned()
            }
            Self::String(_) => "a string".to_owned(),
            Self::Array(a) => format!("an array of {} {}", a.len(), a.element_type()),
            Self::F32(v) => format!("f32 {v}"),
            Self::F64(v) => format!("f64 {v}"),
            Self::Bool(v) => format!("bool {v}"),
            integer => {
                format!(
                    "{} {}",
                    integer.value_type(),
                    integer.as_integer().unwrap_or_default()
                )
            }
        }
    }
}

/// An array of metadata values, decoded as it is walked.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    element_type: ValueType,
    len: u64,
    /// From the first element to the end of the file: only walking finds where strings end.
    data: &'a [u8],
}

impl<'a> Array<'a> {
    pub(crate) fn new(element_type: ValueType, len: u64, data: &'a [u8]) -> Self {
        Self {
            element_type,
            len,
            data,
        }
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ValueType {
        self.element_type
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        // Each element takes at least a byte of an address space of `usize`.
        self.len.try_into().unwrap_or(usize::MAX)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = self.cursor();
        let (ty, len) = (self.element_type, self.len);
        (0..len).map_while(move |_| {
            let value = cursor.value(ty).ok()?;
            if let Value::Array(inner) = value {
                cursor.check_elements(inner, 1).ok()?;
            }
            Some(value)
        })
    }

    /// A cursor at the first element.
    pub(crate) fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.data, 0)
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({} {})", self.len, self.element_type)
    }
}

/// A metadata value in the bytes that a GGUF file holds, to be written by
/// [`GgufWriter::set`](crate::GgufWriter::set).
///
/// Made by `From` from numbers, bools, text, slices of numbers (which become arrays) and borrowed
/// [`Value`]s, and by [`strings`](Self::strings) and [`nested`](Self::nested).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedValue {
    value_type: ValueType,
    bytes: Vec<u8>,
}

impl EncodedValue {
    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An array of strings, given as their bytes.
    pub fn strings<S: AsRef<[u8]>>(items: impl IntoIterator<Item = S>) -> Self {
        Self::array(ValueType::String, items, |bytes, item| {
            put_string(bytes, item.as_ref())
        })
    }

    /// An array of arrays; `None` if an item is no array.
    pub fn nested(items: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all_arrays = true;
        let array = Self::array(ValueType::Array, items, |bytes, item: Self| {
            all_arrays &= item.value_type == ValueType::Array;
            bytes.extend_from_slice(&item.bytes);
        });
        all_arrays.then_some(array)
    }

    fn array<T>(
        element_type: ValueType,
        items: impl IntoIterator<Item = T>,
        mut put: impl FnMut(&mut Vec<u8>, T),
    ) -> Self {
        let mut bytes = element_type.id().to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 8]);
        let mut len = 0u64;
        for item in items {
            put(&mut bytes, item);
            len += 1;
        }
        bytes[4..12].copy_from_slice(&len.to_le_bytes());
        Self {
            value_type: ValueType::Array,
            bytes,
        }
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}

impl From<&str> for EncodedValue {
    fn from(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(8 + text.len());
        put_string(&mut bytes, text.as_bytes());
        Self {
            value_type: ValueType::String,
            bytes,
        }
    }
}

/// `From` for a number or bool, and for a slice of them, which becomes an array.
macro_rules! encode_scalars {
    ($($rust:ty => $ty:ident, |$v:ident| $encoded:expr;)*) => {$(
        impl From<$rust> for EncodedValue {
            fn from($v: $rust) -> Self {
                Self { value_type: ValueType::$ty, bytes: $encoded.to_vec() }
            }
        }
        impl From<&[$rust]> for EncodedValue {
            fn from(items: &[$rust]) -> Self {
                Self::array(ValueType::$ty, items, |bytes, &$v| bytes.extend_from_slice(&$encoded))
            }
        }
    )*};
}
encode_scalars! {
    u8 => U8, |v| [v];
    i8 => I8, |v| v.to_le_bytes();
    u16 => U16, |v| v.to_le_bytes();
    i16 => I16, |v| v.to_le_bytes();
    u32 => U32, |v| v.to_le_bytes();
    i32 => I32, |v| v.to_le_bytes();
    u64 => U64, |v| v.to_le_bytes();
    i64 => I64, |v| v.to_le_bytes();
    f32 => F32, |v| v.to_le_bytes();
    f64 => F64, |v| v.to_le_bytes();
    bool => Bool, |v| [u8::from(v)];
}

impl From<Value<'_>> for EncodedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            Value::F32(v) => v.into(),
            Value::F64(v) => v.into(),
            Value::Bool(v) => v.into(),
            Value::String(text) => {
                let mut bytes = Vec::with_capacity(8 + text.len());
                put_string(&mut bytes, text);
                Self {
                    value_type: ValueType::String,
                    bytes,
                }
            }
            Value::Array(array) => Self::array(array.element_type(), array.iter(), |bytes, v| {
                bytes.extend_from_slice(&Self::from(v).bytes);
            }),
        }
    }
}
