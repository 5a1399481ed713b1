//! Part of a file, kept open by itself.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::source::Source;

/// Bytes of a file, which stay mapped for as long as this lives.
#[derive(Clone)]
pub struct FileBytes {
    source: Arc<Source>,
    range: Range<usize>,
}

impl FileBytes {
    /// The bytes `range` of `source`, which has them.
    pub(crate) fn new(source: Arc<Source>, range: Range<usize>) -> Self {
        Self { source, range }
    }

    /// Gives the memory of these bytes back to the operating system; see
    /// [`Checkpoint::release_pages`](crate::Checkpoint::release_pages).
    pub(crate) fn release(&self) {
        self.source.release(self.range.clone());
    }

    /// A part of these bytes.
    ///
    /// # Panics
    /// If `range` leaves them, as indexing a slice does.
    pub fn slice(mut self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.range.len(),
            "{range:?} is no part of {} bytes",
            self.range.len()
        );
        let start = self.range.start;
        self.range = start + range.start..start + range.end;
        self
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.source.bytes()[self.range.clone()]
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.range, self.source.name())
    }
}
