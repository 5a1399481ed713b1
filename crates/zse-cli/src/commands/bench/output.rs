//! Results as tables, JSON or CSV. Field names are llama-bench's where it has the field.

use std::time::Duration;

use serde_json::{Map, Value, json};
use zse::bench::{BenchResult, Profile};
use zse::{Fuse, KvType};

use super::profile;
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
}

/// One test and what it gave.
pub(super) struct Run {
    pub(super) result: BenchResult,
    /// Where the time went, if that was asked for.
    pub(super) profile: Option<Profile>,
    pub(super) threads: usize,
    pub(super) fuse: Fuse,
    /// How long loading the model took.
    pub(super) load: Duration,
    /// The most bytes of memory that the process had in use until then.
    pub(super) peak_rss: Option<u64>,
    /// When it ended, in seconds since 1970.
    pub(super) unix_time: u64,
}

impl Run {
    /// The test's name, and whether nothing was fused.
    pub(super) fn title(&self) -> String {
        let name = self.result.test.name();
        match self.fuse {
            Fuse::All => name,
            Fuse::None => format!("{name}, not fused"),
        }
    }
}

/// All results for people, each table by `show`.
pub(super) fn text(subject: &Subject, runs: &[Run], show: fn(&Table) -> String) -> String {
    let mut text = show(&table(subject, runs));
    if let Some(gains) = gains(runs) {
        text.push_str(&format!("\n{}", show(&gains)));
    }
    for run in runs {
        if let Some(of) = &run.profile {
            let title = format!("{}, {} threads", run.title(), run.threads);
            text.push_str(&profile::text(&title, of, show));
        }
    }
    text
}

/// What fusion gains, where tests were run without it too.
fn gains(runs: &[Run]) -> Option<Table> {
    let mut table = Table::new(["test", "threads", "fused t/s", "not fused t/s", "gain"]);
    let mut any = false;
    for run in runs.iter().filter(|run| run.fuse == Fuse::All) {
        let same = |other: &&Run| {
            other.fuse == Fuse::None
                && other.threads == run.threads
                && other.result.test == run.result.test
        };
        if let Some(other) = runs.iter().find(same) {
            let rates = [run, other].map(|run| run.result.tokens_per_second.mean());
            table.row([
                run.result.test.name(),
                run.threads.to_string(),
                format!("{:.2}", rates[0]),
                format!("{:.2}", rates[1]),
                format!("{:+.1}%", 100.0 * (rates[0] / rates[1] - 1.0)),
            ]);
            any = true;
        }
    }
    any.then_some(table)
}

fn table(subject: &Subject, runs: &[Run]) -> Table {
    let mut table = Table::new([
        "model", "size", "params", "backend", "threads", "test", "t/s", "p50 ms", "p95 ms",
        "p99 ms",
    ]);
    // Of GPUs alone.
    let counted = runs
        .iter()
        .any(|run| run.result.tokens_per_joule().is_some());
    if counted {
        table.add_cell("t/J".to_owned());
    }
    for run in runs {
        let (rate, latency) = (&run.result.tokens_per_second, &run.result.latency_ms);
        table.row([
            subject.kind.clone(),
            bytes(subject.bytes),
            count(subject.parameters),
            subject.backend.clone(),
            run.threads.to_string(),
            run.title(),
            format!("{:.2} ± {:.2}", rate.mean(), rate.deviation()),
            format!("{:.2}", latency.percentile(50.0)),
            format!("{:.2}", latency.percentile(95.0)),
            format!("{:.2}", latency.percentile(99.0)),
        ]);
        if counted {
            let cell = run.result.tokens_per_joule();
            table.add_cell(cell.map_or_else(String::new, |n| format!("{n:.2}")));
        }
    }
    table
}

pub(super) fn json(subject: &Subject, runs: &[Run], machine: &Machine) -> Value {
    runs.iter()
        .map(|run| Value::from(record(subject, run, machine)))
        .collect()
}

/// One line a test; lists and profiles are left to JSON.
pub(super) fn csv(subject: &Subject, runs: &[Run], machine: &Machine) -> String {
    let mut lines = Vec::new();
    for run in runs {
        let mut record = record(subject, run, machine);
        record.remove("profile");
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
        profile,
        threads,
        fuse,
        load,
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
        "fuse": *fuse != Fuse::None,
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
        "tokens_per_joule": result.tokens_per_joule(),
        "load_ms": 1000.0 * load.as_secs_f64(),
        "peak_rss": peak_rss,
    });
    let Value::Object(mut map) = object else {
        return Map::new();
    };
    if let Some(of) = profile {
        map.insert("profile".to_owned(), profile::json(of));
    }
    map
}
