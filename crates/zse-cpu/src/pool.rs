//! One pool of worker threads for the whole process, one step at a time.
//!
//! A step of a model is some hundred short parallel *regions*: `n` chunks of one operation.
//! The thread that runs the step works too. Chunks are claimed one by one, so a worker that is
//! late or busy elsewhere delays nobody: a region ends when its chunks are done, whoever did
//! them. Between regions workers spin briefly, then sleep, so that an idle engine costs nothing
//! and the server's own threads are not starved.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a worker spins for the next region before it sleeps.
const SPIN: Duration = Duration::from_micros(100);

/// How long it spins without letting others go first. The next region of a step comes sooner; between
/// steps, threads that send what a step gave may wait for this core, and the system would let them
/// wait for milliseconds.
const ALONE: Duration = Duration::from_micros(10);

/// Chunks in a region and threads in a step are kept in 32 bits each.
const CHUNK_BITS: u32 = 32;

/// A region's work.
#[derive(Clone, Copy)]
struct Job {
    chunks: usize,
    /// Runs a chunk. The lifetime is erased: see the SAFETY comment in [`Step::run`].
    run: *const (dyn Fn(usize) + Sync),
}

/// What the threads share.
struct Shared {
    /// Number of the first worker that may not take part, and chunks still to be claimed.
    open: AtomicU64,
    /// Chunks that are done.
    done: AtomicUsize,
    /// Written only while no chunk is open or being worked on.
    job: UnsafeCell<Option<Job>>,
    /// The first panic of the region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A worker, as those see it who may have to wake it.
struct Worker {
    /// Whether it sleeps or is about to.
    asleep: Arc<AtomicBool>,
    thread: Thread,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written by the one thread
// that holds the step, at a time when no chunk is open or being worked on, and read by a thread
// only between claiming a chunk and reporting it done; `open` and `done` order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure, which may be called from any thread.
unsafe impl Send for Shared {}

/// The process's worker threads.
pub(crate) struct Pool {
    shared: &'static Shared,
    /// Workers started so far, from number 1 on; held for the length of a step.
    workers: Mutex<Vec<Worker>>,
}

/// The right to run regions, on up to `threads` threads, until dropped.
pub(crate) struct Step<'a> {
    shared: &'static Shared,
    threads: usize,
    /// Whether a region is running.
    busy: AtomicBool,
    workers: MutexGuard<'a, Vec<Worker>>,
}

/// How many threads this process may run at once, by affinity and cgroup limits.
pub(crate) fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Pool {
    /// The pool.
    pub(crate) fn global() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(|| Self {
            // Workers live as long as the process, and so does what they share.
            shared: Box::leak(Box::new(Shared {
                open: AtomicU64::new(0),
                done: AtomicUsize::new(0),
                job: UnsafeCell::new(None),
                panic: Mutex::new(None),
            })),
            workers: Mutex::new(Vec::new()),
        })
    }

    /// Waits until no other step runs, and starts one on `threads` threads, the caller's
    /// included. Workers are started as they are first needed; where the system refuses, the
    /// step runs on fewer.
    pub(crate) fn step(&self, threads: usize) -> Step<'_> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        while workers.len() + 1 < threads {
            let (shared, index) = (self.shared, workers.len() + 1);
            let asleep = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&asleep);
            let worker = std::thread::Builder::new().name(format!("zse-cpu-{index}"));
            let Ok(handle) = worker.spawn(move || shared.work(index, &seen)) else {
                break;
            };
            let thread = handle.thread().clone();
            workers.push(Worker { asleep, thread });
        }
        Step {
            shared: self.shared,
            threads: threads.clamp(1, u32::MAX as usize),
            busy: AtomicBool::new(false),
            workers,
        }
    }
}

impl Step<'_> {
    /// Threads of the step.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `run` once for each of `0..chunks`, on any thread, in any order, and returns when
    /// all calls have.
    ///
    /// # Panics
    /// With the panic of a call, after all others have returned; if a region of several chunks is
    /// running, as it is for whoever is called by one.
    pub(crate) fn run(&self, chunks: usize, run: &(dyn Fn(usize) + Sync)) {
        if chunks <= 1 {
            (0..chunks).for_each(run);
            return;
        }
        assert!(chunks < 1 << CHUNK_BITS, "too many chunks in a region");
        let _region = Region::enter(&self.busy);
        if self.threads == 1 {
            (0..chunks).for_each(run);
            return;
        }
        let run: *const (dyn Fn(usize) + Sync + '_) = run;
        // SAFETY: only the lifetime changes. The pointer is used by threads that have claimed a
        // chunk, and this function returns only when all claimed chunks are done.
        let run: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(run) };
        // SAFETY: there is one step at a time, and `_region` is its only region: no chunk is open
        // or being worked on, so nobody reads or writes `job`.
        unsafe { *self.shared.job.get() = Some(Job { chunks, run }) };
        self.shared.done.store(0, Ordering::Relaxed);
        self.publish(chunks);
        while self.shared.claim(0) {}
        let mut spins = 0u32;
        while self.shared.done.load(Ordering::Acquire) != chunks {
            spins += 1;
            if spins.is_multiple_of(1 << 10) {
                // A worker that lost its core needs ours to finish.
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let panic = self
            .shared
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Opens a region's chunks and wakes those workers of the step that sleep.
    fn publish(&self, chunks: usize) {
        let open = ((self.threads as u64) << CHUNK_BITS) | chunks as u64;
        // In one total order with `asleep`: either a worker sees the chunks, or it is seen to
        // sleep here.
        self.shared.open.store(open, Ordering::SeqCst);
        for worker in self.workers.iter().take(self.threads - 1) {
            if worker.asleep.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
    }
}

/// The one region of a step that runs, until dropped.
struct Region<'a>(&'a AtomicBool);

impl<'a> Region<'a> {
    fn enter(busy: &'a AtomicBool) -> Self {
        let other = busy.swap(true, Ordering::Acquire);
        assert!(!other, "a region within or beside another of the same step");
        Self(busy)
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Shared {
    /// Whether worker `index` could claim a chunk now.
    fn has_work(&self, index: usize) -> bool {
        let open = self.open.load(Ordering::SeqCst);
        (index as u64) < open >> CHUNK_BITS && open as u32 > 0
    }

    /// Claims a chunk and runs it; false if none is open to worker `index`.
    fn claim(&self, index: usize) -> bool {
        let mut open = self.open.load(Ordering::Relaxed);
        loop {
            if index as u64 >= open >> CHUNK_BITS || open as u32 == 0 {
                return false;
            }
            // Succeeds only if `open` is what was seen: then the chunk is of the current region,
            // even if that is not the one of a moment ago.
            let claimed = self.open.compare_exchange_weak(
                open,
                open - 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match claimed {
                Ok(_) => break,
                Err(now) => open = now,
            }
        }
        // SAFETY: this thread has claimed a chunk that is not yet done, so the region lasts and
        // `job` is not written; claiming synchronizes with `publish`.
        let job = unsafe { *self.job.get() }.expect("a region with open chunks has a job");
        let chunk = job.chunks - open as u32 as usize;
        // SAFETY: the region lasts until this chunk is reported done, and with it the closure.
        let run = unsafe { &*job.run };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(chunk))) {
            self.panic
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    /// The life of worker `index`.
    fn work(&self, index: usize, asleep: &AtomicBool) -> ! {
        loop {
            while self.claim(index) {}
            let idle = Instant::now();
            while !self.has_work(index) {
                match idle.elapsed() {
                    long if long > SPIN => {
                        self.sleep(index, asleep);
                        break;
                    }
                    long if long > ALONE => std::thread::yield_now(),
                    _ => (0..32).for_each(|_| std::hint::spin_loop()),
                }
            }
        }
    }

    /// Sleeps until there is work for worker `index`.
    fn sleep(&self, index: usize, asleep: &AtomicBool) {
        asleep.store(true, Ordering::SeqCst);
        while !self.has_work(index) {
            // Returns at once if this thread was woken since it last slept.
            std::thread::park();
        }
        asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for threads in 1..=5 {
            let step = Pool::global().step(threads);
            for chunks in [0, 1, 2, 3, 17, 1000] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                step.run(chunks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_comes_back_and_the_pool_goes_on() {
        for _ in 0..50 {
            let step = Pool::global().step(3);
            let result = catch_unwind(AssertUnwindSafe(|| {
                step.run(20, &|i| assert_ne!(i, 7, "chunk seven"));
            }));
            assert!(result.is_err());
            let sum = AtomicUsize::new(0);
            step.run(100, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_region_within_or_beside_another_is_refused() {
        for threads in [1, 3] {
            let step = Pool::global().step(threads);
            let inner = || catch_unwind(AssertUnwindSafe(|| step.run(2, &|_| {})));
            let refused = AtomicUsize::new(0);
            step.run(20, &|_| {
                refused.fetch_add(usize::from(inner().is_err()), Ordering::Relaxed);
                // By itself a chunk needs nobody.
                step.run(1, &|_| {});
            });
            assert_eq!(refused.into_inner(), 20);
            assert!(inner().is_ok());
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        for _ in 0..3 {
            let step = Pool::global().step(4);
            let seen = Mutex::new(std::collections::HashSet::new());
            // Four chunks that wait for each other: all four threads must come.
            let barrier = std::sync::Barrier::new(4);
            step.run(4, &|_| {
                barrier.wait();
                seen.lock().unwrap().insert(std::thread::current().id());
            });
            assert_eq!(seen.into_inner().unwrap().len(), 4);
            drop(step);
            std::thread::sleep(SPIN * 4);
        }
    }

    #[test]
    fn steps_of_several_threads_take_turns() {
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        Pool::global().step(2).run(8, &|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 50 * 8);
    }
}
