//! Memory for what is read from end to end again and again: weights.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Zeroed memory that starts at a page, in huge pages where the system gives them: with small ones
/// a core that streams gigabytes waits for the page table too.
pub(crate) struct Pages(MmapMut);

impl Pages {
    /// `len` bytes, which take up memory as they are written.
    ///
    /// # Errors
    /// If the system does not give so many.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len)?;
        // Systems without huge pages refuse, and small ones do as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_starts_at_a_page() {
        for len in [1, 4096, (4 << 20) + 5] {
            let mut pages = Pages::zeroed(len).unwrap();
            assert_eq!(pages.len(), len);
            assert!(pages.iter().all(|&b| b == 0));
            assert_eq!(pages.as_ptr().align_offset(4096), 0);
            pages.fill(7);
            assert_eq!(pages[len - 1], 7);
        }
        assert!(Pages::zeroed(usize::MAX / 2).is_err());
    }
}
