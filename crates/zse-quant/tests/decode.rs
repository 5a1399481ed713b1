//! Decoding has the bits of ggml, and refuses what does not fit.

use std::path::Path;

use proptest::prelude::*;
use zse_quant::{GgmlType, QuantError, decode};

/// Blocks of one type and ggml's decoding of them.
struct Golden<'a> {
    ty: GgmlType,
    blocks: &'a [u8],
    values: Vec<f32>,
}

/// Reads a file of golden/make.py.
fn golden(mut bytes: &[u8]) -> Vec<Golden<'_>> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(12);
        let word = |i: usize| u32::from_le_bytes(head[4 * i..][..4].try_into().unwrap());
        let (blocks, rest) = rest.split_at(word(1) as usize);
        let (values, rest) = rest.split_at(4 * word(2) as usize);
        let values = values
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        list.push(Golden {
            ty: GgmlType::from_id(word(0)).unwrap(),
            blocks,
            values,
        });
        bytes = rest;
    }
    list
}

#[test]
fn every_type_decodes_to_the_bits_of_ggml() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decode.bin");
    let path = std::env::var_os("ZSE_GOLDEN").map_or(committed, Into::into);
    let bytes = std::fs::read(path).unwrap();
    let golden = golden(&bytes);

    let mut types: Vec<_> = golden.iter().map(|g| g.ty).collect();
    types.sort_by_key(|ty| ty.id());
    assert_eq!(types, GgmlType::WEIGHTS);

    for Golden { ty, blocks, values } in golden {
        assert!(!values.is_empty());
        let mut decoded = vec![0.0; values.len()];
        decode(ty, blocks, &mut decoded).unwrap();
        // A NaN's payload is no one's contract.
        let differ =
            |(a, b): &(&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
        let mismatches = decoded.iter().zip(&values).filter(differ).count();
        println!("{ty}: {mismatches} of {} values differ", values.len());
        assert_eq!(mismatches, 0, "{ty}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(
        ty in proptest::sample::select(GgmlType::ALL),
        src in proptest::collection::vec(any::<u8>(), 0..1200),
        len in 0usize..600,
    ) {
        let mut dst = vec![0.0; len];
        let fits = ty.is_weight() && ty.row_bytes(len) == Some(src.len());
        prop_assert_eq!(decode(ty, &src, &mut dst).is_ok(), fits);

        let blocks = src.len() / ty.block_bytes();
        let mut dst = vec![0.0; blocks * ty.block_len()];
        let whole = &src[..blocks * ty.block_bytes()];
        prop_assert_eq!(decode(ty, whole, &mut dst).is_ok(), ty.is_weight());
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let error = decode(GgmlType::Q4K, &[0; 143], &mut [0.0; 256]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "q4_K: source bytes has length 143, but 144 is needed"
    );
    let error = decode(GgmlType::Q4K, &[0; 144], &mut [0.0; 255]).unwrap_err();
    assert_eq!(
        error,
        QuantError::Cols {
            ty: GgmlType::Q4K,
            cols: 255
        }
    );
    let error = decode(GgmlType::I8, &[0; 1], &mut [0.0; 1]).unwrap_err();
    assert_eq!(error.to_string(), "i8: this type cannot be decoded");
}
