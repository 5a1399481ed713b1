//! How long this thread ran.

use std::fs;
use std::time::Duration;

/// Measures the time that this thread itself ran, so that a busy machine does not count. Where the
/// system does not tell (it does on Linux), nothing is measured.
pub(crate) struct Watch {
    pub(crate) start: Option<Duration>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { start: time_run() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let both = self.start.zip(time_run());
        both.map_or(Duration::ZERO, |(start, end)| end - start)
    }
}

fn time_run() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = stat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}
