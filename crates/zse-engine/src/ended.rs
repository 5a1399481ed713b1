//! Whether an engine's thread has ended, told to those who do not keep it alive.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Tells whether an engine's thread has ended: its model, weights, and keys and values are no longer
/// in memory. Keeps no engine alive.
#[derive(Clone, Debug, Default)]
pub struct Ended(Arc<State>);

#[derive(Debug, Default)]
struct State {
    has_ended: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        *self.lock()
    }

    /// Waits for the end, but not beyond `deadline`; whether it came.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut ended = self.lock();
        while !*ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            let woken = self.0.changed.wait_timeout(ended, left);
            ended = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // A flag cannot be left half written.
        let lock = self.0.has_ended.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of the end when dropped, by a panic too.
#[derive(Debug)]
pub(crate) struct TellEnd(pub(crate) Ended);

impl Drop for TellEnd {
    fn drop(&mut self) {
        *self.0.lock() = true;
        self.0.0.changed.notify_all();
    }
}
