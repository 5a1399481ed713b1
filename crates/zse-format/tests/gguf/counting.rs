//! An allocator that knows how much each thread holds, and held at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub(crate) struct Counting;

thread_local! {
    // Without destructors, so that an allocator may use them at any time of a thread's life.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to `System` unchanged, which keeps `GlobalAlloc`'s contract; counting
// touches only thread-local cells and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `block` came from `System` through this allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The result of `work`, and by how many bytes what this thread holds rose while it ran.
pub(crate) fn peak_during<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (
        result,
        u64::try_from(PEAK.get() - before).expect("a peak is not below its start"),
    )
}

#[test]
fn counts_the_peak() {
    let ((), peak) = peak_during(|| {
        drop(vec![0u8; 1000]);
        drop(vec![0u8; 300]);
    });
    assert_eq!(peak, 1000);
}
