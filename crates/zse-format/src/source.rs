//! The bytes of a file: mapped, static or owned. The only `unsafe` of this crate.
#![expect(unsafe_code, reason = "mapping a file, and advice on its pages")]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::FormatError;

/// Bytes that stay where they are while the source lives, and the name to blame in errors.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Map(Mmap, File),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Source {
    /// Maps a regular file read-only.
    pub(crate) fn map(path: &Path) -> Result<Self, FormatError> {
        let name = path.display().to_string();
        let failed = |action| {
            let file = name.clone();
            move |source| FormatError::Io {
                file,
                action,
                source,
            }
        };
        // Opening a FIFO would block and mapping a directory fails obscurely: look first.
        if !fs::metadata(path).map_err(failed("open"))?.is_file() {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(failed("open")(reason));
        }
        let file = File::open(path).map_err(failed("open"))?;
        // SAFETY: the map is read-only and private to this process. What Rust asks beyond that,
        // that nobody changes the file meanwhile, no program can ensure; like every engine that
        // maps models we require it of the user. Should it happen, the code that reads metadata
        // later than `open` checks every length again and cannot leave the slice.
        let map = unsafe { Mmap::map(&file) }.map_err(failed("map"))?;
        Ok(Self {
            name,
            backing: Backing::Map(map, file),
        })
    }

    pub(crate) fn from_static(bytes: &'static [u8], name: &str) -> Self {
        Self {
            name: name.to_owned(),
            backing: Backing::Static(bytes),
        }
    }

    pub(crate) fn from_vec(bytes: Vec<u8>, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            backing: Backing::Owned(bytes),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.backing {
            Backing::Map(map, _) => map,
            Backing::Static(bytes) => bytes,
            Backing::Owned(bytes) => bytes,
        }
    }

    /// Whether the bytes are a map, whose pages can be released.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.backing, Backing::Map(..))
    }

    /// Copies the bytes from `start` on: of a file by reading it, which maps no pages.
    pub(crate) fn read_at(&self, start: usize, to: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        if let Backing::Map(_, file) = &self.backing {
            use std::os::unix::fs::FileExt;
            return file.read_exact_at(to, start as u64);
        }
        to.copy_from_slice(&self.bytes()[start..start + to.len()]);
        Ok(())
    }

    /// Has the operating system read the first `len` bytes of a file that it does not have in memory.
    pub(crate) fn prefetch(&self, len: usize) {
        #[cfg(unix)]
        if let Backing::Map(map, _) = &self.backing {
            // Only advice, as below.
            drop(map.advise_range(memmap2::Advice::WillNeed, 0, len.min(map.len())));
        }
        #[cfg(not(unix))]
        drop(len);
    }

    /// Tells the operating system that the pages of `range` are not needed for now. They are read
    /// from the file again when touched. Does nothing where the bytes are not a map.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Backing::Map(map, _) = &self.backing
            && !range.is_empty()
            && range.end <= map.len()
        {
            // SAFETY: `DontNeed` may change bytes only where a page differs from its file; this
            // map is read-only, so none does and every later read sees the same bytes as before.
            let advised = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
            // Only advice: a kernel that does not take it keeps the pages, and nothing is wrong.
            drop(advised);
        }
        #[cfg(not(unix))]
        drop(range);
    }
}
