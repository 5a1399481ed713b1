//! What can be wrong with a model file, said so that the reader knows what to do.

use std::io;

use crate::ValueType;

/// Why a file could not be read or written.
///
/// Names taken from the file are printed escaped: a hostile file cannot send control characters
/// to a terminal.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused an operation.
    #[error("{file}: cannot {action}: {source}")]
    Io {
        /// The file's path.
        file: String,
        /// What was tried: "open", "map", "write", ...
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file breaks a rule of its format.
    #[error("{file}: {field} (at byte {offset}) {problem}")]
    Malformed {
        /// The file's path, or the name given to bytes in memory.
        file: String,
        /// The field that is wrong, e.g. `dimension 1 of tensor "output.weight"`.
        field: String,
        /// Where the field stands in the file, in bytes from its start.
        offset: u64,
        /// What is wrong with it and what to do.
        problem: Problem,
    },
    /// A split model's files do not belong together.
    #[error("{file}: {problem}")]
    Split {
        /// The file at which it showed.
        file: String,
        /// What does not fit, naming the metadata key, and what to do.
        problem: String,
    },
    /// Metadata that the caller needs is absent.
    #[error(
        "{file}: the metadata has no {key:?}; the file is incomplete or was converted for another purpose"
    )]
    Missing {
        /// The file's path.
        file: String,
        /// The absent key.
        key: String,
    },
    /// Metadata that the caller needs has another type, or a value that does not fit.
    #[error("{file}: metadata {key:?} must be {expected}, but is {found}; convert the model again")]
    WrongType {
        /// The file's path.
        file: String,
        /// The key.
        key: String,
        /// What the caller can use.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// A directory as Hugging Face lays models out lacks something, disagrees with itself, or asks
    /// for something that is not implemented.
    #[error("{file}: {field} {problem}")]
    Unusable {
        /// The file within the directory, or the directory.
        file: String,
        /// The field or tensor, as the file names it.
        field: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A writer was asked for something that a GGUF file cannot hold.
    #[error("{file}: cannot write {field}: {problem}")]
    Unwritable {
        /// The file's path, or the name given to the output.
        file: String,
        /// The key or tensor.
        field: String,
        /// Why not.
        problem: String,
    },
}

/// What is wrong with a field of a file; part of [`FormatError::Malformed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file ends within the field.
    #[error(
        "needs {needed} bytes, but the file has {left} left: it is cut off (download it again) or its lengths are wrong"
    )]
    CutOff {
        /// Bytes that the field takes.
        needed: u64,
        /// Bytes from the field's start to the file's end.
        left: u64,
    },
    /// The file does not start with a format's mark.
    #[error(
        "is \"{}\", neither \"GGUF\" nor that of a .zse file: this is no model file that zse reads",
        found.escape_ascii()
    )]
    NotGguf {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file was written for big-endian machines.
    #[error("is big-endian; convert the file with gguf-py's gguf_convert_endian.py")]
    BigEndian,
    /// The format's version is not one of those read.
    #[error("is {found}, but {read} read; convert the model again")]
    Version {
        /// The version in the file.
        found: u32,
        /// The versions that are read, with their verb: "versions 2 and 3 are".
        read: &'static str,
    },
    /// More entries are announced than the rest of the file can hold.
    #[error("is {count}, but the rest of the file holds at most {most}")]
    TooMany {
        /// The announced count.
        count: u64,
        /// What fits, at the smallest size of an entry.
        most: u64,
    },
    /// A length or number is outside what is allowed.
    #[error("is {value}, but must be from {least} to {most}")]
    OutOfRange {
        /// The value in the file.
        value: u64,
        /// Smallest allowed.
        least: u64,
        /// Largest allowed.
        most: u64,
    },
    /// Text that must be UTF-8 is not.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A number must have one value, and has another.
    #[error("is {found}, but must be {expected}")]
    Mismatch {
        /// The value in the file.
        found: u64,
        /// The value that the rest of the file asks for.
        expected: u64,
    },
    /// A file is shorter or longer than its header says.
    #[error(
        "is {promised}, but the file has {found} bytes: its download or conversion was not finished"
    )]
    FileSize {
        /// The size in the header.
        promised: u64,
        /// The size that the file has.
        found: u64,
    },
    /// A layout that cannot hold the tensor's type.
    #[error("is {layout:?}, which is for weights and not for {ty}")]
    Layout {
        /// ggml's name of the type.
        ty: &'static str,
        /// The layout's tag.
        layout: &'static str,
    },
    /// Bytes are not those that were written.
    #[error(
        "is {found:016x}, but {promised:016x} was written: the file is damaged, make or download it again"
    )]
    Checksum {
        /// The checksum in the file.
        promised: u64,
        /// The checksum of what the file holds.
        found: u64,
    },
    /// A name that must be unique occurs again.
    #[error("occurs twice, but must be unique")]
    Duplicate,
    /// A value type that GGUF does not define.
    #[error("is {found}, which GGUF does not define (0 to 12); the file may need a newer zse")]
    UnknownValueType {
        /// The id in the file.
        found: u32,
    },
    /// A metadata value of another type than the format prescribes.
    #[error("has type {found}, but must be {expected}")]
    ValueType {
        /// The type in the file.
        found: ValueType,
        /// The prescribed type.
        expected: ValueType,
    },
    /// A tensor type that is not known here.
    #[error(
        "is {found}, which is no tensor type that zse reads; quantize the model to another type"
    )]
    UnknownTensorType {
        /// ggml's id of the type in the file.
        found: u32,
    },
    /// Arrays within arrays, too deep.
    #[error("is nested deeper than {most} levels")]
    TooDeep {
        /// Levels allowed.
        most: u32,
    },
    /// A bool that is neither 0 nor 1.
    #[error("is {found}, but a bool is 0 or 1")]
    NotBool {
        /// The byte in the file.
        found: u8,
    },
    /// An alignment that is no power of two.
    #[error("is {found}, but must be a power of two")]
    Alignment {
        /// The alignment in the file.
        found: u32,
    },
    /// A tensor's rows cannot be cut into the blocks of its type.
    #[error("is {cols}, but {ty} is stored in blocks of {block_len}")]
    PartialBlock {
        /// Elements a row.
        cols: u64,
        /// ggml's name of the type.
        ty: &'static str,
        /// Elements a block.
        block_len: u64,
    },
    /// A size does not fit in 64 bits.
    #[error("makes the tensor larger than any file can be")]
    Overflow,
    /// Tensor data that does not start at a multiple of the alignment.
    #[error("is {offset}, but must be a multiple of the alignment, {alignment}")]
    Unaligned {
        /// The offset in the file, from the start of the tensor data.
        offset: u64,
        /// The file's alignment in bytes.
        alignment: u64,
    },
    /// Tensor data beyond the end of the file.
    #[error(
        "puts {size} bytes at {offset} of the tensor data, but the file has only {available}: it is cut off (download it again) or its offsets are wrong"
    )]
    OutsideFile {
        /// Offset from the start of the tensor data.
        offset: u64,
        /// Bytes of the tensor.
        size: u64,
        /// Bytes of tensor data that the file has.
        available: u64,
    },
    /// Two tensors that share bytes.
    #[error("puts the tensor over the data of tensor {other:?}")]
    Overlap {
        /// The other tensor.
        other: String,
    },
    /// Text that must be JSON of a certain form is not.
    #[error("{0}; the file is damaged or made by other rules, download it again")]
    Json(String),
    /// A tensor's bytes are not as many as its shape says.
    #[error("span {found} bytes, but shape and dtype need {expected}")]
    DataSize {
        /// Bytes that the tensor has.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("leaves {bytes} bytes that belong to no tensor")]
    Gap {
        /// How many.
        bytes: u64,
    },
}
