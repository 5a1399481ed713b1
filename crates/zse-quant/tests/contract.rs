//! The contract's definition agrees with decoding, and its dot product with exact arithmetic.

use proptest::collection::vec;
use proptest::prelude::*;
use zse_quant::contract::*;
use zse_quant::{GgmlType, QuantError, decode};

const MAX_BLOCKS: usize = 4;

fn quantized_types() -> impl Strategy<Value = GgmlType> {
    let types: Vec<_> = GgmlType::WEIGHTS
        .iter()
        .copied()
        .filter(|ty| ty.is_quantized())
        .collect();
    proptest::sample::select(types)
}

/// A quantized type and a row of 1 to 4 blocks of random bytes that decodes to finite weights
/// whose products with activations stay finite too.
fn row() -> impl Strategy<Value = (GgmlType, Vec<u8>, Vec<f32>)> {
    (quantized_types(), 1..=MAX_BLOCKS)
        .prop_flat_map(|(ty, n)| (Just(ty), vec(any::<u8>(), n * ty.block_bytes())))
        .prop_map(|(ty, bytes)| {
            let mut weights = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
            decode(ty, &bytes, &mut weights).unwrap();
            (ty, bytes, weights)
        })
        .prop_filter("finite weights", |(.., weights)| {
            weights.iter().all(|w| w.abs() < 1e30)
        })
}

/// Activations of mixed sizes, outliers among them.
fn activations() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![8 => -1.0f32..1.0, 1 => -100.0f32..100.0, 1 => Just(0.0)];
    vec(value, MAX_BLOCKS * 256)
}

proptest! {
    #[test]
    fn unpacked_groups_are_the_decoded_weights((ty, bytes, weights) in row()) {
        let contract = contract_of(ty).unwrap();
        for (g, weights) in weights.chunks_exact(32).enumerate() {
            let block = unpack32(ty, &bytes, g).unwrap();
            for (i, &weight) in weights.iter().enumerate() {
                // Products are exact or rounded once, so not even the last bit may differ.
                let product = f32::from(block.q[i]) * block.w[i / 16];
                prop_assert_eq!(product + block.m[i / 16], weight, "{} group {}", ty, g);
            }
            if contract.halves == Halves::Uniform {
                prop_assert_eq!((block.w[0], block.m[0]), (block.w[1], block.m[1]));
            }
            if !contract.has_min {
                prop_assert_eq!(block.m, [0.0; 2]);
            }
        }
        prop_assert_eq!(unpack32(ty, &bytes, weights.len() / 32), None);
        prop_assert_eq!(unpack32(ty, &bytes, usize::MAX), None);
    }

    #[test]
    fn dot_is_near_the_exact_dot((ty, bytes, weights) in row(), x in activations()) {
        let x = QuantizedColumn::new(&x[..weights.len()]);
        let x = x.blocks();
        let (mut exact, mut size) = (0.0, 0.0);
        for (i, &weight) in weights.iter().enumerate() {
            let block = unpack32(ty, &bytes, i / 32).unwrap();
            let x = f64::from(x.q[i]) * f64::from(x.scale[i / 32]);
            exact += f64::from(weight) * x;
            let product = f64::from(block.q[i % 32]) * f64::from(block.w[i % 32 / 16]);
            size += (product.abs() + f64::from(block.m[i % 32 / 16]).abs()) * x.abs();
        }
        let dot = f64::from(dot(ty, &bytes, &x).unwrap());
        prop_assert!((dot - exact).abs() <= 1e-5 * size + 1e-36, "{ty}: {dot} for {exact}");
    }

    /// The formulas again, written from their description in the module documentation.
    #[test]
    fn dot_follows_the_formula_bit_by_bit((ty, bytes, weights) in row(), x in activations()) {
        let column = QuantizedColumn::new(&x[..weights.len()]);
        let x = column.blocks();
        let contract = contract_of(ty).unwrap();
        let mut acc = 0.0f32;
        for g in 0..weights.len() / 32 {
            let Block32 { q, w, m } = unpack32(ty, &bytes, g).unwrap();
            let mut p = [0i64; 2];
            for i in 0..32 {
                p[i / 16] += i64::from(q[i]) * i64::from(x.q[32 * g + i]);
            }
            let s = &x.sums[2 * g..2 * g + 2];
            let mut t;
            if contract.halves == Halves::Uniform {
                t = (p[0] + p[1]) as f32 * w[0];
                if contract.has_min {
                    t = f32::mul_add((s[0] + s[1]) as f32, m[0], t);
                }
            } else {
                t = f32::mul_add(p[1] as f32, w[1], p[0] as f32 * w[0]);
                if contract.has_min {
                    t = f32::mul_add(s[0] as f32, m[0], t);
                    t = f32::mul_add(s[1] as f32, m[1], t);
                }
            }
            acc = f32::mul_add(t, x.scale[g], acc);
        }
        prop_assert_eq!(dot(ty, &bytes, &x).unwrap().to_bits(), acc.to_bits());
    }

    #[test]
    fn rounded_activations_are_within_half_a_step(x in activations()) {
        let column = QuantizedColumn::new(&x);
        let blocks = column.blocks();
        for (g, x) in x.chunks_exact(32).enumerate() {
            let (q, scale) = (&blocks.q[32 * g..][..32], blocks.scale[g]);
            let amax = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            prop_assert_eq!(scale, amax / 127.0);
            for (&q, &x) in q.iter().zip(x) {
                prop_assert_eq!(f32::from(q), (x * (127.0 / amax.max(1e-30))).round_ties_even());
                prop_assert!(q != i8::MIN);
                prop_assert!((f32::from(q) * scale - x).abs() <= 0.5001 * scale);
            }
            for h in 0..2 {
                let sum: i32 = q[16 * h..][..16].iter().map(|&q| i32::from(q)).sum();
                prop_assert_eq!(blocks.sums[2 * g + h], sum);
            }
        }
    }

    #[test]
    fn float_dot_is_a_chain_of_fused_products(x in vec(-2.0f32..2.0, 0..200)) {
        for ty in [GgmlType::F32, GgmlType::F16, GgmlType::Bf16] {
            // Small numbers that all three types hold exactly.
            let weights: Vec<f32> = (0..x.len()).map(|i| (i % 13) as f32 * 0.25 - 1.0).collect();
            let bytes: Vec<u8> = match ty {
                GgmlType::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
                GgmlType::F16 => {
                    weights.iter().flat_map(|w| half::f16::from_f32(*w).to_le_bytes()).collect()
                }
                _ => weights.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect(),
            };
            let chain = weights.iter().zip(&x).fold(0.0f32, |acc, (w, x)| w.mul_add(*x, acc));
            prop_assert_eq!(dot_float(ty, &bytes, &x).unwrap().to_bits(), chain.to_bits());
        }
    }
}

#[test]
fn faulty_and_tiny_blocks_round_as_defined() {
    let mut x = [1.0f32; 160];
    x[5] = f32::NAN;
    x[40] = f32::NEG_INFINITY;
    x[64..96].fill(-0.0);
    x[96..128].fill(1e-40);
    x[130] = -254.0;
    let column = QuantizedColumn::new(&x);
    let blocks = column.blocks();
    assert!(blocks.scale[0].is_nan() && blocks.scale[1].is_nan());
    assert_eq!(blocks.scale[2..], [0.0, 0.0, 2.0]);
    assert!(blocks.q[..128].iter().all(|&q| q == 0));
    // 1 / 2 is a tie, which goes to the even 0.
    assert_eq!(blocks.q[128..132], [0, 0, -127, 0]);

    let row = [0x3c; 34 * 5];
    assert!(dot(GgmlType::Q8_0, &row, &blocks).unwrap().is_nan());
}

#[test]
fn wrong_lengths_and_types_are_refused() {
    let column = QuantizedColumn::new(&[1.0; 64]);
    let x = column.blocks();
    assert!(dot(GgmlType::Q8_0, &[0; 68], &x).is_ok());
    assert!(dot(GgmlType::Q8_0, &[0; 67], &x).is_err());
    assert!(matches!(
        dot(GgmlType::Q4K, &[0; 144], &x),
        Err(QuantError::Cols { cols: 64, .. })
    ));
    assert!(matches!(
        dot(GgmlType::F32, &[0; 256], &x),
        Err(QuantError::Unsupported { .. })
    ));
    assert!(
        dot(
            GgmlType::Q8_0,
            &[0; 68],
            &ActivationBlocks {
                sums: &x.sums[1..],
                ..x
            }
        )
        .is_err()
    );
    assert!(
        dot(
            GgmlType::Q8_0,
            &[0; 68],
            &ActivationBlocks { scale: &[], ..x }
        )
        .is_err()
    );
    assert!(dot_float(GgmlType::F16, &[0; 6], &[1.0; 3]).is_ok());
    assert!(dot_float(GgmlType::F16, &[0; 7], &[1.0; 3]).is_err());
    assert!(dot_float(GgmlType::Q8_0, &[0; 34], &[1.0; 32]).is_err());
    assert_eq!(unpack32(GgmlType::F32, &[0; 128], 0), None);
    assert_eq!(contract_of(GgmlType::I8), None);
}
