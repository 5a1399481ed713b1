//! Weights in FP8, by each way in which scales are stored.

use serde_json::{Value, json};
use zse_format::Checkpoint;

use crate::directory::{Model, Tensor};

/// `mlp.up_proj`, `[16, 8]`, of ones in the first row, twos in the second, and so on alternating.
const UP: &str = "model.layers.0.mlp.up_proj.weight";

fn model(quantization: Value, scale: Tensor) -> Model {
    let mut model = Model::llama().with(json!({"quantization_config": quantization}));
    let ones = (0..128).map(|i| if i / 8 % 2 == 0 { 0x38 } else { 0x40 });
    model.replace((UP.to_owned(), "F8_E4M3", vec![16, 8], ones.collect()));
    model.tensors.push(scale);
    model
}

/// The numbers of the matrix.
fn up(model: &Checkpoint) -> Vec<f32> {
    let tensor = model.tensor("blk.0.ffn_up.weight").unwrap();
    assert_eq!((tensor.ty.name(), tensor.shape), ("bf16", &[8, 16][..]));
    let bytes = tensor.data.bytes();
    let numbers = bytes.as_chunks::<2>().0.iter();
    numbers
        .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16))
        .collect()
}

fn scales(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    (format!("{UP}_{name}"), "F32", shape.to_vec(), bytes)
}

#[test]
fn blocks_of_rows_and_columns_have_scales() {
    let quantization = json!({"quant_method": "fp8", "weight_block_size": [12, 5]});
    let scale = scales("scale_inv", &[2, 2], &[1.0, 2.0, 4.0, 8.0]);
    let group = json!({"weights": {"strategy": "block", "block_structure": [12, 5]}});
    let compressed = json!({"quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": group}});
    let compressed = model(compressed, scales("scale", &[2, 2], &[1.0, 2.0, 4.0, 8.0]));
    let mut first = model(Value::Null, compressed.tensors.last().unwrap().clone());
    first.config["compression_config"] = compressed.config["quantization_config"].clone();
    for model in [model(quantization, scale), compressed, first] {
        let numbers = up(&model.write().open().unwrap());
        for (i, x) in numbers.iter().enumerate() {
            let (row, col) = (i / 8, i % 8);
            let scale = [[1.0, 2.0], [4.0, 8.0]][usize::from(row >= 12)][usize::from(col >= 5)];
            assert_eq!(*x, scale * (1 + row % 2) as f32, "row {row}, column {col}");
        }
    }
}

#[test]
fn rows_or_the_whole_have_scales() {
    let tensors = json!({"quant_method": "compressed-tensors", "format": "float-quantized"});
    let each: Vec<_> = (0..16).map(|i| i as f32 + 1.0).collect();
    let by_row = |i: usize| (i / 8 + 1) as f32 * (1 + i / 8 % 2) as f32;
    for shape in [&[16, 1][..], &[16]] {
        let model = model(tensors.clone(), scales("scale", shape, &each));
        let numbers = up(&model.write().open().unwrap());
        assert!((0..128).map(by_row).eq(numbers), "{shape:?}");
    }
    // A scale of activations says nothing of the weights.
    let mut model = model(json!({"quant_method": "fp8"}), scales("scale", &[], &[0.5]));
    for unused in [
        "mlp.up_proj.input_scale",
        "self_attn.k_proj.k_scale",
        "self_attn.v_scale",
    ] {
        let name = format!("model.layers.0.{unused}");
        model.tensors.push((name, "F32", vec![], vec![0; 4]));
    }
    let numbers = up(&model.write().open().unwrap());
    assert!((0..128).map(|i| 0.5 * (1 + i / 8 % 2) as f32).eq(numbers));
}

#[test]
fn products_are_rounded_to_bf16() {
    let model = model(
        json!({"quant_method": "fp8"}),
        scales("scale", &[1], &[1.01]),
    );
    let numbers = up(&model.write().open().unwrap());
    assert_eq!((numbers[0], numbers[8]), (1.007_812_5, 2.015_625));
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    let block = json!({"quant_method": "fp8", "weight_block_size": [4, 4]});
    let wrong = model(block.clone(), scales("scale_inv", &[4, 1], &[1.0; 4])).refused();
    assert!(
        wrong.contains(UP) && wrong.contains("do not cover"),
        "{wrong}"
    );
    let rows = model(block.clone(), scales("scale_inv", &[8, 2], &[1.0; 16])).refused();
    assert!(rows.contains("do not cover"), "{rows}");
    let other = json!({"quant_method": "fp8", "weight_block_size": [4, 0]});
    let wrong = model(other, scales("scale_inv", &[4, 1], &[1.0; 4])).refused();
    assert!(
        wrong.contains("quantization_config.weight_block_size must be two"),
        "{wrong}"
    );
    let mut none = model(block, scales("scale_inv", &[4, 2], &[1.0; 8]));
    none.remove(&format!("{UP}_scale_inv"));
    let wrong = none.refused();
    assert!(wrong.contains("_scale\" is missing"), "{wrong}");
    none.config["quantization_config"] = Value::Null;
    let wrong = none.refused();
    assert!(
        wrong.contains("F8_E4M3, which the directory's config.json does not explain"),
        "{wrong}"
    );
}
