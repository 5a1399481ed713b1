//! Adapters through the SDK: beside a model, and merged into one.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zse::convert::{ConvertError, ConvertOptions, Target, convert};
use zse::format::Checkpoint;
use zse::quantize::Mixture;
use zse::{AdapterSource, Engine, Error, Generate, LoadOptions, ModelSource, SampleParams};

/// A file of zse-model's tests.
fn fixture(name: &str) -> PathBuf {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../zse-model/tests");
    Path::new(tests).join(name)
}

fn options() -> LoadOptions {
    LoadOptions {
        context: Some(64),
        sequences: 3,
        kv_type: zse::KvType::F32,
        ..LoadOptions::default()
    }
}

fn engine(model: &Path, adapters: &[(&str, &str)]) -> Engine {
    let source = |(name, path): &(&str, &str)| AdapterSource {
        name: (*name).to_owned(),
        path: fixture(path),
    };
    let options = LoadOptions {
        adapters: adapters.iter().map(source).collect(),
        ..options()
    };
    Engine::load(&ModelSource::Path(model.to_owned()), &options).unwrap()
}

fn scores(engine: &Engine) -> Vec<f32> {
    let tokens = (0..40).map(|i| 3 + i * 5 % 61).collect();
    engine.score(tokens, 1, "").unwrap()
}

/// The largest difference.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn a_merged_model_computes_what_the_adapter_adds() {
    let dir = tempfile::tempdir().unwrap();
    for (base, adapters) in [
        ("llama2", &["llama2", "llama2-patterns"][..]),
        ("phi3", &["phi3"]),
        ("gemma2", &["gemma2"]),
        ("qwen3moe", &["qwen3moe", "qwen3moe-modules"]),
    ] {
        let paths: Vec<String> = adapters.iter().map(|a| format!("lora/{a}")).collect();
        let named: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), p.as_str())).collect();
        let whole: Vec<(&str, f32)> = named.iter().map(|(name, _)| (*name, 1.0)).collect();
        let model = fixture(&format!("golden/{base}.gguf"));
        let beside = engine(&model, &named);
        let base_scores = scores(&beside);
        let expected = scores(&beside.with_adapters(&whole).unwrap());
        assert!(difference(&expected, &base_scores) > 0.1, "{base}");
        for (to, target) in [
            ("merged.gguf", Target::Portable),
            ("merged.zse", Target::Cpu),
        ] {
            let source = Arc::new(Checkpoint::open(&model).unwrap());
            let out = dir.path().join(to);
            let options = ConvertOptions {
                target,
                merge: paths.iter().map(|path| fixture(path)).collect(),
                threads: Some(2),
                ..ConvertOptions::default()
            };
            convert(&source, &out, &options, |_| ControlFlow::Continue(())).unwrap();
            let merged = scores(&engine(&out, &[]));
            let error = difference(&merged, &expected);
            assert!(error < 1e-3, "{base} as {to}: {error}");
        }
    }
}

/// The log-probabilities that `make.py` beside the adapters has recorded.
fn recorded(peft: &Checkpoint, name: &str) -> Vec<f32> {
    let bytes = peft.tensor(name).unwrap().data.bytes();
    let numbers = bytes.as_chunks().0.iter();
    numbers.map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn a_merged_model_computes_what_pefts_own_merge_computes() {
    let dir = tempfile::tempdir().unwrap();
    let peft = Checkpoint::open(&fixture("lora/merged.gguf")).unwrap();
    for name in [
        "llama2",
        "llama2-patterns",
        "phi3",
        "gemma2",
        "qwen3",
        "gemma3",
        "mistral",
        "mixtral",
        "mixtral-experts",
        "qwen3moe",
        "qwen3moe-modules",
    ] {
        let base = name.split('-').next().unwrap();
        let (expected, before) = (
            recorded(&peft, name),
            recorded(&peft, &format!("{name}.base")),
        );
        assert!(difference(&expected, &before) > 0.1, "{name}");
        let merged = |form: &str| {
            let out = dir.path().join(format!("merged-{name}-of{form}.gguf"));
            let options = ConvertOptions {
                merge: vec![fixture(&format!("lora/{name}"))],
                threads: Some(2),
                ..ConvertOptions::default()
            };
            let model = fixture(&format!("golden/{base}{form}"));
            let source = Arc::new(Checkpoint::open(&model).unwrap());
            convert(&source, &out, &options, |_| ControlFlow::Continue(())).unwrap();
            out
        };
        let file = merged(".gguf");
        let error = difference(&scores(&engine(&file, &[])), &expected);
        assert!(error < 1e-3, "{name}: {error}");
        // Of the directory, which brings no tokenizer to compute with, the weights are the same; it has
        // some rows in another order.
        let (file, directory) = (open(&file), open(&merged("")));
        for tensor in file.tensors().filter(|t| t.name.starts_with("blk.")) {
            let other = directory.tensor(tensor.name).unwrap().data.bytes();
            assert!(other == tensor.data.bytes(), "{name}: {}", tensor.name);
        }
    }
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap()
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = |model: &Path, adapter: &str, change: fn(&mut ConvertOptions)| {
        let source = Arc::new(Checkpoint::open(model).unwrap());
        let mut options = ConvertOptions {
            merge: vec![fixture(adapter)],
            ..ConvertOptions::default()
        };
        change(&mut options);
        let out = dir.path().join("out.gguf");
        convert(&source, &out, &options, |_| ControlFlow::Continue(())).map(drop)
    };
    let qwen = fixture("golden/qwen2.gguf");
    let refused = run(&qwen, "lora/qwen2", |_| {}).unwrap_err();
    assert!(
        matches!(refused, ConvertError::MergeTied { .. }),
        "{refused}"
    );
    let refused = run(&qwen, "lora/phi3", |_| {}).unwrap_err();
    assert!(matches!(refused, ConvertError::Format(_)), "{refused}");

    let llama = fixture("golden/llama2.gguf");
    let source = Arc::new(Checkpoint::open(&llama).unwrap());
    let quantized = dir.path().join("q8.gguf");
    let to_q8 = ConvertOptions {
        mixture: Some(Mixture::parse("Q8_0").unwrap()),
        ..ConvertOptions::default()
    };
    convert(&source, &quantized, &to_q8, |_| ControlFlow::Continue(())).unwrap();
    let refused = run(&quantized, "lora/llama2", |_| {}).unwrap_err();
    let is_merge = matches!(refused, ConvertError::MergeQuantized { .. });
    assert!(is_merge, "{refused}");
    run(&quantized, "lora/llama2", |o| o.allow_requantize = true).unwrap();
    run(&llama, "lora/llama2", |o| {
        o.mixture = Some(Mixture::parse("Q8_0").unwrap());
    })
    .unwrap();
}

#[test]
fn an_interrupted_merge_goes_on_with_the_same_adapters_only() {
    let dir = tempfile::tempdir().unwrap();
    let source = Arc::new(Checkpoint::open(&fixture("golden/llama2.gguf")).unwrap());
    let out = dir.path().join("out.gguf");
    let run = |adapter: &str, pieces: usize| {
        let options = ConvertOptions {
            merge: vec![fixture(adapter)],
            threads: Some(1),
            ..ConvertOptions::default()
        };
        let mut left = pieces;
        convert(&source, &out, &options, |_| {
            left = left.saturating_sub(1);
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
    };
    let stopped = run("lora/llama2", 5).unwrap_err();
    assert!(matches!(stopped, ConvertError::Interrupted { .. }));
    // With another adapter nothing of it is used.
    let stopped = run("lora/llama2-patterns", 3).unwrap_err();
    assert!(matches!(
        stopped,
        ConvertError::Interrupted { finished: 3, .. }
    ));
    let report = run("lora/llama2-patterns", usize::MAX).unwrap();
    assert_eq!(report.resumed, 3);
}

#[test]
fn adapters_come_and_go_beside_a_model() {
    let model = fixture("golden/llama2.gguf");
    let engine = engine(&model, &[("a", "lora/llama2")]);
    let source = |text: &str| -> AdapterSource {
        let path = fixture(text).display().to_string();
        path.parse().unwrap()
    };
    let names = || -> Vec<String> {
        let adapters = engine.adapters().into_iter();
        adapters.map(|adapter| adapter.source.name).collect()
    };
    assert_eq!(names(), ["a"]);
    let before = engine.memory().weights;
    engine
        .load_adapter(&source("lora/llama2-patterns"))
        .unwrap();
    assert_eq!(names(), ["a", "llama2-patterns"]);
    let bytes = engine.adapters()[1].bytes;
    assert_eq!(engine.memory().weights, before + bytes);

    let base = scores(&engine);
    let with = |choices: &[(&str, f32)]| scores(&engine.with_adapters(choices).unwrap());
    let (a, b) = (with(&[("a", 1.0)]), with(&[("llama2-patterns", 1.0)]));
    let both = with(&[("a", 1.0), ("llama2-patterns", 0.5)]);
    for (one, other) in [(&base, &a), (&base, &b), (&a, &b), (&a, &both), (&b, &both)] {
        assert!(difference(one, other) > 1e-2);
    }
    assert_eq!(with(&[]), base);

    // A clone keeps what it uses.
    let clone = engine.with_adapters(&[("a", 1.0)]).unwrap();
    engine.unload_adapter("a").unwrap();
    assert_eq!(names(), ["llama2-patterns"]);
    assert_eq!(scores(&clone), a);
    let refused = engine.with_adapters(&[("a", 1.0)]).err().unwrap();
    assert!(matches!(refused, Error::NoAdapter { .. }), "{refused}");
    assert!(matches!(
        engine.unload_adapter("a"),
        Err(Error::NoAdapter { .. })
    ));

    let again = engine.load_adapter(&source("lora/llama2-patterns"));
    assert!(matches!(again, Err(Error::AdapterExists { .. })));
    let other = engine.load_adapter(&source("lora/phi3")).unwrap_err();
    assert!(other.to_string().contains("for another one"), "{other}");
    let absent = engine.load_adapter(&source("lora/absent")).unwrap_err();
    assert!(absent.to_string().contains("absent"), "{absent}");
    // The GGUF form gives the very numbers.
    engine
        .load_adapter(&AdapterSource {
            name: "a".to_owned(),
            path: fixture("lora/llama2.gguf"),
        })
        .unwrap();
    assert_eq!(with(&[("a", 1.0)]), a);
}

#[test]
fn texts_with_different_adapters_are_written_together() {
    written_together("llama2", "llama2-patterns");
    // Of experts.
    written_together("qwen3moe", "qwen3moe-modules");
}

fn written_together(base: &str, other: &str) {
    let paths = [base, other].map(|name| format!("lora/{name}"));
    let engine = engine(
        &fixture(&format!("golden/{base}.gguf")),
        &[("a", &paths[0]), ("b", &paths[1])],
    );
    let settings = Generate {
        params: SampleParams::greedy(),
        max_tokens: Some(20),
        ignore_eos: true,
        ..Generate::default()
    };
    let engines = [
        engine.clone(),
        engine.with_adapters(&[("a", 1.0)]).unwrap(),
        engine.with_adapters(&[("b", 1.0)]).unwrap(),
    ];
    let start = |engine: &Engine| engine.generate_tokens(vec![5, 6, 7], &settings).unwrap();
    let ids = |generation: zse::Generation| -> Vec<u32> {
        let completion = generation.complete().unwrap();
        completion.tokens.iter().map(|token| token.id).collect()
    };
    let alone = engines.each_ref().map(|engine| ids(start(engine)));
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2]);
    engine.clear_cache();
    let together = engines.each_ref().map(start).map(ids);
    assert_eq!(together, alone);
}

#[test]
fn adapters_that_are_asked_for_are_in_the_plan() {
    let source = ModelSource::Path(fixture("golden/llama2.gguf"));
    let plain = options();
    let with = LoadOptions {
        adapters: vec![AdapterSource {
            name: "a".to_owned(),
            path: fixture("lora/llama2"),
        }],
        ..options()
    };
    let model = plain.model(source.open().unwrap()).unwrap();
    let [plain, with] = [plain, with].map(|options| options.memory(&model).unwrap());
    // Its numbers, in tiles of sixteen rows once it is loaded.
    let adapter = fixture("lora/llama2/adapter_model.safetensors");
    let file = std::fs::metadata(adapter).unwrap().len();
    let added = with.weights - plain.weights;
    assert!(added > file / 3 && added < file, "{added} of {file}");
}
