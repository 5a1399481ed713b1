//! What the server and its engines count, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use zse::{Histogram, Metrics as Snapshot};

use crate::models::Status;

/// Counts of what only the server sees, since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    answered: Mutex<BTreeMap<(String, u16), u64>>,
    abandoned: AtomicU64,
}

/// A number of an engine: name, type, what it is, and where it stands.
type Number = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Snapshot) -> f64,
);

/// Numbers of every engine. Those of `vllm:` are what Kubernetes' inference gateway reads.
const NUMBERS: [Number; 16] = [
    (
        "vllm:num_requests_waiting",
        "gauge",
        "Continuations that wait for a step.",
        |m| m.waiting as f64,
    ),
    (
        "vllm:num_requests_running",
        "gauge",
        "Continuations that are being computed.",
        |m| m.running as f64,
    ),
    (
        "vllm:kv_cache_usage_perc",
        "gauge",
        "Share of the KV cache that these hold, from 0 to 1.",
        Snapshot::kv_usage,
    ),
    (
        "zse_prefix_cache_blocks",
        "gauge",
        "KV blocks that are kept for prompts to come.",
        |m| m.kv_blocks_cached as f64,
    ),
    (
        "zse_kv_blocks_swapped",
        "gauge",
        "KV blocks of earlier prompts that are in memory or on disk beside the KV cache.",
        |m| m.kv_blocks_swapped as f64,
    ),
    (
        "zse_kv_blocks_restored_total",
        "counter",
        "KV blocks that came back from there.",
        |m| m.kv_blocks_restored as f64,
    ),
    (
        "zse_kv_swap_failures_total",
        "counter",
        "How often they could not be written or read, and are computed again.",
        |m| m.swap_failures as f64,
    ),
    (
        "zse_executor_rebuilds_total",
        "counter",
        "How often a model was loaded again because its GPU had failed.",
        |m| m.rebuilds as f64,
    ),
    ("zse_kv_blocks", "gauge", "KV blocks in all.", |m| {
        m.kv_blocks as f64
    }),
    (
        "zse_prompt_tokens_total",
        "counter",
        "Tokens of prompts, found in the prefix cache or not.",
        |m| m.prompt_tokens as f64,
    ),
    (
        "zse_generated_tokens_total",
        "counter",
        "Tokens drawn.",
        |m| m.generated_tokens as f64,
    ),
    (
        "zse_prefix_cache_queried_tokens_total",
        "counter",
        "Tokens of prompts that were looked up in the prefix cache.",
        |m| m.prefix_queried_tokens as f64,
    ),
    (
        "zse_prefix_cache_found_tokens_total",
        "counter",
        "Tokens of prompts that were found there.",
        |m| m.prefix_found_tokens as f64,
    ),
    (
        "zse_preemptions_total",
        "counter",
        "Continuations that gave way to others and started again.",
        |m| m.preemptions as f64,
    ),
    (
        "zse_requests_refused_total",
        "counter",
        "Requests refused because too many waited.",
        |m| m.refused as f64,
    ),
    (
        "zse_requests_failed_total",
        "counter",
        "Continuations that failed.",
        |m| m.failed as f64,
    ),
];

/// Times of an engine: name, what they are, and where they stand.
type Times = (&'static str, &'static str, fn(&Snapshot) -> &Histogram);

/// Times of every engine.
const TIMES: [Times; 3] = [
    (
        "zse_queue_seconds",
        "From a request to the first step of a continuation.",
        |m| &m.queue_time,
    ),
    (
        "zse_time_to_first_token_seconds",
        "From a request to the first token of a continuation.",
        |m| &m.time_to_first_token,
    ),
    (
        "zse_time_between_tokens_seconds",
        "From a token of a continuation to the next.",
        |m| &m.time_between_tokens,
    ),
];

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// A client went away before its answer was complete.
    pub(crate) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    /// How many requests were answered.
    pub(crate) fn answers(&self) -> u64 {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.values().sum()
    }

    /// How many clients went away before their answer was complete.
    pub(crate) fn abandonments(&self) -> u64 {
        self.abandoned.load(Relaxed)
    }

    /// All of it.
    pub(crate) fn render(&self, models: &[Status]) -> String {
        let mut out = String::new();
        let name = "zse_http_requests_total";
        let help = "Requests answered, by route and status.";
        head(name, "counter", help, &mut out);
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), count) in &*answered {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            line(&mut out, format_args!("{name}{{{labels}}} {count}"));
        }
        drop(answered);
        let name = "zse_requests_abandoned_total";
        let help = "Generations whose client went away.";
        head(name, "counter", help, &mut out);
        let abandoned = self.abandoned.load(Relaxed);
        line(&mut out, format_args!("{name} {abandoned}"));

        let snapshots: Vec<(String, Snapshot)> = models
            .iter()
            .filter_map(|model| Some((label(&model.name), model.metrics()?)))
            .collect();
        for (name, kind, help, number) in NUMBERS {
            head(name, kind, help, &mut out);
            for (model, snapshot) in &snapshots {
                let value = number(snapshot);
                line(&mut out, format_args!("{name}{{{model}}} {value}"));
            }
        }
        for (name, help, times) in TIMES {
            head(name, "histogram", help, &mut out);
            for (model, snapshot) in &snapshots {
                histogram(name, model, times(snapshot), &mut out);
            }
        }
        out
    }
}

/// The label of a model, escaped as the format asks.
fn label(model: &str) -> String {
    let escaped = model
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("model_name=\"{escaped}\"")
}

fn histogram(name: &str, model: &str, times: &Histogram, out: &mut String) {
    for (bound, count) in times.buckets() {
        let bound = match bound.is_finite() {
            true => bound.to_string(),
            false => "+Inf".to_owned(),
        };
        line(
            out,
            format_args!("{name}_bucket{{{model},le=\"{bound}\"}} {count}"),
        );
    }
    line(out, format_args!("{name}_sum{{{model}}} {}", times.sum()));
    line(
        out,
        format_args!("{name}_count{{{model}}} {}", times.count()),
    );
}

fn head(name: &str, kind: &str, help: &str, out: &mut String) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(label("a\"b\\c\n"), r#"model_name="a\"b\\c\n""#);
    }

    #[test]
    fn histograms_have_all_their_buckets() {
        let mut out = String::new();
        histogram("t", "m=\"x\"", &Histogram::default(), &mut out);
        assert!(out.contains("t_bucket{m=\"x\",le=\"+Inf\"} 0\n"), "{out}");
        assert!(
            out.ends_with("t_sum{m=\"x\"} 0\nt_count{m=\"x\"} 0\n"),
            "{out}"
        );
    }
}
