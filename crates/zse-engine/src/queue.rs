//! How many requests wait for their first step, and how long that may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The shortest and the longest time after which to try again.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What the engine and its handles see of the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    /// Most requests that may wait.
    limit: usize,
    /// Sequences that are served at the same time.
    sequences: u32,
    /// Running mean of the time that a request takes once it has started, in microseconds.
    service: AtomicU64,
    refused: AtomicU64,
}

/// A place in the queue; it is given up when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Queue>);

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) waiting: usize,
    /// After which time there may be one.
    pub(crate) retry_after: Duration,
}

impl Queue {
    pub(crate) fn new(limit: usize, sequences: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            limit,
            sequences: sequences.clamp(1, u32::MAX as usize) as u32,
            service: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// A place for one more.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, Full> {
        let enter = |waiting| (waiting < self.limit).then_some(waiting + 1);
        match self.waiting.fetch_update(Relaxed, Relaxed, enter) {
            Ok(_) => Ok(Place(Arc::clone(self))),
            Err(waiting) => {
                self.refused.fetch_add(1, Relaxed);
                Err(Full {
                    waiting,
                    retry_after: self.retry_after(waiting),
                })
            }
        }
    }

    /// Notes that a request took `time` from its start to its end.
    pub(crate) fn note_served(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mean = match self.service.load(Relaxed) {
            0 => time,
            mean => mean - mean / 8 + time / 8,
        };
        self.service.store(mean, Relaxed);
    }

    /// How many found no place.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// When those who wait now will have been served, going by how long that took lately.
    fn retry_after(&self, waiting: usize) -> Duration {
        let service = Duration::from_micros(self.service.load(Relaxed));
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let time = service.saturating_mul(waiting) / self.sequences;
        time.clamp(RETRY[0], RETRY[1])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_may_wait() {
        let queue = Queue::new(2, 4);
        let places = [queue.enter().unwrap(), queue.enter().unwrap()];
        let full = queue.enter().unwrap_err();
        assert_eq!((full.waiting, full.retry_after), (2, RETRY[0]));
        drop(places);
        assert_eq!(queue.waiting(), 0);
        assert!(queue.enter().is_ok());
        assert!(Queue::new(0, 1).enter().is_err());
    }

    #[test]
    fn the_wait_is_told_by_what_requests_took_and_bounded() {
        let queue = Queue::new(8, 4);
        (0..100).for_each(|_| queue.note_served(Duration::from_secs(10)));
        assert_eq!(queue.retry_after(8), Duration::from_secs(20));
        assert_eq!(queue.retry_after(0), RETRY[0]);
        (0..100).for_each(|_| queue.note_served(Duration::from_secs(1000)));
        assert_eq!(queue.retry_after(8), RETRY[1]);
        queue.note_served(Duration::MAX);
        assert_eq!(queue.retry_after(usize::MAX), RETRY[1]);
    }
}
