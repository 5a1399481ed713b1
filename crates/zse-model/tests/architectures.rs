//! What the architectures make of a file's metadata and tensors: programs that keep the rules,
//! results that depend on every number, and errors that name what is wrong.

use std::path::Path;
use std::sync::Arc;

use zse_format::{Checkpoint, EncodedValue, GgufWriter};
use zse_model::conformance::{Golden, batch};
use zse_model::executor::{Backend, Budget, Masks};
use zse_model::reference::Reference;
use zse_model::{Model, ModelError, ModelOptions};
use zse_quant::GgmlType;

fn fixture(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file)
}

fn open(file: &str) -> Checkpoint {
    Checkpoint::open(&fixture(file)).unwrap()
}

/// `original` with metadata set to other values, and without the tensors that `keep` refuses.
fn edited(
    original: &Checkpoint,
    set: &[(&str, EncodedValue)],
    keep: impl Fn(&str) -> bool,
    add: &[(&str, &[u64])],
) -> Checkpoint {
    let mut writer = GgufWriter::new();
    writer.set_all(original.metadata()).unwrap();
    for (key, value) in set {
        writer.set(key, value.clone()).unwrap();
    }
    let kept: Vec<_> = original.tensors().filter(|t| keep(t.name)).collect();
    for t in &kept {
        writer.declare(t.name, t.ty, t.shape).unwrap();
    }
    for (name, shape) in add {
        writer.declare(name, GgmlType::F32, shape).unwrap();
    }
    let mut body = writer.begin(Vec::new(), "edited").unwrap();
    for t in &kept {
        body.write(t.name, &t.data.bytes()).unwrap();
    }
    for (name, shape) in add {
        body.write(name, &vec![0; 4 * shape.iter().product::<u64>() as usize])
            .unwrap();
    }
    Checkpoint::from_bytes(body.finish().unwrap(), "edited").unwrap()
}

fn load(checkpoint: Checkpoint) -> Result<Model, ModelError> {
    Model::load(Arc::new(checkpoint), &ModelOptions::default())
}

fn load_with(file: &str, key: &str, value: impl Into<EncodedValue>) -> Result<Model, ModelError> {
    load(edited(&open(file), &[(key, value.into())], |_| true, &[]))
}

fn error_of(result: Result<Model, ModelError>) -> String {
    result
        .err()
        .expect("the file should be refused")
        .to_string()
}

/// A golden fixture that another value of a key leaves unchanged would not test that key. Keys that
/// the shape of a tensor follows from are no numbers to get wrong: see the next test.
#[test]
fn golden_fixtures_notice_hyperparameters_that_no_shape_shows() {
    let float = EncodedValue::from;
    let integer = |n: u32| EncodedValue::from(n);
    let cases = [
        (
            "llama2",
            "llama.attention.layer_norm_rms_epsilon",
            float(0.1f32),
        ),
        ("llama3", "llama.rope.freq_base", float(10_000f32)),
        ("llama2", "llama.rope.dimension_count", integer(4)),
        ("mixtral", "llama.expert_used_count", integer(1)),
        ("qwen2-yarn", "qwen2.rope.scaling.factor", float(2f32)),
        (
            "qwen2-yarn",
            "qwen2.rope.scaling.yarn_beta_fast",
            float(32f32),
        ),
        (
            "qwen2-yarn",
            "qwen2.rope.scaling.original_context_length",
            integer(256),
        ),
        ("qwen2-yarn", "qwen2.rope.scaling.type", "linear".into()),
        ("qwen3moe", "qwen3moe.expert_used_count", integer(3)),
        ("gemma2", "gemma2.attn_logit_softcapping", float(40f32)),
        ("gemma2", "gemma2.final_logit_softcapping", float(0f32)),
        ("gemma2", "gemma2.attention.sliding_window", integer(7)),
        ("gemma3", "gemma3.attention.sliding_window", integer(9)),
        (
            "gemma3",
            "gemma3.attention.sliding_window_pattern",
            integer(5),
        ),
        ("gemma3", "gemma3.rope.freq_base", float(10_000f32)),
        ("gemma3", "gemma3.rope.freq_base_swa", float(100_000f32)),
        ("gemma3", "gemma3.rope.scaling.factor", float(1f32)),
        (
            "phi3-longrope-short",
            "phi3.rope.scaling.attn_factor",
            float(1f32),
        ),
        (
            "phi3-longrope-long",
            "phi3.rope.scaling.original_context_length",
            integer(256),
        ),
        ("phi3-window", "phi3.attention.sliding_window", integer(0)),
        (
            "starcoder2",
            "starcoder2.attention.layer_norm_epsilon",
            float(0.1f32),
        ),
        ("bert-cls", "bert.pooling_type", integer(1)),
        ("bert-mean", "bert.pooling_type", integer(2)),
        ("bert-rank", "tokenizer.ggml.seperator_token_id", integer(9)),
    ];
    for (name, key, value) in cases {
        let mut golden = Golden::open(&fixture(&format!("{name}.golden"))).unwrap();
        let original = golden.model.weights.checkpoint();
        let options = ModelOptions {
            context: Some(golden.model.info.context),
        };
        let changed = edited(original, &[(key, value)], |_| true, &[]);
        golden.model = Arc::new(Model::load(Arc::new(changed), &options).unwrap());
        let report = golden.compare(&Reference).unwrap();
        assert!(
            report.error > 1e-3,
            "{name} does not depend on {key}: {report:?}"
        );
    }
}

#[test]
fn hyperparameters_that_disagree_with_the_shapes_are_refused() {
    for (file, key, value) in [
        ("llama3.gguf", "llama.embedding_length", 64u32),
        ("llama3.gguf", "llama.feed_forward_length", 32),
        ("llama3.gguf", "llama.attention.head_count_kv", 1),
        ("llama3.gguf", "llama.block_count", 1),
        ("mistral.gguf", "llama.attention.key_length", 32),
        ("mistral.gguf", "llama.attention.value_length", 8),
        ("mixtral.gguf", "llama.expert_count", 3),
        ("qwen3moe.gguf", "qwen3moe.expert_count", 3),
        ("qwen3moe.gguf", "qwen3moe.expert_feed_forward_length", 64),
        ("phi3.gguf", "phi3.attention.head_count_kv", 1),
        ("bert-cls.gguf", "bert.context_length", 32),
    ] {
        let original = open(file);
        let stored = original.metadata().u64(key).unwrap();
        assert_ne!(stored, Some(u64::from(value)), "{file}: {key}");
        match load_with(file, key, value) {
            Err(ModelError::TensorShape { .. } | ModelError::UnknownTensor { .. }) => {}
            other => panic!("{file}: {key}: {:?}", other.err()),
        }
    }
}

#[test]
fn impossible_hyperparameters_are_refused_by_name() {
    let zero = EncodedValue::from(0u32);
    let huge = EncodedValue::from(1_000_000_000u32);
    let largest = EncodedValue::from(u64::MAX);
    let text = EncodedValue::from("many");
    let floats = [f32::NAN, f32::INFINITY, -1.0, 0.0].map(EncodedValue::from);
    let integers = [zero, huge, largest, text.clone(), EncodedValue::from(-1i32)];
    let cases = [
        ("llama3.gguf", "llama.block_count", &integers[..]),
        ("llama3.gguf", "llama.embedding_length", &integers),
        ("llama3.gguf", "llama.feed_forward_length", &integers),
        ("llama3.gguf", "llama.attention.head_count", &integers),
        ("llama3.gguf", "llama.attention.head_count_kv", &integers),
        ("mistral.gguf", "llama.attention.key_length", &integers),
        ("mistral.gguf", "llama.attention.value_length", &integers),
        ("llama3.gguf", "llama.rope.dimension_count", &integers),
        ("mixtral.gguf", "llama.expert_used_count", &integers),
        ("qwen3moe.gguf", "qwen3moe.expert_count", &integers),
        (
            "qwen3moe.gguf",
            "qwen3moe.expert_feed_forward_length",
            &integers,
        ),
        (
            "llama3.gguf",
            "llama.attention.layer_norm_rms_epsilon",
            &floats,
        ),
        (
            "bert-cls.gguf",
            "bert.attention.layer_norm_epsilon",
            &floats,
        ),
        ("llama3.gguf", "llama.rope.freq_base", &floats),
        ("gemma3.gguf", "gemma3.rope.scaling.factor", &floats[..3]),
        ("gemma3.gguf", "gemma3.rope.freq_base_swa", &floats),
        ("gemma2.gguf", "gemma2.attn_logit_softcapping", &floats[..3]),
        (
            "gemma2.gguf",
            "gemma2.final_logit_softcapping",
            &floats[..3],
        ),
        (
            "qwen2-yarn.gguf",
            "qwen2.rope.scaling.yarn_beta_fast",
            &floats,
        ),
        (
            "qwen2-yarn.gguf",
            "qwen2.rope.scaling.type",
            std::slice::from_ref(&text),
        ),
        ("bert-cls.gguf", "bert.pooling_type", &integers[2..]),
        (
            "gemma2.gguf",
            "gemma2.attention.sliding_window",
            &integers[2..],
        ),
        (
            "llama3.gguf",
            "general.architecture",
            std::slice::from_ref(&text),
        ),
    ];
    for (file, key, values) in cases {
        for value in values {
            let error = error_of(load_with(file, key, value.clone()));
            let named = error.contains(key) || error.contains("architecture 'many'");
            assert!(named, "{key} of {value:?}: {error}");
        }
    }
    assert!(error_of(load_with("llama3.gguf", "llama.context_length", 0u32)).contains("context"));
}

/// Any value of any key is refused or makes a program that keeps the rules and runs, whatever it
/// computes; nothing panics.
#[test]
fn hostile_metadata_never_panics() {
    let mut ran = 0;
    for file in Golden::files().unwrap() {
        let golden = Golden::open(&file).unwrap();
        let original = golden.model.weights.checkpoint();
        let prefix = format!("{}.", golden.model.info.architecture);
        let keys = original.metadata().iter().map(|(key, _)| key);
        for key in keys.filter(|key| key.starts_with(&prefix)) {
            let values = [
                EncodedValue::from(0u32),
                1u32.into(),
                3u32.into(),
                u32::MAX.into(),
                u64::MAX.into(),
                (-1i64).into(),
                f32::NAN.into(),
                f32::MIN_POSITIVE.into(),
                f32::MAX.into(),
                true.into(),
                "".into(),
                [true, false].as_slice().into(),
            ];
            for value in values {
                if let Ok(model) = load(edited(original, &[(key, value)], |_| true, &[])) {
                    model.program.check().unwrap();
                    ran += usize::from(run(model));
                }
            }
        }
    }
    assert!(ran > 100, "{ran}");
}

/// Whether the reference takes three tokens of `model`. What it computes may be no numbers, which
/// is an error.
fn run(model: Model) -> bool {
    let budget = Budget::for_context(32, 1, 3);
    let model = Arc::new(model);
    let Ok(mut executor) = Reference.compile(Arc::clone(&model), &budget) else {
        return false;
    };
    let Ok(ticket) = executor.submit(&batch(&model, &budget, &[(&[1, 2, 3], 0)])) else {
        return false;
    };
    let sampled = executor.sample(ticket, &Masks::default());
    assert_eq!(sampled.is_ok(), executor.wait(ticket).is_ok());
    true
}

#[test]
fn tensors_must_be_those_of_the_architecture() {
    let original = open("llama2.gguf");
    let name = "blk.1.ffn_up.weight";
    let missing = edited(&original, &[], |n| n != name, &[]);
    assert!(error_of(load(missing)).contains("'blk.1.ffn_up.weight' is missing"));

    let taller = edited(&original, &[], |n| n != name, &[(name, &[32, 65])]);
    let error = error_of(load(taller));
    assert!(error.contains("[32, 65], should be [32, 64]"), "{error}");

    let joined = open("phi3.gguf");
    let name = "blk.0.attn_qkv.weight";
    let taller = edited(&joined, &[], |n| n != name, &[(name, &[32, 65])]);
    let error = error_of(load(taller));
    assert!(error.contains("[32, 65], should be [32, 64]"), "{error}");

    let unknown = edited(&original, &[], |_| true, &[("blk.0.attn_q.scale", &[1])]);
    assert!(error_of(load(unknown)).contains("'blk.0.attn_q.scale' is not known"));
}

#[test]
fn context_is_the_callers_choice_within_learned_positions() {
    let context = |file: &str, context| {
        let options = ModelOptions { context };
        Model::load(Arc::new(open(file)), &options)
            .unwrap()
            .info
            .context
    };
    assert_eq!(context("llama2.gguf", None), 256);
    assert_eq!(context("llama2.gguf", Some(1000)), 1000);
    assert_eq!(context("bert-mean.gguf", Some(1000)), 64);
}

#[test]
fn a_program_prints_as_a_graph() {
    let text = load(open("llama3.gguf")).unwrap().program.to_string();
    assert_eq!(
        text,
        include_str!("graph.txt"),
        "the program now prints as:\n{text}"
    );
}
