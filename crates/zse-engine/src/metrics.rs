//! What an engine counts and measures.

use std::time::Duration;

/// A snapshot of an engine. Counts go on from the start of the engine and never fall.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Sequences that wait: for their first step, or to go on after they gave way to others.
    pub waiting: usize,
    /// Sequences that run, those that pause because nobody reads what they gave included.
    pub running: usize,
    /// KV blocks; 0 for a model that keeps no keys and values.
    pub kv_blocks: usize,
    /// Those that running sequences hold.
    pub kv_blocks_used: usize,
    /// Those that nobody holds and the prefix cache knows.
    pub kv_blocks_cached: usize,
    /// Blocks that the prefix cache knows and that are swapped: not among `kv_blocks`.
    pub kv_blocks_swapped: usize,
    /// Swapped blocks that were asked for and brought back.
    pub kv_blocks_restored: u64,
    /// How often swapped blocks could not be written or read; then they are computed again.
    pub swap_failures: u64,
    /// How often the executor was made anew because its device had failed.
    pub rebuilds: u64,
    /// Steps.
    pub steps: u64,
    /// Requests taken in.
    pub requests: u64,
    /// Requests that were refused because too many waited.
    pub refused: u64,
    /// Sequences that ended by themselves.
    pub completed: u64,
    /// Sequences that their callers cancelled.
    pub cancelled: u64,
    /// Sequences that failed.
    pub failed: u64,
    /// Tokens of the prompts of requests that have started, found in the prefix cache or not.
    pub prompt_tokens: u64,
    /// Tokens drawn.
    pub generated_tokens: u64,
    /// Tokens of prompts that were looked up in the prefix cache.
    pub prefix_queried_tokens: u64,
    /// Those that were found there.
    pub prefix_found_tokens: u64,
    /// How often a sequence gave its blocks to another and had to start again.
    pub preemptions: u64,
    /// From a request to the first step of each of its sequences.
    pub queue_time: Histogram,
    /// From a request to the first token of each of its sequences.
    pub time_to_first_token: Histogram,
    /// From each token of a sequence to the next.
    pub time_between_tokens: Histogram,
}

impl Metrics {
    /// Share of the KV blocks that running sequences hold, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        match self.kv_blocks {
            0 => 0.0,
            all => self.kv_blocks_used as f64 / all as f64,
        }
    }
}

/// How often a time was how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many were at most as long as each of [`BOUNDS`](Self::BOUNDS) and longer than the one
    /// before, and how many were longer than all.
    counts: [u64; Self::BOUNDS.len() + 1],
    /// All of them together, in seconds.
    sum: f64,
}

impl Histogram {
    /// Upper ends of the buckets, in seconds.
    pub const BOUNDS: [f64; 17] = [
        0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
        30.0, 60.0,
    ];

    /// Takes in a time.
    pub(crate) fn observe(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|&bound| bound < time);
        self.counts[bucket] += 1;
        self.sum += time;
    }

    /// How many times there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All times together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Upper ends of the buckets in seconds, the last one infinite, each with how many times were at
    /// most so long: as Prometheus counts.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = Self::BOUNDS.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        });
        bounds.zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_their_ends_belong_to_them() {
        let mut histogram = Histogram::default();
        for ms in [0, 1, 2, 10, 10, 61_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(
            buckets[..4],
            [(0.001, 2), (0.0025, 3), (0.005, 3), (0.01, 5)]
        );
        assert_eq!(buckets[16..], [(60.0, 5), (f64::INFINITY, 6)]);
        assert_eq!(histogram.count(), 6);
        assert!((histogram.sum() - 61.023).abs() < 1e-9);
        assert!(Histogram::BOUNDS.is_sorted());
    }
}
