//! Adapters of PEFT and in GGUF: what they say, and what is refused by name.

use serde_json::{Value, json};
use zse_format::{Checkpoint, GgufWriter, Lora};
use zse_quant::GgmlType;

use crate::directory::{Directory, Model, Tensor, floats, safetensors};

/// A base model, and adapters beside it.
struct Bench {
    directory: Directory,
    base: Checkpoint,
}

/// The matrices of a module, with `inputs`, `outputs` and rank 2.
fn pair(module: &str, inputs: u64, outputs: u64) -> [Tensor; 2] {
    [("lora_A", [2, inputs]), ("lora_B", [outputs, 2])]
        .map(|(side, shape)| floats(&format!("base_model.model.{module}.{side}.weight"), &shape))
}

fn layer(module: &str) -> String {
    format!("model.layers.0.{module}")
}

impl Bench {
    fn new() -> Self {
        let directory = Model::llama().write();
        let base = directory.open().unwrap();
        Self { directory, base }
    }

    /// What an adapter of these tensors is, whose configuration is plain but for `entries`.
    fn peft(&self, entries: Value, tensors: &[Tensor]) -> Result<Lora, String> {
        let mut config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none" });
        for (key, value) in entries.as_object().unwrap() {
            config[key] = value.clone();
        }
        let add = |name: &str, content: &[u8]| self.directory.add(name, content);
        add("lora/adapter_config.json", config.to_string().as_bytes());
        add("lora/adapter_model.safetensors", &safetensors(tensors));
        self.open("lora")
    }

    fn open(&self, name: &str) -> Result<Lora, String> {
        Lora::open(&self.directory.path(name), &self.base).map_err(|e| e.to_string())
    }

    /// What a GGUF file of these entries and tensors is.
    fn gguf(
        &self,
        entries: &[(&str, &str)],
        alpha: f32,
        tensors: &[(&str, &[u64])],
    ) -> Result<Lora, String> {
        let mut writer = GgufWriter::new();
        for (key, value) in entries {
            writer.set(key, *value).unwrap();
        }
        writer.set("adapter.lora.alpha", alpha).unwrap();
        for (name, shape) in tensors {
            writer.declare(name, GgmlType::F32, shape).unwrap();
        }
        let mut body = writer.begin(Vec::new(), "test").unwrap();
        for (name, shape) in tensors {
            let (.., bytes) = floats(name, shape);
            body.write(name, &bytes).unwrap();
        }
        self.directory.add("lora.gguf", body.finish().unwrap());
        self.open("lora.gguf")
    }
}

const GGUF: [(&str, &str); 3] = [
    ("general.type", "adapter"),
    ("adapter.type", "lora"),
    ("general.architecture", "llama"),
];

#[test]
fn modules_become_weights_with_their_scales() {
    let bench = Bench::new();
    let tensors = [
        pair(&layer("self_attn.q_proj"), 8, 8),
        pair(&layer("self_attn.v_proj"), 8, 4),
        pair("lm_head", 8, 6),
    ]
    .concat();
    let lora = bench.peft(json!({}), &tensors).unwrap();
    let names: Vec<_> = lora.weights().iter().map(|w| w.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "blk.0.attn_q.weight",
            "blk.0.attn_v.weight",
            "output.weight"
        ]
    );
    assert!(lora.weights().iter().all(|w| w.scale == 4.0));
    let value = lora.weight("blk.0.attn_v.weight").unwrap();
    assert_eq!(
        [value.a.rows, value.a.cols, value.b.rows, value.b.cols],
        [2, 8, 4, 2]
    );
    let plain: Vec<f32> = (0..8).map(|i| i as f32 + 0.5).collect();
    assert_eq!(value.b.to_f32(), plain);
    // Rows of a query head come as neighbours, as those of the weight: 0, 2, 1, 3 of each four.
    let query = lora.weight("blk.0.attn_q.weight").unwrap();
    let rows = query.b.to_f32();
    let first: Vec<f32> = rows.chunks(2).map(|row| (row[0] - 0.5) / 2.0).collect();
    assert_eq!(first, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);

    let scaled = json!({
        "use_rslora": true, "r": 7, "rank_pattern": { "[a-z]_proj": 2, "lm_head": 2 },
        "alpha_pattern": { "self_attn.q_proj": 2, "proj": 1, "^lm_head": 3.0 },
    });
    let lora = bench.peft(scaled, &tensors).unwrap();
    let scale = |name: &str| lora.weight(name).unwrap().scale;
    let root = 2f64.sqrt();
    assert_eq!(scale("blk.0.attn_q.weight"), (2.0 / root) as f32);
    assert_eq!(scale("blk.0.attn_v.weight"), (8.0 / root) as f32);
    assert_eq!(scale("output.weight"), (3.0 / root) as f32);
    // Either of its files stands for the directory.
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        assert_eq!(
            bench.open(&format!("lora/{name}")).unwrap().weights().len(),
            3
        );
    }
}

#[test]
fn what_a_configuration_asks_for_beyond_is_named() {
    let bench = Bench::new();
    let tensors = pair(&layer("self_attn.v_proj"), 8, 4);
    for (entries, expected) in [
        (json!({ "peft_type": "IA3" }), "peft_type is \"IA3\""),
        (json!({ "r": null }), "r is missing"),
        (json!({ "r": -1 }), "r must be an integer"),
        (json!({ "lora_alpha": "x" }), "lora_alpha must be a number"),
        (json!({ "bias": "all" }), "bias is \"all\""),
        (json!({ "use_dora": true }), "use_dora is true"),
        (json!({ "fan_in_fan_out": true }), "fan_in_fan_out is true"),
        (json!({ "lora_bias": true }), "lora_bias is true"),
        (
            json!({ "init_lora_weights": "pissa" }),
            "init_lora_weights is \"pissa\"",
        ),
        (
            json!({ "init_lora_weights": "olora" }),
            "init_lora_weights is \"olora\"",
        ),
        (
            json!({ "modules_to_save": ["lm_head"] }),
            "modules_to_save is [\"lm_head\"]",
        ),
        (
            json!({ "target_parameters": ["experts"] }),
            "target_parameters is [\"experts\"], which is not implemented; only those of experts",
        ),
        (
            json!({ "layer_replication": [[0, 1]] }),
            "layer_replication is",
        ),
        (
            json!({ "trainable_token_indices": [1] }),
            "trainable_token_indices is [1]",
        ),
        (
            json!({ "alora_invocation_tokens": [1] }),
            "alora_invocation_tokens is [1]",
        ),
        (
            json!({ "rank_pattern": { "(": 1 } }),
            "rank_pattern.( is no pattern",
        ),
        (
            json!({ "rank_pattern": { "x": 1.5 } }),
            "rank_pattern.x must be an integer",
        ),
        (
            json!({ "alpha_pattern": { "x": "y" } }),
            "alpha_pattern.x must be a number",
        ),
        (
            json!({ "alpha_pattern": [] }),
            "alpha_pattern must be an object",
        ),
        (
            json!({ "r": 4 }),
            "has rank 2, but adapter_config.json says 4",
        ),
        (json!({ "lora_alpha": 1e300 }), "which is not finite"),
    ] {
        let refused = bench.peft(entries.clone(), &tensors).unwrap_err();
        assert!(refused.contains(expected), "{entries}: {refused}");
    }
    let many: serde_json::Map<_, _> = (0..5000).map(|i| (i.to_string(), json!(1))).collect();
    let refused = bench.peft(json!({ "rank_pattern": many }), &tensors);
    assert!(refused.unwrap_err().contains("5000 patterns"));
    for allowed in [
        json!({ "init_lora_weights": false, "modules_to_save": [], "use_rslora": false }),
        json!({ "init_lora_weights": "gaussian", "peft_version": "1", "future": null }),
    ] {
        bench.peft(allowed, &tensors).unwrap();
    }
}

#[test]
fn tensors_that_do_not_fit_the_model_are_named() {
    let bench = Bench::new();
    let value = layer("self_attn.v_proj");
    let good = pair(&value, 8, 4);
    let named = |name: &str| floats(&format!("base_model.model.{name}"), &[6, 8]);
    for (tensors, expected) in [
        (vec![], "has no tensors"),
        (vec![good[0].clone()], "has only one of its two matrices"),
        (
            pair(&value, 7, 4).to_vec(),
            "has matrices [2, 7] and [4, 2]",
        ),
        (
            pair(&value, 8, 5).to_vec(),
            "but the model's weight is [4, 8]",
        ),
        (
            pair(&layer("self_attn.q_proj"), 8, 6).to_vec(),
            "2 heads do not divide",
        ),
        (
            pair("model.layers.1.self_attn.v_proj", 8, 4).to_vec(),
            "for another one",
        ),
        (
            pair("model.layers.0.mlp.fc1", 8, 4).to_vec(),
            "for another one",
        ),
        (pair("model.norm", 8, 1).to_vec(), "adapts a vector"),
        (
            pair("model.embed_tokens", 8, 6).to_vec(),
            "adapts the embeddings",
        ),
        (
            vec![named("model.embed_tokens.lora_embedding_A")],
            "adapts the embeddings",
        ),
        (vec![named("lm_head.weight")], "modules_to_save"),
        (vec![named("lm_head.lora_magnitude_vector")], "DoRA"),
        (vec![named("lm_head.lora_B.bias")], "another kind of LoRA"),
        (
            vec![floats("lm_head.lora_A.weight", &[2, 8])],
            "does not begin with",
        ),
        (
            [
                pair("lm_head", 8, 6).to_vec(),
                vec![floats(
                    "base_model.model.lm_head.base_layer.weight",
                    &[7, 8],
                )],
            ]
            .concat(),
            "has another shape",
        ),
        // Two names of one module.
        (
            [pair("layers.0.self_attn.v_proj", 8, 4), good.clone()].concat(),
            "is there twice",
        ),
    ] {
        let refused = bench.peft(json!({}), &tensors).unwrap_err();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    let copied = floats("base_model.model.lm_head.base_layer.weight", &[6, 8]);
    let tensors = [&pair("lm_head", 8, 6)[..], &[copied]].concat();
    assert_eq!(bench.peft(json!({}), &tensors).unwrap().weights().len(), 1);

    let mut wrong = good.clone();
    wrong[1].1 = "I32";
    let refused = bench.peft(json!({}), &wrong).unwrap_err();
    assert!(refused.contains("has dtype I32"), "{refused}");
    let mut damaged = good.clone();
    damaged[0].3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let refused = bench.peft(json!({}), &damaged).unwrap_err();
    assert!(refused.contains("not finite"), "{refused}");
    let [a, b] = [floats("a", &[5000, 8]), floats("b", &[4, 5000])];
    let huge = good.map(|t| match t.0.contains("lora_A") {
        true => (t.0, a.1, a.2.clone(), a.3.clone()),
        false => (t.0, b.1, b.2.clone(), b.3.clone()),
    });
    let refused = bench.peft(json!({ "r": 5000 }), &huge).unwrap_err();
    assert!(
        refused.contains("rank 5000, must be at most 4096"),
        "{refused}"
    );
}

/// A mixture of two experts.
fn mixture() -> Bench {
    let mut model = Model::llama().with(json!({
        "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1,
    }));
    for name in ["gate_proj", "up_proj", "down_proj"] {
        model.remove(&format!("model.layers.0.mlp.{name}.weight"));
    }
    model.tensors.push(floats(
        "model.layers.0.block_sparse_moe.gate.weight",
        &[2, 8],
    ));
    for e in 0..2 {
        for (name, shape) in [("w1", [16, 8]), ("w2", [8, 16]), ("w3", [16, 8])] {
            let name = format!("model.layers.0.block_sparse_moe.experts.{e}.{name}.weight");
            model.tensors.push(floats(&name, &shape));
        }
    }
    let directory = model.write();
    let base = directory.open().unwrap();
    Bench { directory, base }
}

#[test]
fn experts_are_told_apart() {
    let bench = mixture();
    let gate = pair(&layer("block_sparse_moe.gate"), 8, 2);
    assert_eq!(
        bench.peft(json!({}), &gate).unwrap().weights()[0].name,
        "blk.0.ffn_gate_inp.weight"
    );
    let expert = |e: usize| pair(&layer(&format!("block_sparse_moe.experts.{e}.w2")), 16, 8);
    let lora = bench.peft(json!({}), &[expert(1), expert(0)].concat());
    let lora = lora.unwrap();
    let places: Vec<_> = lora
        .weights()
        .iter()
        .map(|w| (w.name.as_str(), w.expert))
        .collect();
    assert_eq!(
        places,
        [
            ("blk.0.ffn_down_exps.weight", 0),
            ("blk.0.ffn_down_exps.weight", 1)
        ]
    );
    let refused = bench.peft(json!({}), &expert(2)).unwrap_err();
    assert!(refused.contains("more experts than 2"), "{refused}");
    let wrong = pair(&layer("block_sparse_moe.experts.1.w2"), 8, 16);
    let refused = bench.peft(json!({}), &wrong).unwrap_err();
    assert!(refused.contains("of expert 1"), "{refused}");
    assert!(
        refused.contains("the model's weight is [8, 16]"),
        "{refused}"
    );
}

/// The two matrices that PEFT has of a parameter of all experts.
fn stack(wrapper: &str, ranks: u64, inputs: u64, outputs: u64) -> [Tensor; 2] {
    let name = format!("base_model.model.model.layers.0.mlp.experts.{wrapper}");
    [
        floats(&format!("{name}lora_A.weight"), &[ranks, inputs]),
        floats(&format!("{name}lora_B.weight"), &[outputs, ranks]),
    ]
}

#[test]
fn parameters_of_all_experts_become_matrices_of_each() {
    let bench = mixture();
    let targets = json!({
        "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        "rank_pattern": { "experts.gate_up_proj": 3 }, "alpha_pattern": { "gate_up_proj": 3 },
    });
    let tensors = [stack("base_layer.", 6, 8, 32), stack("", 4, 16, 8)].concat();
    let lora = bench.peft(targets.clone(), &tensors).unwrap();
    let names = ["down", "down", "gate", "gate", "up", "up"];
    assert_eq!(lora.weights().len(), names.len());
    for (i, (weight, name)) in lora.weights().iter().zip(names).enumerate() {
        assert_eq!(weight.name, format!("blk.0.ffn_{name}_exps.weight"));
        assert_eq!(weight.expert, i % 2);
        let scale = if name == "down" { 4.0 } else { 1.0 };
        assert_eq!(weight.scale, scale, "{name}");
    }
    let numbers = |n: usize| (0..n).map(|i| i as f32 + 0.5);
    // Of `A` the rows of an expert stand together; of `B` every second column is one's.
    let (gate, up) = (&lora.weights()[3], &lora.weights()[5]);
    assert_eq!(
        gate.a.to_f32(),
        numbers(6 * 8).skip(3 * 8).collect::<Vec<_>>()
    );
    assert_eq!(gate.a, up.a);
    let odd: Vec<f32> = numbers(32 * 6).skip(1).step_by(2).collect();
    assert_eq!(gate.b.to_f32(), odd[..16 * 3]);
    assert_eq!(up.b.to_f32(), odd[16 * 3..]);
    assert_eq!([gate.b.rows, gate.b.cols], [16, 3]);

    // One parameter alone has no wrapper within it.
    let alone = stack("", 6, 8, 32);
    let lora = bench.peft(targets.clone(), &alone).unwrap();
    assert_eq!(lora.weights()[0].name, "blk.0.ffn_gate_exps.weight");
    for (tensors, expected) in [
        (stack("", 4, 8, 32), "has ranks 4 and 4 in all"),
        (stack("", 6, 32, 8), "the model's experts are [16, 8]"),
    ] {
        let refused = bench.peft(targets.clone(), &tensors).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    let [a, _] = stack("", 6, 8, 32);
    let refused = bench.peft(targets, &[a]).unwrap_err();
    assert!(refused.contains("only one of its two"), "{refused}");
}

#[test]
fn stacks_in_gguf_are_of_as_many_experts() {
    let bench = mixture();
    let tensors = |experts: u64| {
        [
            ("blk.0.ffn_down_exps.weight.lora_a", [16, 2, experts]),
            ("blk.0.ffn_down_exps.weight.lora_b", [2, 8, experts]),
        ]
    };
    let open = |experts| {
        let tensors = tensors(experts);
        let tensors = tensors.each_ref().map(|(name, shape)| (*name, &shape[..]));
        bench.gguf(&GGUF, 4.0, &tensors)
    };
    let lora = open(2).unwrap();
    assert_eq!(lora.weights().len(), 2);
    let second: Vec<f32> = (32..64).map(|i| i as f32 + 0.5).collect();
    assert_eq!(lora.weights()[1].a.to_f32(), second);
    assert_eq!(
        (lora.weights()[1].expert, lora.weights()[1].scale),
        (1, 2.0)
    );
    for experts in [1, 3] {
        let refused = open(experts).unwrap_err();
        assert!(refused.contains("but the model has 2"), "{refused}");
    }
}

#[test]
fn files_that_are_no_adapters_are_named() {
    let bench = Bench::new();
    for (name, expected) in [
        ("absent", "cannot open"),
        (".", "adapter_config.json is missing"),
        ("config.json", "this file is no adapter"),
    ] {
        let refused = bench.open(name).unwrap_err();
        assert!(refused.contains(expected), "{name}: {refused}");
    }
    bench
        .directory
        .add("lora/adapter_config.json", r#"{"r": 2, "lora_alpha": 1}"#);
    bench.directory.add("lora/adapter_model.bin", "pickled");
    let refused = bench.open("lora").unwrap_err();
    assert!(
        refused.contains("adapter_model.bin is not read"),
        "{refused}"
    );

    let matrices: [(&str, &[u64]); 2] = [
        ("blk.0.attn_v.weight.lora_a", &[8, 2]),
        ("blk.0.attn_v.weight.lora_b", &[2, 4]),
    ];
    let entries = |key: &str, value: &'static str| {
        GGUF.map(|(k, v)| if k == key { (k, value) } else { (k, v) })
    };
    let lora = bench.gguf(&GGUF, 6.0, &matrices).unwrap();
    assert_eq!(lora.weights()[0].scale, 3.0);
    assert_eq!(
        bench.gguf(&GGUF, 0.0, &matrices).unwrap().weights()[0].scale,
        1.0
    );
    for (key, value, expected) in [
        ("general.type", "model", "general.type is \"model\""),
        ("adapter.type", "ia3", "adapter.type is \"ia3\""),
        (
            "general.architecture",
            "qwen2",
            "general.architecture is \"qwen2\", but must be \"llama\"",
        ),
    ] {
        let refused = bench
            .gguf(&entries(key, value), 1.0, &matrices)
            .unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    let invoked = [&GGUF[..], &[("adapter.alora.invocation_tokens", "x")]].concat();
    let refused = bench.gguf(&invoked, 1.0, &matrices).unwrap_err();
    assert!(refused.contains("invocation_tokens is there"), "{refused}");
    let refused = bench.gguf(&GGUF, f32::NAN, &matrices).unwrap_err();
    assert!(refused.contains("not finite"), "{refused}");
    for (name, shape, expected) in [
        (
            "blk.0.attn_norm.weight",
            &[8][..],
            "is no matrix of a product",
        ),
        ("blk.0.attn_k.weight.lora_a", &[8][..], "must be a matrix"),
        ("blk.0.attn_k.weight.lora_a", &[8, 2][..], "has only one"),
        (
            "blk.9.attn_v.weight.lora_a",
            &[8, 2][..],
            "has no place in this model",
        ),
        (
            "blk.0.attn_norm.weight.lora_a",
            &[8, 2][..],
            "adapts a vector",
        ),
        (
            "token_embd.weight.lora_a",
            &[8, 2][..],
            "adapts the embeddings",
        ),
        (
            "blk.0.attn_k.weight.lora_a",
            &[8, 2, 3][..],
            "is of 3 experts, but the model has 1",
        ),
        (
            "blk.0.attn_k.weight.lora_a",
            &[7, 2][..],
            "has matrices [2, 7], but the model's weight is [4, 8]",
        ),
        (
            "blk.0.attn_k.weight.lora_b",
            &[2, 5][..],
            "has matrices [5, 2], but the model's weight is [4, 8]",
        ),
        (
            "blk.0.attn_k.weight.lora_b",
            &[4097, 4][..],
            "has rank 4097, must be at most 4096",
        ),
    ] {
        let tensors = [&matrices[..], &[(name, shape)]].concat();
        let refused = bench.gguf(&GGUF, 1.0, &tensors).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn damaged_files_are_errors_and_nothing_worse() {
    let bench = Bench::new();
    let tensors = pair(&layer("self_attn.v_proj"), 8, 4);
    bench
        .peft(json!({ "rank_pattern": { "v_proj": 2 } }), &tensors)
        .unwrap();
    let matrices: [(&str, &[u64]); 2] = [
        ("blk.0.attn_v.weight.lora_a", &[8, 2]),
        ("blk.0.attn_v.weight.lora_b", &[2, 4]),
    ];
    bench.gguf(&GGUF, 6.0, &matrices).unwrap();
    for (file, adapter) in [
        ("lora/adapter_config.json", "lora"),
        ("lora/adapter_model.safetensors", "lora"),
        ("lora.gguf", "lora.gguf"),
    ] {
        let good = std::fs::read(bench.directory.path(file)).unwrap();
        for len in 0..good.len() {
            bench.directory.add(file, &good[..len]);
            assert!(bench.open(adapter).is_err(), "{file} cut to {len} bytes");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= [1, 0x80, 0xff][at % 3];
            bench.directory.add(file, &bytes);
            // Some changes make other numbers; none may bring the program down.
            let _ = bench.open(adapter);
        }
        bench.directory.add(file, &good);
        bench.open(adapter).unwrap();
    }
}
