//! The `.zse` format, version 1: a model converted once, so that opening it is a map and nothing
//! else. `docs/format.md` specifies every byte; this module reads ([`read`]) and writes
//! ([`write`](mod@write)) it.
//!
//! ```text
//! prelude, 64 bytes | header: JSON | metadata, as in GGUF | padding | tensor data by layer group
//! ```

pub(crate) mod index;
pub(crate) mod read;
pub(crate) mod write;

/// The first bytes. The high bit and the line ends show a transfer that took the file for text.
pub(crate) const MAGIC: [u8; 8] = *b"\x89ZSE\r\n\x1a\n";
/// The version that is read and written.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the header.
pub(crate) const PRELUDE: usize = 64;

/// Bytes to whose multiples layer groups are aligned: a page, so that a group can be mapped, asked
/// for, read directly (`O_DIRECT`) and let go of by itself. Not a huge page: no filesystem maps
/// files by 2 MiB, and the padding would come to 80 MB in a model of 80 layers.
pub(crate) const GROUP_ALIGNMENT: u64 = 4096;
/// Bytes to whose multiples tensors are aligned: a cache line, and a vector of AVX-512.
pub(crate) const TENSOR_ALIGNMENT: u64 = 64;

/// Bytes of a header; more is refused. Eight times what 2^16 tensors take.
pub(crate) const MAX_HEADER_BYTES: u64 = 1 << 27;
