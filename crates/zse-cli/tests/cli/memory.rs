//! What `zse info` says that a run needs, against what one uses.
#![cfg(target_os = "linux")]

use crate::common::zse;

/// The share by which the memory that `zse info` reports may miss what the process uses.
const TOLERANCE: f64 = 0.1;

#[test]
fn info_reports_the_memory_that_a_run_uses() {
    // Long enough that a whole batch is computed and the rest of the context filled.
    let prompt = "The fox ran over the hill to find the river. ".repeat(60);
    for (ctx, kv_type) in [("1024", "f16"), ("1024", "f32")] {
        let settings = ["--ctx", ctx, "--kv-type", kv_type];
        let info = zse(&[&["info", "--json"], &settings[..]].concat()).json();
        let reported = info["memory"]["total"].as_f64().unwrap();
        let run = ["run", "--raw", "--json", "--ignore-eos", "-p", &prompt];
        let run = zse(&[&run[..], &settings[..]].concat()).json();
        assert_eq!(run["usage"]["total_tokens"].as_u64(), ctx.parse().ok());
        let used = run["peak_rss"].as_f64().unwrap();
        let miss = reported / used - 1.0;
        assert!(
            miss.abs() <= TOLERANCE,
            "{settings:?}: reported {reported}, used {used}: {:+.1}%",
            100.0 * miss
        );
    }
}
