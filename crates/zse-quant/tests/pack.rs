//! Packing is a permutation: invertible, and laid out as its documentation says.

use proptest::collection::vec;
use proptest::prelude::*;
use zse_quant::pack::*;
use zse_quant::{GgmlType, QuantError};

/// A type, a number of rows and columns that it allows, and the bytes of those rows.
fn matrix() -> impl Strategy<Value = (GgmlType, usize, usize, Vec<u8>)> {
    (
        proptest::sample::select(GgmlType::WEIGHTS),
        0usize..40,
        0usize..5,
    )
        .prop_flat_map(|(ty, rows, blocks)| {
            let cols = blocks * ty.block_len();
            let bytes = rows * ty.row_bytes(cols).unwrap();
            vec(any::<u8>(), bytes).prop_map(move |src| (ty, rows, cols, src))
        })
}

/// The formula of the module documentation, byte by byte.
fn pack_by_formula(ty: GgmlType, rows: usize, cols: usize, src: &[u8]) -> Vec<u8> {
    let mut dst = vec![0; packed_bytes(ty, rows, cols).unwrap()];
    let (row_bytes, cell) = (ty.row_bytes(cols).unwrap(), cell_bytes(ty));
    for row in 0..rows {
        for i in 0..row_bytes {
            let (b, i_cell) = (i / cell, i % cell);
            let inside = |f: &&zse_quant::Field| (f.offset..f.offset + f.len).contains(&i_cell);
            let field = fields_of(ty).iter().find(inside).unwrap();
            let (u, j) = (
                (i_cell - field.offset) / field.unit,
                (i_cell - field.offset) % field.unit,
            );
            let at = row / 16 * tile_bytes(ty, cols).unwrap()
                + b * 16 * cell
                + 16 * field.offset
                + (16 * u + row % 16) * field.unit
                + j;
            dst[at] = src[row * row_bytes + i];
        }
    }
    dst
}

proptest! {
    #[test]
    fn packed_rows_unpack_to_the_same_bytes((ty, rows, cols, src) in matrix()) {
        let mut packed = vec![0xaa; packed_bytes(ty, rows, cols).unwrap()];
        pack_rows(ty, rows, cols, &src, &mut packed).unwrap();
        prop_assert_eq!(&packed, &pack_by_formula(ty, rows, cols, &src));

        let mut back = vec![0x55; src.len()];
        unpack_rows(ty, rows, cols, &packed, &mut back).unwrap();
        prop_assert_eq!(back, src);
    }

    #[test]
    fn gathered_cells_are_the_blocks_of_the_file((ty, rows, cols, src) in matrix()) {
        prop_assume!(ty.is_quantized() && !src.is_empty());
        let mut packed = vec![0; packed_bytes(ty, rows, cols).unwrap()];
        pack_rows(ty, rows, cols, &src, &mut packed).unwrap();
        let (row_bytes, tile) = (ty.row_bytes(cols).unwrap(), tile_bytes(ty, cols).unwrap());
        let mut block = vec![0; cell_bytes(ty)];
        for row in 0..rows {
            for b in 0..cols / cell_len(ty) {
                let tile = &packed[row / 16 * tile..][..tile];
                gather_cell(ty, tile, row % 16, b, &mut block).unwrap();
                let at = row * row_bytes + b * block.len();
                prop_assert_eq!(&block, &src[at..at + block.len()]);
            }
        }
    }
}

#[test]
fn wrong_lengths_and_types_are_refused() {
    let ty = GgmlType::Q4K;
    let mut packed = vec![0; packed_bytes(ty, 17, 256).unwrap()];
    assert_eq!(packed.len(), 2 * 16 * 144);
    let src = vec![0; 17 * 144];
    assert!(pack_rows(ty, 17, 256, &src[1..], &mut packed).is_err());
    assert!(pack_rows(ty, 17, 256, &src, &mut packed[1..]).is_err());
    assert!(pack_rows(ty, 17, 128, &src, &mut packed).is_err());
    assert!(pack_rows(ty, 17, usize::MAX - 255, &src, &mut packed).is_err());
    assert!(pack_rows(ty, usize::MAX, 256, &src, &mut packed).is_err());

    let mut block = [0; 144];
    assert!(gather_cell(ty, &packed[..16 * 144], 15, 0, &mut block).is_ok());
    let outside = |row, cell| Err(QuantError::OutsideTile { ty, row, cell });
    assert_eq!(
        gather_cell(ty, &packed[..16 * 144], 16, 0, &mut block),
        outside(16, 0)
    );
    assert_eq!(
        gather_cell(ty, &packed[..16 * 144], 0, 1, &mut block),
        outside(0, 1)
    );
    assert!(gather_cell(ty, &packed, 0, 0, &mut block[1..]).is_err());

    let mut row = [0; 288];
    assert!(gather_row(ty, &packed, 15, &mut row).is_ok());
    assert_eq!(gather_row(ty, &packed, 16, &mut row), outside(16, 0));
    for part in [0, 1, 100, 144, 287] {
        assert!(
            gather_row(ty, &packed, 0, &mut row[..part]).is_err(),
            "{part}"
        );
    }
    assert!(gather_row(ty, &[], 0, &mut []).is_ok());
    assert!(gather_row(GgmlType::F16, &packed[..128], 0, &mut row[..6]).is_ok());
    assert!(gather_row(GgmlType::F16, &packed[..128], 0, &mut row[..7]).is_err());
    assert!(gather_row(GgmlType::I32, &packed[..64], 0, &mut row[..4]).is_err());

    assert!(packed_bytes(GgmlType::I32, 1, 1).is_err());
    assert!(gather_cell(GgmlType::I32, &packed, 0, 0, &mut block[..4]).is_err());
}
