//! Results as a table, JSON or CSV. Field names are llama-bench's where it has the field.

use serde_json::{Map, Value, json};
use zse::bench::BenchResult;
use zse::{Fuse, KvType};

use crate::machine::Machine;
use crate::term::{Table, bytes, count};

/// What was measured.
pub(super) struct Subject {
    pub(super) file: String,
    /// Architecture and type of most weights.
    pub(super) kind: String,
    pub(super) bytes: u64,
    pub(super) parameters: u64,
    pub(super) backend: String,
    pub(super) kv_type: KvType,
    /// Most tokens of a step.
    pub(super) batch_tokens: usize,
    pub(super) fuse: Fuse,
}

/// One test and what it gave.
pub(super) struct Run {
    pub(super) result: BenchResult,
    pub(super) threads: usize,
    /// The most bytes of memory that the process had in use until then.
    pub(super) peak_rss: Option<u64>,
    /// When it ended, in seconds since 1970.
    pub(super) unix_time: u64,
}

pub(super) fn table(subject: &Subject, runs: &[Run]) -> Table {
    let mut table = Table::new([
        "model", "size", "params", "backend", "threads", "test", "t/s", "p50 ms", "p95 ms",
        "p99 ms",
    ]);
    for run in runs {
        let (rate, latency) = (&run.result.tokens_per_second, &run.result.latency_ms);
        table.row([
            subject.kind.clone(),
            bytes(subject.bytes),
            count(subject.parameters),
            subject.backend.clone(),
            run.threads.to_string(),
            run.result.test.name(),
            format!("{:.2} ± {:.2}", rate.mean(), rate.deviation()),
            format!("{:.2}", latency.percentile(50.0)),
            format!("{:.2}", latency.percentile(95.0)),
            format!("{:.2}", latency.percentile(99.0)),
        ]);
    }
    table
}

pub(super) fn json(subject: &Subject, runs: &[Run], machine: &Machine) -> Value {
    runs.iter()
        .map(|run| Value::from(record(subject, run, machine)))
        .collect()
}

/// One line a test; lists are left to JSON.
pub(super) fn csv(subject: &Subject, runs: &[Run], machine: &Machine) -> String {
    let mut lines = Vec::new();
    for run in runs {
        let mut record = record(subject, run, machine);
        record.retain(|_, value| !value.is_array());
        if let Some(machine) = record.get_mut("machine") {
            *machine = machine["cpu"].take();
        }
        if lines.is_empty() {
            lines.push(record.keys().cloned().collect::<Vec<_>>().join(","));
        }
        lines.push(record.values().map(cell).collect::<Vec<_>>().join(","));
    }
    lines.join("\n") + "\n"
}

/// A value as a cell: strings in quotes, quotes doubled.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        other => other.to_string(),
    }
}

fn record(subject: &Subject, run: &Run, machine: &Machine) -> Map<String, Value> {
    let Run {
        result,
        threads,
        peak_rss,
        unix_time,
    } = run;
    let (test, rate, latency) = (result.test, &result.tokens_per_second, &result.latency_ms);
    let nanos: Vec<f64> = result.samples.iter().map(|s| s.as_nanos() as f64).collect();
    let nanos = zse::bench::Statistics::new(nanos);
    let object = json!({
        "commit": env!("ZSE_COMMIT"),
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine,
        "backend": subject.backend,
        "model_filename": subject.file,
        "model_type": subject.kind,
        "model_size": subject.bytes,
        "model_n_params": subject.parameters,
        "n_threads": threads,
        "n_ubatch": subject.batch_tokens,
        "type_k": subject.kv_type.name(),
        "type_v": subject.kv_type.name(),
        "fuse": subject.fuse != Fuse::None,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.n_depth,
        "n_batch_seqs": test.n_batch_seqs,
        "test_time": unix_time,
        "avg_ns": nanos.mean() as u64,
        "stddev_ns": nanos.deviation() as u64,
        "avg_ts": rate.mean(),
        "stddev_ts": rate.deviation(),
        "samples_ns": nanos.samples().iter().map(|&s| s as u64).collect::<Vec<_>>(),
        "samples_ts": rate.samples(),
        "p50_ms": latency.percentile(50.0),
        "p95_ms": latency.percentile(95.0),
        "p99_ms": latency.percentile(99.0),
        "peak_rss": peak_rss,
    });
    match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
