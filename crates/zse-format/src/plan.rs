//! Where the parts of a file to be written go, known before any of it is.

use std::ops::Range;

/// A file's size, its first bytes, and where each tensor's data goes: for who writes them in an
/// order of his own, or goes on after an interruption. What lies between is zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlan {
    /// What comes before the tensor data.
    pub header: Vec<u8>,
    /// The bytes of each tensor in the file, in the order in which they were declared: ascending.
    pub tensors: Vec<Range<u64>>,
    /// Bytes of the whole file.
    pub bytes: u64,
}
