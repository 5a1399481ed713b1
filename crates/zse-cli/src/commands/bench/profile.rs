//! A profile as tables or JSON.

use serde_json::{Value, json};
use zse::bench::{Bound, Peaks, Profile, ProfileRow};

use crate::term::Table;

/// The profile of the test `title` for people, each table by `show`.
pub(super) fn text(title: &str, profile: &Profile, show: fn(&Table) -> String) -> String {
    let peaks = match &profile.peaks {
        Some(peaks) => format!(
            "the machine reads {:.1} GB/s and does {:.0} GOPS of 8 bits, {:.0} of f32",
            peaks.read_gbs, peaks.int8_gops, peaks.f32_gflops
        ),
        None => "what the machine does at most could not be measured".to_owned(),
    };
    let (passes, wall) = (profile.passes, 1000.0 * profile.wall.as_secs_f64());
    let each = wall / passes.max(1) as f64;
    format!(
        "\n{title}: {passes} passes of {each:.2} ms; {peaks}\n\n{}\n{}",
        show(&table("operation", &profile.by_op, profile)),
        show(&table("part", &profile.by_layer, profile)),
    )
}

fn table(of: &str, rows: &[ProfileRow], profile: &Profile) -> Table {
    let mut table = Table::new([
        of,
        "calls",
        "ms",
        "of time",
        "MB a pass",
        "GB/s",
        "GOPS",
        "reached",
    ]);
    for row in rows {
        let name = match &row.weights[..] {
            [] => row.name.clone(),
            weights => format!("{}: {}", row.name, weights.join(", ")),
        };
        let number = |x: f64, digits: usize| match x {
            0.0 => String::new(),
            x => format!("{x:.digits$}"),
        };
        let bytes = row.work.bytes as f64 / profile.passes.max(1) as f64;
        let reached = profile.peaks.and_then(|peaks| row.achieved(&peaks));
        table.row([
            name,
            row.calls.to_string(),
            format!("{:.2}", 1000.0 * row.time.as_secs_f64()),
            format!("{:.1}%", 100.0 * share(row, profile)),
            number(bytes / 1e6, 2),
            number(row.gbs(), 1),
            number(row.gops(), 0),
            reached.map_or(String::new(), |(share, bound)| {
                format!("{:.0}% of {}", 100.0 * share, name_of(bound))
            }),
        ]);
    }
    table
}

/// The profile with its rows' numbers of all passes.
pub(super) fn json(profile: &Profile) -> Value {
    let rows = |rows: &[ProfileRow]| -> Value {
        let rows = rows.iter().map(|row| {
            let reached = profile.peaks.and_then(|peaks| row.achieved(&peaks));
            json!({
                "name": row.name,
                "weights": row.weights,
                "calls": row.calls,
                "time_ms": 1000.0 * row.time.as_secs_f64(),
                "time_share": share(row, profile),
                "bytes": row.work.bytes,
                "int8_ops": row.work.int8_ops,
                "f32_ops": row.work.f32_ops,
                "gbs": row.gbs(),
                "gops": row.gops(),
                "reached": reached.map(|(share, _)| share),
                "bound": reached.map(|(_, bound)| name_of(bound)),
            })
        });
        rows.collect()
    };
    let peaks = |p: &Peaks| json!({"read_gbs": p.read_gbs, "int8_gops": p.int8_gops, "f32_gflops": p.f32_gflops});
    json!({
        "wall_ms": 1000.0 * profile.wall.as_secs_f64(),
        "passes": profile.passes,
        "peaks": profile.peaks.as_ref().map(peaks),
        "by_op": rows(&profile.by_op),
        "by_layer": rows(&profile.by_layer),
    })
}

/// The part of the whole time.
fn share(row: &ProfileRow, profile: &Profile) -> f64 {
    let wall = profile.wall.as_secs_f64();
    if wall > 0.0 {
        row.time.as_secs_f64() / wall
    } else {
        0.0
    }
}

fn name_of(bound: Bound) -> &'static str {
    match bound {
        Bound::Bandwidth => "bandwidth",
        Bound::Arithmetic => "arithmetic",
    }
}
