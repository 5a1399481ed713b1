//! A tensor's bytes: those of a file, or made of a file's when someone asks for them.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
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

/// How bytes that no file has are made of a file's.
pub(crate) trait Make: fmt::Debug + Send + Sync {
    /// The bytes.
    fn make(&self) -> Vec<u8>;

    /// Lets go of the pages of the file that they are made of.
    fn release(&self);
}

/// A recipe, and its bytes while they are in use.
#[derive(Debug)]
pub(crate) struct Made {
    recipe: Box<dyn Make>,
    kept: Mutex<Option<Arc<Vec<u8>>>>,
}

impl Made {
    pub(crate) fn new(recipe: impl Make + 'static) -> Self {
        Self {
            recipe: Box::new(recipe),
            kept: Mutex::new(None),
        }
    }

    fn bytes(&self) -> Arc<Vec<u8>> {
        // The lock is held while bytes are made: who asks meanwhile waits for the same ones.
        let mut kept = self.kept();
        let bytes = kept.get_or_insert_with(|| {
            let made = Arc::new(self.recipe.make());
            self.recipe.release();
            made
        });
        Arc::clone(bytes)
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
