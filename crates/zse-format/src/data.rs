//! A tensor's bytes: those of a file, or made of a file's when someone asks for them.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::Source;

/// The bytes of a tensor, or of some of its rows; [`bytes`](Self::bytes) gives them to read.
///
/// A file may store a weight in another form than the one in which ZSE computes with it (FP8 with
/// scales, experts one by one, heads in another order). Such bytes are made when they are first
/// asked for, and kept until [`Checkpoint::release_pages`](crate::Checkpoint::release_pages).
#[derive(Clone, Copy, Debug)]
pub struct TensorData<'a> {
    origin: Origin<'a>,
    start: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
enum Origin<'a> {
    File(&'a Source, &'a [u8]),
    Made(&'a Made),
}

impl<'a> TensorData<'a> {
    /// The bytes `range` of `source`.
    pub(crate) fn of_file(source: &'a Source, range: Range<usize>) -> Self {
        Self {
            start: 0,
            len: range.len(),
            origin: Origin::File(source, &source.bytes()[range]),
        }
    }

    pub(crate) fn made(made: &'a Made, len: usize) -> Self {
        Self {
            origin: Origin::Made(made),
            start: 0,
            len,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the bytes are in no file, and take memory of their own while they are in use.
    pub fn is_made(&self) -> bool {
        matches!(self.origin, Origin::Made(_))
    }

    /// A part of these bytes.
    ///
    /// # Panics
    /// If `range` leaves them, as indexing a slice does.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} is no part of {} bytes",
            self.len
        );
        Self {
            start: self.start + range.start,
            len: range.len(),
            ..*self
        }
    }

    /// The bytes, which are made now if they are in no file and nobody has asked before.
    pub fn bytes(&self) -> TensorBytes<'a> {
        let range = self.start..self.start + self.len;
        TensorBytes(match self.origin {
            Origin::File(_, bytes) => Held::File(&bytes[range]),
            Origin::Made(made) => Held::Made(made.bytes(), range),
        })
    }

    /// The bytes `range`, which are whole rows. Those that are in no file are made alone, and not kept:
    /// who goes through a tensor piece by piece has a piece of it in memory.
    ///
    /// # Panics
    /// If `range` leaves these bytes, as indexing a slice does.
    pub fn piece(&self, range: Range<usize>) -> TensorBytes<'a> {
        let part = self.slice(range);
        match part.origin {
            Origin::File(..) => part.bytes(),
            Origin::Made(made) => TensorBytes(made.piece(part.start..part.start + part.len)),
        }
    }

    /// Copies the bytes, `len` of them. Those of a file are read without mapping its pages, which is faster
    /// where they are needed once, and a file that was cut short meanwhile is an error.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If there is room for more or fewer.
    pub fn copy_to(&self, to: &mut [u8]) -> io::Result<()> {
        assert_eq!(to.len(), self.len, "room for the bytes");
        match self.origin {
            Origin::File(source, bytes) => {
                let offset = bytes.as_ptr().addr() - source.bytes().as_ptr().addr();
                source.read_at(offset + self.start, to)
            }
            Origin::Made(_) => {
                to.copy_from_slice(&self.bytes());
                Ok(())
            }
        }
    }

    /// The bytes where they are a file's.
    pub(crate) fn in_file(&self) -> Option<&'a [u8]> {
        match self.origin {
            Origin::File(_, bytes) => Some(&bytes[self.start..self.start + self.len]),
            Origin::Made(_) => None,
        }
    }
}

/// Bytes to read, which stay in memory for as long as this lives; a slice by `Deref`.
#[derive(Clone)]
pub struct TensorBytes<'a>(Held<'a>);

#[derive(Clone)]
enum Held<'a> {
    File(&'a [u8]),
    Made(Arc<Vec<u8>>, Range<usize>),
}

impl<'a> TensorBytes<'a> {
    pub(crate) fn of_file(bytes: &'a [u8]) -> Self {
        Self(Held::File(bytes))
    }
}

impl Deref for TensorBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::File(bytes) => bytes,
            Held::Made(bytes, range) => &bytes[range.clone()],
        }
    }
}

impl AsRef<[u8]> for TensorBytes<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for TensorBytes<'_> {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl fmt::Debug for TensorBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// How bytes that no file has are made of a file's. Ranges are of whole rows.
pub(crate) trait Make: fmt::Debug + Send + Sync {
    /// Number of all bytes.
    fn len(&self) -> usize;

    /// The bytes `range`.
    fn make(&self, range: Range<usize>) -> Vec<u8>;

    /// Lets go of the pages of the file that only the bytes `range` are made of, and of those that all
    /// are made of once the last are.
    fn release(&self, range: Range<usize>);
}

/// The rows of each matrix that `range` takes from matrices of `rows` rows, which stand one behind the
/// other.
pub(crate) fn rows_of(
    range: Range<usize>,
    row_bytes: usize,
    rows: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let row = |byte: usize| {
        debug_assert!(
            byte.is_multiple_of(row_bytes),
            "{range:?}: rows of {row_bytes}"
        );
        byte.checked_div(row_bytes).unwrap_or(0)
    };
    let (first, end) = (row(range.start), row(range.end));
    let matrices = match first < end {
        true => first / rows..end.div_ceil(rows),
        false => 0..0,
    };
    matrices.map(move |matrix| {
        let from = matrix * rows;
        let rows = first.max(from) - from..end.min(from + rows) - from;
        (matrix, rows)
    })
}

/// A recipe, and its bytes while they are in use.
#[derive(Debug)]
pub(crate) struct Made {
    recipe: Box<dyn Make>,
    kept: Mutex<Option<Arc<Vec<u8>>>>,
    /// Most bytes that were made at once.
    most: AtomicUsize,
}

impl Made {
    pub(crate) fn new(recipe: impl Make + 'static) -> Self {
        Self {
            recipe: Box::new(recipe),
            kept: Mutex::new(None),
            most: AtomicUsize::new(0),
        }
    }

    fn bytes(&self) -> Arc<Vec<u8>> {
        // The lock is held while bytes are made: who asks meanwhile waits for the same ones.
        let mut kept = self.kept();
        let bytes = kept.get_or_insert_with(|| self.make(0..self.recipe.len()));
        Arc::clone(bytes)
    }

    /// The bytes `range`: of those that are kept, or made for the caller.
    fn piece(&self, range: Range<usize>) -> Held<'static> {
        let kept = self.kept().clone();
        match kept {
            Some(bytes) => Held::Made(bytes, range),
            None => {
                let len = range.len();
                Held::Made(self.make(range), 0..len)
            }
        }
    }

    fn make(&self, range: Range<usize>) -> Arc<Vec<u8>> {
        let made = self.recipe.make(range.clone());
        self.recipe.release(range);
        self.most.fetch_max(made.len(), Relaxed);
        Arc::new(made)
    }

    /// Most bytes that were made at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Forgets the bytes; who reads them keeps them until then.
    pub(crate) fn release(&self) {
        self.kept().take();
    }

    fn kept(&self) -> MutexGuard<'_, Option<Arc<Vec<u8>>>> {
        // A panic while bytes were made left none.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_matrices() {
        let of = |range| rows_of(range, 10, 4).collect::<Vec<_>>();
        assert_eq!(of(0..40), [(0, 0..4)]);
        assert_eq!(of(20..90), [(0, 2..4), (1, 0..4), (2, 0..1)]);
        assert_eq!(of(50..70), [(1, 1..3)]);
        assert_eq!(of(40..40), []);
        assert_eq!(rows_of(0..0, 0, 4).count(), 0);
    }
}
