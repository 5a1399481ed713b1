//! `zse bench`, `perplexity`, `hardware`, `doctor`.

use crate::common::zse;

#[test]
fn an_importance_matrix_is_gathered_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (text, matrix, model) = (path("text.txt"), path("m.gguf"), path("q.gguf"));
    std::fs::write(&text, "Once upon a time there was a fox. ".repeat(40)).unwrap();
    let args = ["imatrix", "-f", &text, "-o", &matrix, "--ctx", "32"];
    let said = zse(&[&args[..], &["--chunks", "2"]].concat()).ok();
    assert!(said.contains("over 2 chunks of 32 tokens"), "{said}");
    let types = [
        "--quant",
        "int4:g32",
        "--allow-requantize",
        "--imatrix",
        &matrix,
    ];
    let said = zse(&[&["quantize", "builtin", "-o", &model][..], &types].concat()).ok();
    assert!(said.contains("q4_0"), "{said}");
    let done = zse(&["imatrix", "-f", &text, "-o", &matrix, "--ctx", "3"]);
    assert_eq!(done.code, 1, "{}", done.err);
}

#[test]
fn bench_json_has_llama_benchs_fields() {
    let args = [
        "bench", "-p", "40", "-n", "4", "-d", "0,8", "-r", "3", "-b", "2", "-o", "json",
    ];
    let runs = zse(&args).json();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 4);
    let sizes: Vec<_> = runs
        .iter()
        .map(|r| ["n_prompt", "n_gen", "n_depth", "n_batch_seqs"].map(|k| r[k].as_u64().unwrap()))
        .collect();
    assert_eq!(
        sizes,
        [[40, 0, 0, 2], [0, 4, 0, 2], [40, 0, 8, 2], [0, 4, 8, 2]]
    );
    for run in runs {
        let samples: Vec<f64> = run["samples_ts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_f64().unwrap())
            .collect();
        assert_eq!(samples.len(), 3);
        let mean = samples.iter().sum::<f64>() / 3.0;
        assert!((run["avg_ts"].as_f64().unwrap() - mean).abs() < 1e-6 * mean);
        let tokens = 2 * (run["n_prompt"].as_u64().unwrap() + run["n_gen"].as_u64().unwrap());
        let nanos = run["samples_ns"][0].as_f64().unwrap();
        assert!((tokens as f64 / nanos * 1e9 - samples[0]).abs() < 0.01 * samples[0]);
        let [p50, p95, p99] = ["p50_ms", "p95_ms", "p99_ms"].map(|k| run[k].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p95 && p95 <= p99);
        for field in [
            "stddev_ts",
            "model_size",
            "model_n_params",
            "n_threads",
            "test_time",
            "load_ms",
        ] {
            assert!(run[field].is_number(), "{field}");
        }
        assert_eq!(run["fuse"], true);
        assert!(run["commit"].is_string() && run["machine"]["cpu"].is_string());
        assert!(run["peak_rss"].as_u64().is_some_and(|n| n > 0) || !cfg!(target_os = "linux"));
    }
}

#[test]
fn bench_tells_what_fusion_gains() {
    let args = ["bench", "-p", "4", "-n", "0", "-r", "1", "--no-fuse"];
    let runs = zse(&[&args[..], &["-o", "json"]].concat()).json();
    let fused: Vec<_> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["fuse"])
        .collect();
    assert_eq!(fused, [true, false]);
    let table = zse(&args).ok();
    assert!(
        table.contains("pp4, not fused") && table.contains("gain"),
        "{table}"
    );
}

#[test]
fn a_profile_adds_up_to_the_whole() {
    let args = ["bench", "-p", "12", "-n", "3", "-r", "2", "--profile"];
    let runs = zse(&[&args[..], &["-o", "json"]].concat()).json();
    for run in runs.as_array().unwrap() {
        let profile = &run["profile"];
        let wall = profile["wall_ms"].as_f64().unwrap();
        let nanos = run["samples_ns"].as_array().unwrap().iter();
        let nanos: f64 = nanos.map(|n| n.as_f64().unwrap()).sum();
        assert!((wall - nanos / 1e6).abs() < 1e-3 * wall);
        for rows in ["by_op", "by_layer"] {
            let rows = profile[rows].as_array().unwrap();
            let times = rows.iter().map(|row| row["time_ms"].as_f64().unwrap());
            assert!((times.sum::<f64>() - wall).abs() < 1e-3 * wall);
        }
        let has_name = |name: &str| {
            let rows = profile["by_op"].as_array().unwrap();
            rows.iter().any(|row| row["name"] == name)
        };
        assert!(has_name("attention") && has_name("rms_norm + 3 linear"));
        assert!(profile["peaks"]["read_gbs"].as_f64().unwrap() > 0.0);
    }
    let table = zse(&args).ok();
    assert!(
        table.contains("feed-forward") && table.contains("linear: ffn_down"),
        "{table}"
    );
    let csv = zse(&[&args[..], &["-o", "csv"]].concat()).ok();
    assert!(!csv.contains("by_op"), "{csv}");
}

#[test]
fn instruction_sets_can_be_chosen() {
    let bench = |device: &str| {
        let args = [
            "bench", "-p", "4", "-n", "0", "-r", "1", "-o", "json", "--device",
        ];
        zse(&[&args[..], &[device]].concat())
    };
    assert_eq!(bench("cpu:scalar").json()[0]["backend"], "cpu (scalar)");
}

#[test]
fn bench_prints_tables_and_csv() {
    let bench = |format: &str| {
        zse(&[
            "bench", "-p", "8", "-n", "2", "-r", "1", "-t", "1", "-o", format,
        ])
        .ok()
    };
    let markdown = bench("md");
    assert!(
        markdown.contains("| pp8") || markdown.contains(" pp8 |"),
        "{markdown}"
    );
    assert!(bench("table").contains("tg2"));
    let csv = bench("csv");
    let columns: Vec<usize> = csv.lines().map(|l| l.matches(',').count()).collect();
    assert_eq!(columns.len(), 3, "{csv}");
    assert!(
        columns[0] > 10 && columns.iter().all(|n| *n >= columns[0]),
        "{csv}"
    );
}

#[test]
fn perplexity_scores_the_second_half_of_each_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.txt").display().to_string();
    std::fs::write(
        &file,
        "The fox ran over the hill to find the river. ".repeat(30),
    )
    .unwrap();
    let measure = |extra: &[&str]| {
        zse(&[&["perplexity", "-f", &file, "--json", "--ctx", "64"], extra].concat()).json()
    };
    let all = measure(&[]);
    let chunks = all["chunks"].as_u64().unwrap();
    assert!(chunks >= 2);
    assert_eq!(all["tokens"], chunks * 31);
    let (perplexity, nll) = (
        all["perplexity"].as_f64().unwrap(),
        all["nll"].as_f64().unwrap(),
    );
    assert!((perplexity.ln() - nll).abs() < 1e-9);
    assert_eq!(measure(&["--chunks", "1"])["tokens"], 31);
    let short = zse(&["perplexity", "-f", &file, "--ctx", "4000"]);
    assert_eq!(short.code, 1);
    assert!(short.err.contains("give a longer text"), "{}", short.err);
}

#[test]
fn hardware_knows_this_machine() {
    let object = zse(&["hardware", "--json"]).json();
    assert!(object["machine"]["threads"].as_u64().unwrap() > 0);
    assert!(object["machine"]["isa"].is_string());
    assert!(zse(&["hardware"]).ok().contains("threads to use"));
}

#[test]
fn doctor_finds_nothing_wrong() {
    let text = zse(&["doctor", "--ctx", "128"]).ok();
    for line in [
        "machine    ok",
        "model      ok",
        "memory     ",
        "results    ok",
        "speed      ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn doctor_compares_the_embeddings_of_a_model_that_gives_them() {
    let bert = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../zse-model/tests/golden/bert-mean.gguf"
    );
    let text = zse(&["doctor", bert]).ok();
    assert!(
        text.contains("results    ok: 0.0000") && text.contains("cosine distance"),
        "{text}"
    );
    assert!(text.contains("speed      a short text in"), "{text}");
}
