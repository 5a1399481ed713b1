//! What the server counts, in Prometheus' text format.
//!
//! These are counts of requests as the server sees them. What only the engine knows (its queue, KV
//! blocks, prefix hits, preemptions) belongs into [`Metrics::render`] too, from a snapshot that the
//! engine gives.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zse::{FinishReason, Finished};

use crate::state::Served;

/// Upper bounds of the buckets of all times, in seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Counts since the start, and gauges.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    answered: Mutex<BTreeMap<(String, u16), u64>>,
    /// Requests that have no token yet, and that have.
    pub(crate) waiting: AtomicI64,
    pub(crate) running: AtomicI64,
    /// Tokens that running requests hold in the KV cache.
    pub(crate) kv_tokens: AtomicI64,
    prompt_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
    first_token: Histogram,
    per_token: Histogram,
    queued: Histogram,
}

/// Counts of times by bucket.
#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BUCKETS.iter().position(|&bound| seconds <= bound);
        self.counts[bucket.unwrap_or(BUCKETS.len())].fetch_add(1, Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
    }

    fn render(&self, name: &str, help: &str, out: &mut String) {
        head(name, "histogram", help, out);
        let mut total = 0;
        for (count, bound) in self.counts.iter().zip(&BUCKETS) {
            total += count.load(Relaxed);
            line(out, format_args!("{name}_bucket{{le=\"{bound}\"}} {total}"));
        }
        total += self.counts[BUCKETS.len()].load(Relaxed);
        line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {total}"));
        let seconds = self.micros.load(Relaxed) as f64 / 1e6;
        line(out, format_args!("{name}_sum {seconds}"));
        line(out, format_args!("{name}_count {total}"));
    }
}

fn head(name: &str, kind: &str, help: &str, out: &mut String) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// A prompt was computed.
    pub(crate) fn prompt(&self, tokens: usize) {
        self.prompt_tokens.fetch_add(tokens as u64, Relaxed);
    }

    /// A continuation ended.
    pub(crate) fn finished(&self, finished: &Finished) {
        let tokens = finished.usage.completion_tokens;
        self.generated_tokens.fetch_add(tokens as u64, Relaxed);
        match finished.reason {
            FinishReason::Failed(_) => _ = self.failed.fetch_add(1, Relaxed),
            FinishReason::Cancelled => {}
            _ => {
                let timings = &finished.timings;
                self.queued.observe(timings.queued);
                self.first_token.observe(timings.time_to_first_token());
                if let Some(steps @ 1..) = u32::try_from(tokens).ok().and_then(|n| n.checked_sub(1))
                {
                    self.per_token.observe(timings.decode / steps);
                }
            }
        }
    }

    /// A client went away before its answer was complete.
    pub(crate) fn abandoned(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    /// All of it.
    pub(crate) fn render(&self, models: &[Served]) -> String {
        let mut out = String::new();
        let name = "zse_http_requests_total";
        head(
            name,
            "counter",
            "Requests answered, by route and status.",
            &mut out,
        );
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), count) in &*answered {
            line(
                &mut out,
                format_args!("{name}{{route=\"{route}\",status=\"{status}\"}} {count}"),
            );
        }
        drop(answered);
        for (name, help, count) in [
            (
                "zse_prompt_tokens_total",
                "Tokens of prompts.",
                &self.prompt_tokens,
            ),
            (
                "zse_generated_tokens_total",
                "Tokens drawn.",
                &self.generated_tokens,
            ),
            (
                "zse_requests_abandoned_total",
                "Generations whose client went away.",
                &self.cancelled,
            ),
            (
                "zse_requests_failed_total",
                "Continuations that failed.",
                &self.failed,
            ),
        ] {
            head(name, "counter", help, &mut out);
            line(&mut out, format_args!("{name} {}", count.load(Relaxed)));
        }
        let capacity: f64 = models
            .iter()
            .map(|model| model.engine.limits().kv_tokens as f64)
            .sum();
        let usage = self.kv_tokens.load(Relaxed) as f64 / capacity;
        // The names that Kubernetes' inference gateway reads.
        for (name, help, value) in [
            (
                "vllm:num_requests_waiting",
                "Requests without a token yet.",
                self.waiting.load(Relaxed) as f64,
            ),
            (
                "vllm:num_requests_running",
                "Requests that are being generated.",
                self.running.load(Relaxed) as f64,
            ),
            (
                "vllm:kv_cache_usage_perc",
                "Share of the KV cache that running requests hold, from 0 to 1.",
                usage.min(1.0),
            ),
        ] {
            head(name, "gauge", help, &mut out);
            line(&mut out, format_args!("{name} {value}"));
        }
        for (name, help, histogram) in [
            (
                "zse_queue_seconds",
                "From a request to its first step.",
                &self.queued,
            ),
            (
                "zse_time_to_first_token_seconds",
                "From a request to its first token.",
                &self.first_token,
            ),
            (
                "zse_time_per_output_token_seconds",
                "Mean time between the tokens of a continuation.",
                &self.per_token,
            ),
        ] {
            histogram.render(name, help, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_add_up() {
        let histogram = Histogram::default();
        for millis in [1, 3, 3, 100_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = String::new();
        histogram.render("t", "Time.", &mut out);
        for wanted in [
            "# TYPE t histogram",
            "t_bucket{le=\"0.001\"} 1\n",
            "t_bucket{le=\"0.005\"} 3\n",
            "t_bucket{le=\"60\"} 3\n",
            "t_bucket{le=\"+Inf\"} 4\n",
            "t_sum 100.007\n",
            "t_count 4\n",
        ] {
            assert!(out.contains(wanted), "{wanted}: {out}");
        }
    }
}
