//! The GGUF format: reading headers ([`header`]), finding a split model's files ([`split`]) and
//! writing ([`write`](mod@write)).

pub(crate) mod cursor;
pub(crate) mod header;
pub(crate) mod split;
pub(crate) mod write;

/// What a GGUF file may hold here; more is refused. All real files are far below.
pub mod limits {
    /// Bytes of a metadata key: the format's own limit.
    pub const MAX_KEY_BYTES: u64 = 65_535;
    /// Metadata entries of a file.
    pub const MAX_METADATA: u64 = 1 << 16;
    /// Levels of arrays within arrays.
    pub const MAX_NESTING: u32 = 8;
    /// Tensors of a file.
    pub const MAX_TENSORS: u64 = 1 << 16;
    /// Bytes of a tensor's name (ggml itself reads up to 63).
    pub const MAX_NAME_BYTES: u64 = 1024;
    /// Dimensions of a tensor: ggml's own limit.
    pub const MAX_DIMS: u32 = 4;
}

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
pub(crate) const DEFAULT_ALIGNMENT: u32 = 32;
