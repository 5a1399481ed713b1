//! Configurations as models have them, those of transformers before 5 above all: the fixtures of
//! zse-model come from 5.

use serde_json::json;

use crate::directory::{Model, floats, numbers};

#[test]
fn llama_reads_as_its_gguf_file() {
    let directory = Model::llama().write();
    let model = directory.open().unwrap();
    let keys = model.metadata();
    assert_eq!(keys.require_str("general.architecture").unwrap(), "llama");
    for (key, value) in [
        ("context_length", 64),
        ("embedding_length", 8),
        ("feed_forward_length", 16),
        ("block_count", 1),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", 4),
        ("vocab_size", 6),
    ] {
        assert_eq!(
            keys.require_u32(&format!("llama.{key}")).unwrap(),
            value,
            "{key}"
        );
    }
    assert_eq!(keys.require_f32("llama.rope.freq_base").unwrap(), 10_000.0);
    let eps = keys.require_f32("llama.attention.layer_norm_rms_epsilon");
    assert_eq!(eps.unwrap(), 1e-5);
    let names: Vec<_> = model.tensors().map(|t| t.name).collect();
    assert_eq!(
        names,
        [
            "token_embd.weight",
            "output_norm.weight",
            "output.weight",
            "blk.0.attn_norm.weight",
            "blk.0.attn_q.weight",
            "blk.0.attn_k.weight",
            "blk.0.attn_v.weight",
            "blk.0.attn_output.weight",
            "blk.0.ffn_norm.weight",
            "blk.0.ffn_gate.weight",
            "blk.0.ffn_up.weight",
            "blk.0.ffn_down.weight",
        ]
    );
    let down = model.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!(down.shape, [16, 8]);
    // What needs no change is the file's own; heads are put into GGUF's order.
    let made = |name| model.tensor(name).unwrap().data.is_made();
    assert!(!made("blk.0.ffn_down.weight") && !made("output_norm.weight"));
    assert!(made("blk.0.attn_q.weight"));
    let rows = |name| {
        let numbers = numbers(&model, name);
        numbers
            .chunks(8)
            .map(|row| row[0] as u32 / 8)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows("blk.0.attn_q.weight"), [0, 2, 1, 3, 4, 6, 5, 7]);
    assert_eq!(rows("blk.0.attn_k.weight"), [0, 2, 1, 3]);
    assert_eq!(rows("blk.0.attn_v.weight"), [0, 1, 2, 3]);
}

#[test]
fn what_was_released_is_made_again() {
    let directory = Model::llama().write();
    let model = directory.open().unwrap();
    assert!(model.is_mapped());
    for tensor in model.tensors() {
        let kept = tensor.data.bytes();
        let before = kept.to_vec();
        model.release_pages(&tensor);
        assert_eq!(kept, before);
        assert_eq!(tensor.data.bytes(), before);
        let part = tensor.data.slice(4..before.len());
        assert_eq!(part.bytes(), before[4..]);
    }
}

#[test]
fn a_directory_opens_by_its_files() {
    let directory = Model::llama().write();
    for name in ["config.json", "model.safetensors"] {
        let model = zse_format::Checkpoint::open(&directory.path(name)).unwrap();
        assert_eq!(model.tensors().count(), 12, "{name}");
    }
}

#[test]
fn tied_embeddings_have_no_output() {
    let model = Model::llama().with(json!({"tie_word_embeddings": true}));
    let directory = model.write();
    assert!(directory.open().unwrap().tensor("output.weight").is_none());
}

#[test]
fn llama_3_1_divides_frequencies() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let model = Model::llama().with(json!({"rope_scaling": scaling, "rope_theta": 500000.0}));
    let factors = numbers(&model.write().open().unwrap(), "rope_freqs.weight");
    // The first turns 1304 times within the original context, the second 1.84 times.
    assert_eq!(factors[0], 1.0);
    let kept = (8192.0 / 500_000f64.sqrt() / std::f64::consts::TAU - 1.0) / 3.0;
    let expected = 1.0 / ((1.0 - kept) / 8.0 + kept);
    assert!(
        (f64::from(factors[1]) - expected).abs() < 1e-5,
        "{factors:?}"
    );
}

#[test]
fn mistral_has_a_window() {
    let model = Model::llama().with(json!({"model_type": "mistral", "sliding_window": 32}));
    let model = model.write().open().unwrap();
    let window = model
        .metadata()
        .require_u32("llama.attention.sliding_window");
    assert_eq!(window.unwrap(), 32);
}

#[test]
fn yarn_is_read_from_rope_scaling() {
    let scaling = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    let model = Model::llama().with(json!({"rope_scaling": scaling}));
    let model = model.write().open().unwrap();
    let keys = model.metadata();
    assert_eq!(keys.require_str("llama.rope.scaling.type").unwrap(), "yarn");
    assert_eq!(keys.require_f32("llama.rope.scaling.factor").unwrap(), 4.0);
    let original = keys.require_u32("llama.rope.scaling.original_context_length");
    assert_eq!(original.unwrap(), 16);
}

#[test]
fn phi3_has_factors_for_long_contexts() {
    let mut model = Model::llama().with(json!({
        "model_type": "phi3", "original_max_position_embeddings": 4096,
        "max_position_embeddings": 131072, "sliding_window": 262144,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2, 64.5]},
    }));
    for name in ["q", "k", "v"] {
        model.remove(&format!("model.layers.0.self_attn.{name}_proj.weight"));
    }
    for name in ["gate", "up"] {
        model.remove(&format!("model.layers.0.mlp.{name}_proj.weight"));
    }
    model
        .tensors
        .push(floats("model.layers.0.self_attn.qkv_proj.weight", &[16, 8]));
    model
        .tensors
        .push(floats("model.layers.0.mlp.gate_up_proj.weight", &[32, 8]));
    let model = model.write().open().unwrap();
    assert_eq!(numbers(&model, "rope_factors_long.weight"), [2.0, 64.5]);
    assert_eq!(numbers(&model, "rope_factors_short.weight"), [1.0, 1.5]);
    let magnitude = model
        .metadata()
        .require_f32("phi3.rope.scaling.attn_factor")
        .unwrap();
    assert!((magnitude - 1.190_238).abs() < 1e-6, "{magnitude}");
    assert!(model.tensor("blk.0.attn_qkv.weight").is_some());
    assert_eq!(model.tensor("blk.0.ffn_up.weight").unwrap().shape, [8, 32]);
}

#[test]
fn gemma3_that_sees_reads_as_its_text_model() {
    let plain = Model::gemma3();
    let expected = plain.write().open().unwrap();
    let mut text = plain.config.clone();
    // Left out by the published files, as they are the defaults of the class.
    for key in [
        "model_type",
        "hidden_activation",
        "rms_norm_eps",
        "rope_theta",
    ] {
        text.as_object_mut().unwrap().remove(key);
    }
    text["rope_scaling"] = json!({"rope_type": "linear", "factor": 8.0});
    for prefix in ["language_model.model.", "model.language_model."] {
        let mut seeing = Model::gemma3();
        seeing.config = json!({"model_type": "gemma3", "text_config": text, "vision_config": {}});
        for tensor in &mut seeing.tensors {
            tensor.0 = tensor.0.replacen("model.", prefix, 1);
        }
        seeing
            .tensors
            .push(floats("vision_tower.embeddings.weight", &[2, 2, 2, 2]));
        let seeing = seeing.write().open().unwrap();
        let keys = seeing.metadata();
        assert_eq!(keys.require_str("general.architecture").unwrap(), "gemma3");
        assert_eq!(keys.require_f32("gemma3.rope.freq_base").unwrap(), 1e6);
        assert_eq!(keys.require_f32("gemma3.rope.freq_base_swa").unwrap(), 1e4);
        assert_eq!(keys.require_f32("gemma3.rope.scaling.factor").unwrap(), 8.0);
        let names =
            |c: &zse_format::Checkpoint| c.tensors().map(|t| t.name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&seeing), names(&expected));
    }
    // Norms are stored as what they differ from 1.
    assert_eq!(
        numbers(&expected, "blk.0.attn_q_norm.weight"),
        [1.5, 2.5, 3.5, 4.5]
    );
}

#[test]
fn layers_without_a_window_are_listed_where_they_are_unusual() {
    let key = "gemma3.attention.sliding_window_pattern";
    for (entries, expected) in [
        (json!({}), None),
        (json!({"layer_types": ["sliding_attention"]}), None),
        (json!({"sliding_window_pattern": 6}), None),
        (json!({"sliding_window_pattern": 1}), Some(vec![false])),
        (
            json!({"layer_types": ["full_attention"]}),
            Some(vec![false]),
        ),
    ] {
        let model = Model::gemma3().with(entries).write().open().unwrap();
        assert_eq!(model.metadata().bools(key).unwrap(), expected);
    }
}
