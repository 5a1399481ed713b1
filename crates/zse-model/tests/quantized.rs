//! Directories of quantized weights in every format against transformers on the dequantized
//! weights, on the fixtures that `tests/quantized/make.py`, `make_libraries.py` and `make_experts.py` make.

use std::path::{Path, PathBuf};

use zse_format::Checkpoint;
use zse_model::conformance::Golden;
use zse_model::reference::Reference;
use zse_quant::{GgmlType, decode};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantized")
}

fn numbers(checkpoint: &Checkpoint, name: &str) -> (GgmlType, Vec<f32>) {
    let tensor = checkpoint.tensor(name).unwrap();
    let mut numbers = vec![0.0; tensor.elements() as usize];
    decode(tensor.ty, &tensor.data.bytes(), &mut numbers).unwrap();
    (tensor.ty, numbers)
}

/// How near the weights come to the format's own.
#[derive(Clone, Copy)]
enum Rounding {
    /// They are equal.
    None,
    /// Those that are looked at are equal; a router of 8 bits is rounded to half precision.
    Router,
    /// Half a unit in the last place of half precision, which is what the format has scales in.
    Half,
}

/// The matrices of `format` are of type `ty`; their numbers and the logits are those of the format.
fn check(format: &str, ty: GgmlType, rounding: Rounding) {
    let golden = folder().join(format!("{format}.golden"));
    let (_, expected) = numbers(&Checkpoint::open(&golden).unwrap(), "down_proj");
    let checkpoint = Checkpoint::open(&folder().join(format)).unwrap();
    let names = ["blk.0.ffn_down.weight", "blk.0.ffn_down_exps.weight"];
    let name = names
        .into_iter()
        .find(|name| checkpoint.tensor(name).is_some());
    let (found, weights) = numbers(&checkpoint, name.unwrap());
    assert_eq!(found, ty, "{format}");
    // The fixture has the first rows. `max` below passes over what is no number.
    let weights = &weights[..expected.len()];
    assert!(
        !weights.is_empty() && weights.iter().all(|w| w.is_finite()),
        "{format}"
    );
    let largest = expected.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let differences = weights.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let error = differences.fold(0.0, f32::max) / largest;
    let (most, most_of_logits) = match rounding {
        Rounding::None => (0.0, 1e-5),
        Rounding::Router => (0.0, 1e-3),
        Rounding::Half => (1.0 / 2048.0, 4e-3),
    };
    assert!(error <= most, "{format}: weights differ by {error:e}");
    let report = Golden::open(&golden).unwrap().compare(&Reference).unwrap();
    println!(
        "{format:22} {ty:?} weights {error:.1e} logits {:.1e}",
        report.error
    );
    assert!(report.error <= most_of_logits, "{format}: {report:?}");
}

macro_rules! formats {
    ($($name:ident: $format:literal => $ty:ident, $rounding:ident;)*) => {$(
        #[test]
        fn $name() {
            check($format, GgmlType::$ty, Rounding::$rounding);
        }
    )*};
}
formats! {
    gptq_2_bits: "gptq-2" => Q4_1, None;
    gptq_3_bits_a_row: "gptq-3" => Q4_1, Half;
    gptq_4_bits_symmetric: "gptq-4-sym" => Q4_0, None;
    gptq_4_bits_asymmetric: "gptq-4-asym" => Q4_1, Half;
    gptq_4_bits_version_2: "gptq-4-v2" => Q4_1, Half;
    gptq_4_bits_in_order_of_activation: "gptq-4-act-order" => F16, Half;
    gptq_2_bits_in_order_of_activation: "gptq-2-act-order" => F16, Half;
    gptq_3_bits_in_order_of_activation_asymmetric: "gptq-3-act-order" => F16, Half;
    gptq_8_bits_in_order_of_activation: "gptq-8-act-order" => F16, Half;
    gptq_2_bits_asymmetric_by_its_library: "gptq-2-groups" => Q4_1, Half;
    gptq_3_bits_symmetric_by_its_library: "gptq-3-groups" => Q4_0, None;
    gptq_4_bits_asymmetric_by_its_library: "gptq-4-groups" => Q4_1, Half;
    gptq_4_bits_version_2_by_its_library: "gptq-4-groups-v2" => Q4_1, Half;
    gptq_8_bits_symmetric_by_its_library: "gptq-8-groups" => Q8_0, None;
    gptq_of_joined_matrices_asymmetric: "gptq-phi3" => F16, Half;
    gptq_experts: "gptq-qwen3moe" => Q4_0, Half;
    gptq_8_bits_symmetric: "gptq-8" => Q8_0, None;
    gptq_8_bits_asymmetric: "gptq-8-asym" => F16, Half;
    awq: "awq" => Q4_1, Half;
    awq_with_biases_in_groups_of_64: "awq-qwen2" => Q4_1, Half;
    awq_experts: "awq-mixtral" => Q4_1, Half;
    awq_in_groups_of_128: "awq-128" => Q4_1, Half;
    mlx_in_groups_of_128: "mlx-128" => Q4_1, None;
    mlx_2_bits: "mlx-2" => Q4_1, None;
    mlx_3_bits: "mlx-3" => Q4_1, None;
    mlx_4_bits: "mlx-4" => Q4_1, None;
    mlx_4_bits_bf16: "mlx-4-bf16" => Q4_1, None;
    mlx_5_bits: "mlx-5" => Q5_1, None;
    mlx_6_bits: "mlx-6" => F16, Half;
    mlx_8_bits: "mlx-8" => F16, Half;
    mlx_experts: "mlx-qwen3moe" => Q4_1, Router;
    mlx_experts_of_other_widths: "mlx-mixtral" => Q5_1, None;
    nf4: "nf4" => F16, None;
    nf4_nested: "nf4-nested" => Bf16, None;
    fp4: "fp4" => Bf16, None;
    llm_int8: "llm-int8" => Q8_0, Half;
    compressed_4_bits_symmetric: "compressed-4" => Q4_0, None;
    compressed_4_bits_asymmetric: "compressed-4-asym" => Q4_1, Half;
    compressed_4_bits_a_channel: "compressed-4-channel" => Q4_0, None;
    compressed_8_bits: "compressed-8" => Q8_0, None;
    compressed_int8: "compressed-int8" => Q8_0, None;
    compressed_int8_with_biases: "compressed-int8-qwen2" => Q8_0, None;
    fp8_a_row: "compressed-fp8-channel" => Bf16, None;
    fp8_a_tensor: "compressed-fp8-tensor" => Bf16, None;
    plain_f16: "plain-f16" => F16, None;
    plain_bf16: "plain-bf16" => Bf16, None;
}
