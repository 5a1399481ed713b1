//! What is not implemented, or is no model: named in the error, never run as something else.

use serde_json::{Value, json};

use crate::directory::{Model, floats};

#[test]
fn values_that_are_not_implemented_are_named() {
    let rope = |scaling: Value| json!({"rope_scaling": scaling});
    for (entries, expected) in [
        (
            json!({"model_type": "mamba"}),
            "model_type is \"mamba\", which is not implemented; known are llama,",
        ),
        (json!({"model_type": null}), "model_type is missing"),
        (
            json!({"model_type": 7}),
            "model_type must be a string, but is 7",
        ),
        (
            json!({"hidden_act": "gelu"}),
            "hidden_act is \"gelu\", which is not implemented; only \"silu\"",
        ),
        (json!({"hidden_size": null}), "hidden_size is missing"),
        (
            json!({"hidden_size": "8"}),
            "hidden_size must be an integer",
        ),
        (json!({"hidden_size": -8}), "hidden_size must be an integer"),
        (
            json!({"num_hidden_layers": 4294967295u32}),
            "num_hidden_layers must be at most",
        ),
        (
            json!({"num_attention_heads": 0}),
            "num_attention_heads must be at least 1",
        ),
        (
            json!({"partial_rotary_factor": 1e9}),
            "partial_rotary_factor must be",
        ),
        (
            json!({"head_dim": 4294967295u32}),
            "head_dim must be at most",
        ),
        (
            json!({"num_key_value_heads": 0}),
            "num_key_value_heads must be at least 1",
        ),
        (
            json!({"num_local_experts": 100000}),
            "num_local_experts must be at most",
        ),
        (
            json!({"num_local_experts": 8}),
            "num_experts_per_tok is missing",
        ),
        (
            json!({"partial_rotary_factor": 0.5}),
            "partial_rotary_factor is 0.5, which is not",
        ),
        (json!({"text_config": []}), "text_config must be an object"),
        (
            rope(json!({"type": "dynamic", "factor": 2})),
            "rope_scaling.type is \"dynamic\"",
        ),
        (
            rope(json!({"rope_type": "linear"})),
            "rope_scaling.factor is missing",
        ),
        (
            rope(json!({"type": "yarn", "factor": 2, "mscale": 1})),
            "rope_scaling.mscale is 1, which is not implemented; only configurations without it",
        ),
        (
            rope(json!({"mrope_section": [1, 1, 2]})),
            "mrope_section is [1,1,2]",
        ),
        (
            rope(
                json!({"rope_type": "llama3", "factor": 0.5, "low_freq_factor": 1,
                "high_freq_factor": 4, "original_max_position_embeddings": 8}),
            ),
            "rope_scaling.factor must be at least 1",
        ),
        (
            json!({"quantization_config": {"quant_method": "exl2"}}),
            "quantization_config.quant_method is \"exl2\"",
        ),
        (
            json!({"model_type": "qwen2", "use_sliding_window": true}),
            "use_sliding_window is true",
        ),
        (
            json!({"model_type": "qwen3_moe"}),
            "norm_topk_prob is false",
        ),
        (
            json!({"model_type": "phi3", "rope_scaling": {"type": "longrope"}}),
            "long_factor is missing",
        ),
        (
            json!({"model_type": "phi3", "rope_scaling":
                {"type": "longrope", "short_factor": [], "long_factor": ["1"]}}),
            "long_factor must be an array of numbers",
        ),
    ] {
        let error = Model::llama().with(entries.clone()).refused();
        assert!(error.contains(expected), "{entries}: {error}");
        assert!(error.contains("config.json: "), "{error}");
    }
    for (entries, expected) in [
        (
            json!({"query_pre_attn_scalar": 5}),
            "query_pre_attn_scalar is 5",
        ),
        (
            json!({"attn_logit_softcapping": 50.0}),
            "attn_logit_softcapping is 50.0",
        ),
        (
            json!({"use_bidirectional_attention": true}),
            "use_bidirectional_attention is true",
        ),
        (
            json!({"layer_types": ["other"]}),
            "layer_types must name one of",
        ),
        (
            json!({"sliding_window_pattern": 0}),
            "sliding_window_pattern is 0",
        ),
    ] {
        let error = Model::gemma3().with(entries.clone()).refused();
        assert!(error.contains(expected), "{entries}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let layer = |name: &str| format!("model.layers.0.{name}");
    let check = |change: &dyn Fn(&mut Model), expected: &str| {
        let mut model = Model::llama();
        change(&mut model);
        let error = model.refused();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    let up = layer("mlp.up_proj.weight");
    check(
        &|m| m.remove("model.norm.weight"),
        "tensor \"model.norm.weight\" is missing",
    );
    // The configuration says that it is not the embeddings.
    check(
        &|m| m.remove("lm_head.weight"),
        "tensor \"lm_head.weight\" is missing",
    );
    check(
        &|m| {
            m.tensors
                .push(floats("model.layers.1.input_layernorm.weight", &[8]))
        },
        "tensor \"model.layers.1.input_layernorm.weight\" has no place",
    );
    check(
        &|m| m.replace(floats(&up, &[2, 8, 8])),
        "must be a vector or matrix",
    );
    check(
        &|m| m.replace(floats(&up, &[])),
        "must be a vector or matrix",
    );
    check(&|m| m.replace(floats(&up, &[0, 8])), "has no numbers");
    check(
        &|m| m.replace(floats(&layer("self_attn.q_proj.weight"), &[6, 8])),
        "which 2 heads of even length do not divide",
    );
    check(
        &|m| m.replace((up.clone(), "I32", vec![16, 8], vec![0; 512])),
        "has dtype I32",
    );
    check(
        &|m| {
            m.tensors
                .push((layer("mlp.up_proj.bias"), "I8", vec![16], vec![0; 16]))
        },
        "has dtype I8, but is no weight",
    );
}

#[test]
fn a_directory_without_a_model_is_refused() {
    let directory = Model::llama().write();
    std::fs::remove_file(directory.path("config.json")).unwrap();
    let error = directory.open().unwrap_err().to_string();
    assert!(error.contains("config.json is missing"), "{error}");
    assert!(error.contains("give one of the files"), "{error}");
    directory.add("config.json", "{\"model_type\": ");
    let error = directory.open().unwrap_err().to_string();
    assert!(error.contains("is not what it should be"), "{error}");
    directory.add("config.json", "[".repeat(100_000));
    let error = directory.open().unwrap_err().to_string();
    assert!(error.contains("is not what it should be"), "{error}");
}

#[test]
fn files_that_are_too_long_are_refused() {
    let spaces = |len: usize| " ".repeat(len << 20);
    let directory = Model::llama().write();
    directory.add("tokenizer.model", "");
    for (file, len, said) in [
        ("tokenizer_config.json", 17, "more than 16777216 bytes"),
        ("generation_config.json", 5, "more than 4194304 bytes"),
        ("config.json", 5, "more than 4194304 bytes"),
    ] {
        directory.add(file, spaces(len));
        let error = directory.open().unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(said), "{error}");
    }
}

#[test]
fn mixtures_have_all_experts_alike() {
    let mixtral = |change: &dyn Fn(&mut Model)| {
        let entries =
            json!({"model_type": "mixtral", "num_local_experts": 3, "num_experts_per_tok": 2});
        let mut model = Model::llama().with(entries);
        for name in ["gate", "up", "down"] {
            model.remove(&format!("model.layers.0.mlp.{name}_proj.weight"));
        }
        let moe = "model.layers.0.block_sparse_moe";
        model
            .tensors
            .push(floats(&format!("{moe}.gate.weight"), &[3, 8]));
        for e in 0..3 {
            for (name, shape) in [("w1", [16, 8]), ("w2", [8, 16]), ("w3", [16, 8])] {
                model
                    .tensors
                    .push(floats(&format!("{moe}.experts.{e}.{name}.weight"), &shape));
            }
        }
        change(&mut model);
        model
    };
    let model = mixtral(&|_| {}).write().open().unwrap();
    let down = model.tensor("blk.0.ffn_down_exps.weight").unwrap();
    assert_eq!((down.shape, down.data.len()), (&[16, 8, 3][..], 3 * 512));
    let one = "model.layers.0.block_sparse_moe.experts.2.w2.weight";
    let error = mixtral(&|m| m.remove(one)).refused();
    assert!(
        error.contains("experts.2.w2.weight\" is missing"),
        "{error}"
    );
    let down = "model.layers.0.block_sparse_moe.switch_mlp.down_proj";
    let stacked = |name: &str, shape: &[u64]| {
        let model = mixtral(&|m| {
            for e in 0..3 {
                m.remove(&one.replace("experts.2", &format!("experts.{e}")));
            }
            m.tensors.push(floats(&format!("{down}.{name}"), shape));
        });
        model.refused()
    };
    assert_eq!(stacked("weight", &[3, 8, 16]), "");
    for (name, shape, said) in [
        (
            "weight",
            &[2, 8, 16][..],
            "has shape [2, 8, 16], but must be",
        ),
        (
            "weight",
            &[3, 1, 8, 16],
            "has shape [1, 8, 16], but must be",
        ),
        ("biases", &[3, 8, 1], "has no place"),
    ] {
        let error = stacked(name, shape);
        assert!(error.contains(said), "{error}");
    }
    let twice = mixtral(&|m| {
        m.tensors
            .push(floats(&format!("{down}.weight"), &[3, 8, 16]))
    });
    assert!(twice.refused().contains("has no place"));
    let error = mixtral(&|m| m.replace(floats(one, &[8, 15]))).refused();
    assert!(
        error.contains("differs among experts: f32 [8, 16] and f32 [8, 15]"),
        "{error}"
    );
}
