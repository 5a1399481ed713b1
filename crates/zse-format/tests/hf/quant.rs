//! Quantized tensors that do not fit their description are refused; the numbers of those that do
//! are held to other libraries by `tests/quantized.rs` of zse-model.

use serde_json::{Value, json};

use crate::directory::{Model, Tensor};

const UP: &str = "model.layers.0.mlp.up_proj";

/// A tensor of a dtype whose numbers take `width` bytes, all bytes `byte`.
fn filled(name: &str, dtype: &'static str, width: u64, shape: &[u64], byte: u8) -> Tensor {
    let len = width * shape.iter().product::<u64>();
    (
        format!("{UP}.{name}"),
        dtype,
        shape.to_vec(),
        vec![byte; len as usize],
    )
}

/// A Llama whose up projection, 16 x 8, is made of `tensors`.
fn model(config: Value, tensors: Vec<Tensor>) -> Model {
    let mut model = Model::llama().with(config);
    model.remove(&format!("{UP}.weight"));
    model.tensors.extend(tensors);
    model
}

fn gptq(bits: u32, group_size: i32) -> Value {
    json!({"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": group_size}})
}

/// 8 inputs in one group, 16 outputs, of 4 bits.
fn gptq_tensors() -> Vec<Tensor> {
    vec![
        filled("qweight", "I32", 4, &[1, 16], 0x21),
        filled("qzeros", "I32", 4, &[1, 2], 0x77),
        filled("scales", "F16", 2, &[1, 16], 0x3c),
        filled("g_idx", "I32", 4, &[8], 0),
    ]
}

#[test]
fn rows_shorter_than_a_block_become_floats() {
    let checkpoint = model(gptq(4, -1), gptq_tensors()).write().open().unwrap();
    let up = checkpoint.tensor("blk.0.ffn_up.weight").unwrap();
    let mut weights = vec![0.0; 128];
    zse_quant::decode(up.ty, &up.data.bytes(), &mut weights).unwrap();
    // Codes 1 and 2, zero points 7 + 1, scales of about 1.06.
    let scale = half(0x3c3c);
    assert_eq!((weights[0], weights[1]), (-7.0 * scale, -6.0 * scale));
}

/// 0x3c3c in half precision: 1 + 60 / 1024.
fn half(bits: u16) -> f32 {
    1.0 + f32::from(bits & 0x3ff) / 1024.0
}

#[test]
fn tensors_of_another_shape_are_refused() {
    for (which, shape, said) in [
        (0, &[2u64, 16][..], "do not explain"),
        (1, &[1, 3], "qzeros of shape [1, 3]"),
        (2, &[1, 15], "scales of shape [1, 15]"),
        (3, &[7], "g_idx of shape [7]"),
    ] {
        let mut tensors = gptq_tensors();
        let width = tensors[which].3.len() as u64 / tensors[which].2.iter().product::<u64>();
        tensors[which].3 = vec![0; (width * shape.iter().product::<u64>()) as usize];
        tensors[which].2 = shape.to_vec();
        let found = model(gptq(4, 8), tensors).refused();
        assert!(
            found.contains(said) && found.contains("up_proj.weight"),
            "{found}"
        );
    }
    let mut beyond = gptq_tensors();
    beyond[3].3 = vec![1; 32];
    assert!(
        model(gptq(4, -1), beyond)
            .refused()
            .contains("g_idx beyond its 1 groups")
    );
    let mut lacking = gptq_tensors();
    lacking.remove(1);
    assert!(
        model(gptq(4, -1), lacking)
            .refused()
            .contains("up_proj.qzeros")
    );
}

#[test]
fn widths_of_modules_are_found_under_the_names_that_files_give_them() {
    let widths = |bits: u32| json!({"group_size": 8, "bits": bits});
    let mut quantization = widths(4);
    quantization[format!("language_model.{UP}")] = widths(8);
    let mut model = Model::gemma3().with(json!({"quantization": quantization}));
    model.remove(&format!("{UP}.weight"));
    model.tensors.extend([
        filled("weight", "U32", 4, &[16, 2], 1),
        filled("scales", "F16", 2, &[16, 1], 0x3c),
        filled("biases", "F16", 2, &[16, 1], 0),
    ]);
    assert_eq!(model.refused(), "");
}

#[test]
fn modules_may_be_left_out_of_gptq() {
    let mut config = gptq(4, -1);
    config["quantization_config"]["dynamic"] = json!({"-:.*down": {}});
    assert_eq!(model(config.clone(), gptq_tensors()).refused(), "");
    config["quantization_config"]["dynamic"] = json!({"-:.*down": {}, "+:.*up": {"bits": 8}});
    let found = model(config, gptq_tensors()).refused();
    assert!(found.contains("quantization_config.dynamic is"), "{found}");
}

#[test]
fn methods_and_widths_that_are_not_known_are_refused() {
    let of = |config: Value| model(json!({"quantization_config": config}), Vec::new()).refused();
    let found = model(gptq(5, 32), gptq_tensors()).refused();
    assert!(found.contains("quantization_config.bits is 5"), "{found}");
    assert!(
        model(gptq(4, 0), gptq_tensors())
            .refused()
            .contains("group_size is 0")
    );
    let awq = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemv"});
    assert!(of(awq).contains("version is \"gemv\""));
    let compressed = json!({"quant_method": "compressed-tensors", "format": "marlin-24"});
    assert!(of(compressed).contains("format is \"marlin-24\""));
    let rotated = json!({"quant_method": "compressed-tensors", "format": "pack-quantized",
        "transform_config": {"config_groups": {"R1": {"type": "hadamard"}}}});
    assert!(of(rotated).contains("transform_config is {\"config_groups\""));
    assert!(of(json!({"quant_method": "aqlm"})).contains("quant_method is \"aqlm\""));
    let of_group = |weights: Value| {
        of(
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}),
        )
    };
    let two = of_group(json!({"num_bits": 2, "group_size": 128}));
    assert!(two.contains("group_0.weights.num_bits is 2"), "{two}");
    let wide = json!({"quant_method": "fp8", "fmt": "e5m2"});
    assert!(of(wide).contains("fmt is \"e5m2\""));
    let marlin = json!({"quant_method": "gptq", "bits": 4, "group_size": 32,
        "is_marlin_format": true});
    assert!(of(marlin).contains("is_marlin_format is true"));
    let stored = json!({"quant_method": "bitsandbytes", "load_in_4bit": true,
        "bnb_4bit_quant_storage": "bfloat16"});
    assert!(of(stored).contains("bnb_4bit_quant_storage is \"bfloat16\""));
    let mlx = json!({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}});
    assert!(
        model(mlx, Vec::new())
            .refused()
            .contains("quantization.mode is \"mxfp4\"")
    );
}
