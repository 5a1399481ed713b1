//! Slices that several threads write at once, each its own part.

use std::marker::PhantomData;

use crate::pool::Step;

/// Work below which a region is not split: about the time that handing out chunks takes.
const MIN_CHUNK_WORK: usize = 8 << 10;

/// Chunks a thread, so that a thread that falls behind delays the others little.
const CHUNKS_PER_THREAD: usize = 4;

/// A slice that threads write to, each element at most one thread.
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    _slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out exclusive parts of a slice, as `split_at_mut` would; `T: Send` lets the
// parts go to other threads.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Borrows `slice` for as long as parts of it are written.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            _slice: PhantomData,
        }
    }

    /// The part that starts at `from` and has `len` elements.
    ///
    /// # Panics
    /// If it is not within the slice.
    ///
    /// # Safety
    /// No element of it may be in a part that is in use at the same time.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the caller keeps parts disjoint")]
    pub(crate) unsafe fn part(&self, from: usize, len: usize) -> &mut [T] {
        assert!(
            from <= self.len && len <= self.len - from,
            "part of a slice out of bounds"
        );
        // SAFETY: within the slice by the assertion; exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

/// Calls `run(first, part)` for parts of `data` of `part_len` elements (the last may be shorter),
/// in parallel; `first` is the number of the part's first element.
pub(crate) fn for_parts<T: Send>(
    step: &Step<'_>,
    data: &mut [T],
    part_len: usize,
    run: impl Fn(usize, &mut [T]) + Sync,
) {
    let len = data.len();
    if part_len == 0 {
        return;
    }
    let shared = SharedSlice::new(data);
    step.run(len.div_ceil(part_len), &|i| {
        let first = i * part_len;
        // SAFETY: each chunk number is handed out once, and parts of different numbers are
        // disjoint.
        let part = unsafe { shared.part(first, part_len.min(len - first)) };
        run(first, part);
    });
}

/// Items of a chunk, for `items` that take `work` multiply-adds or bytes each.
pub(crate) fn chunk_len(step: &Step<'_>, items: usize, work: usize) -> usize {
    let fair = items.div_ceil(step.threads() * CHUNKS_PER_THREAD);
    let least = MIN_CHUNK_WORK.div_ceil(work.max(1));
    fair.max(least)
}
