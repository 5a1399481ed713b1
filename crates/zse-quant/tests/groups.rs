//! Integers with groups of more than a block: one scale for all blocks of a group, the best there is by
//! the type's rule, and nothing else.

use proptest::prelude::*;
use zse_quant::GgmlType::{self, Q4_0, Q4K, Q8_0};
use zse_quant::{QuantError, decode, encode, encode_groups};

const COLS: usize = 320;

fn encoded(ty: GgmlType, group: usize, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; x.len() / COLS * ty.row_bytes(COLS).unwrap()];
    encode_groups(ty, group, x, COLS, importance, &mut bytes).unwrap();
    bytes
}

fn error(ty: GgmlType, bytes: &[u8], x: &[f32], importance: &[f32]) -> f64 {
    let mut back = vec![0.0; x.len()];
    decode(ty, bytes, &mut back).unwrap();
    let terms = x.iter().zip(&back).zip(importance.iter().cycle());
    terms
        .map(|((a, b), w)| f64::from(*w) * f64::from(a - b).powi(2))
        .sum()
}

/// Bytes of the scales, block by block.
fn scales(ty: GgmlType, bytes: &[u8]) -> Vec<[u8; 2]> {
    let blocks = bytes.chunks_exact(ty.row_bytes(32).unwrap());
    blocks.map(|block| [block[0], block[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_group_has_one_scale_as_if_it_were_a_block(
        x in prop::collection::vec(-3.0f32..3.0, 2 * COLS),
        group in prop_oneof![Just(64), Just(128)],
    ) {
        for (ty, top) in [(Q4_0, -8.0f32), (Q8_0, 127.0)] {
            let bytes = encoded(ty, group, &x, None);
            // 320 columns: groups of 128, 128 and 64.
            for (row, scales) in x.chunks(COLS).zip(scales(ty, &bytes).chunks(COLS / 32)) {
                for (x, scales) in row.chunks(group).zip(scales.chunks(group / 32)) {
                    let largest = x.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
                    let d = match ty {
                        Q4_0 => largest / top,
                        _ => largest.abs() / top,
                    };
                    let d = half::f16::from_f32(d).to_le_bytes();
                    prop_assert!(scales.iter().all(|scale| *scale == d));
                }
            }
            let mut back = vec![0.0; x.len()];
            decode(ty, &bytes, &mut back).unwrap();
            let step = 3.0 / top.abs();
            // At level -8 the other end is cut by up to a step.
            prop_assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() <= 1.01 * step));
        }
    }

    #[test]
    fn importance_makes_the_weighted_error_no_greater(
        x in prop::collection::vec(-3.0f32..3.0, COLS),
        importance in prop::collection::vec(0.0f32..9.0, COLS),
    ) {
        let [plain, weighted] = [None, Some(&importance[..])]
            .map(|weights| encoded(Q4_0, 128, &x, weights));
        let error = |bytes: &[u8]| error(Q4_0, bytes, &x, &importance);
        prop_assert!(error(&weighted) <= 1.001 * error(&plain));
        let scales = scales(Q4_0, &weighted);
        prop_assert!(scales.chunks(4).all(|s| s.iter().all(|scale| *scale == s[0])));
    }

    #[test]
    fn groups_of_32_are_blocks(x in prop::collection::vec(-3.0f32..3.0, COLS), is_weighted: bool) {
        let importance = vec![0.5; COLS];
        let importance = is_weighted.then_some(&importance[..]);
        for ty in [Q4_0, Q8_0, Q4K].into_iter().filter(|ty| ty.row_bytes(COLS).is_some()) {
            let mut plain = vec![0; ty.row_bytes(COLS).unwrap()];
            encode(ty, &x, COLS, importance, &mut plain).unwrap();
            prop_assert_eq!(encoded(ty, 32, &x, importance), plain);
        }
    }
}

#[test]
fn what_has_no_groups_is_refused() {
    let (x, mut out) = (vec![1.0; 512], vec![0; 1024]);
    for (ty, group) in [(Q4K, 64), (Q4_0, 48), (Q4_0, 0), (Q8_0, 16)] {
        let size = ty.row_bytes(512).unwrap();
        let error = encode_groups(ty, group, &x, 512, None, &mut out[..size]);
        assert!(
            matches!(error, Err(QuantError::Unsupported { .. })),
            "{error:?}"
        );
    }
    let mut odd = x.clone();
    odd[70] = f32::NAN;
    let size = Q4_0.row_bytes(512).unwrap();
    let error = encode_groups(Q4_0, 64, &odd, 512, None, &mut out[..size]);
    assert!(
        matches!(error, Err(QuantError::Weight { col: 70, .. })),
        "{error:?}"
    );
    // All zeros are zeros.
    encode_groups(
        Q4_0,
        64,
        &vec![0.0; 512],
        512,
        Some(&vec![0.0; 512]),
        &mut out[..size],
    )
    .unwrap();
    let mut back = vec![1.0; 512];
    decode(Q4_0, &out[..size], &mut back).unwrap();
    assert!(back.iter().all(|x| *x == 0.0));
}
