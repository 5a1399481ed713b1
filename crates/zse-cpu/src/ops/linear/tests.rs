//! Every unpacker and multiplier against the contract's scalar code, bit for bit.

use zse_model::conformance::Rng;
use zse_quant::contract::{Contract, Halves, QuantizedColumn, contract_of, dot, dot_float};
use zse_quant::pack::{TILE_ROWS, pack_rows, tile_bytes};
use zse_quant::{GgmlType, decode};

use super::tile::{Form, Sink, Tile, Unpack};
use super::{Quantized, Visit, float, with_unpacker};
use crate::isa::{Arch, Isa};
use crate::ops::Ctx;
use crate::ops::activations::Activations;
use crate::pool::Pool;
use crate::simd::{LANES, Scalar};

/// Rows of random blocks that decode to finite numbers of any size.
fn random_rows(rng: &mut Rng, ty: GgmlType, rows: usize, cols: usize) -> Vec<u8> {
    let mut bytes = vec![0; rows * ty.row_bytes(cols).unwrap()];
    let mut decoded = vec![0.0; ty.block_len()];
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        loop {
            block.iter_mut().for_each(|b| *b = rng.bits() as u8);
            decode(ty, block, &mut decoded).unwrap();
            if decoded.iter().all(|v| v.is_finite()) {
                break;
            }
        }
    }
    bytes
}

/// Columns with outliers, zeros and one block that cannot be rounded.
fn random_columns(rng: &mut Rng, n: usize, k: usize) -> Vec<f32> {
    let mut x: Vec<f32> = (0..n * k).map(|_| rng.normal()).collect();
    for (i, x) in x.iter_mut().enumerate() {
        match i % 256 {
            77 => *x *= 100.0,
            96..128 => *x = 0.0,
            128..160 => *x *= 1e-40,
            _ => {}
        }
    }
    x
}

fn same_bits(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Products of `columns` with a tile of `rows` rows on `arch`.
fn products(
    arch: Arch,
    ty: GgmlType,
    tile: &[u8],
    x: &[f32],
    k: usize,
    columns: &[u32],
) -> Vec<[f32; LANES]> {
    let mut out = vec![[f32::NAN; LANES]; columns.len()];
    if ty.is_quantized() {
        let mut rounded = Activations::default();
        let step = Pool::global().step(2);
        rounded.round(&Ctx { arch, step: &step }, x, k);
        with_unpacker(
            ty,
            Quantized {
                arch,
                tiles: tile,
                tile_bytes: tile.len(),
                input: &rounded,
                columns,
                out: &mut out,
            },
        );
    } else {
        float(arch, ty, tile, x, k, columns, &mut out);
    }
    out
}

#[test]
fn products_have_the_bits_of_the_contract() {
    let mut rng = Rng::new(1);
    for &ty in GgmlType::WEIGHTS {
        let cell = ty.block_len();
        for blocks in [1, 2, 3, 1 + rng.below(if cell == 1 { 300 } else { 20 })] {
            let (k, rows) = (blocks * cell, 1 + rng.below(TILE_ROWS));
            let bytes = random_rows(&mut rng, ty, rows, k);
            let mut tile = vec![0; tile_bytes(ty, k).unwrap()];
            pack_rows(ty, rows, k, &bytes, &mut tile).unwrap();
            let n = 1 + rng.below(40);
            let mut x = random_columns(&mut rng, n, k);
            if rng.below(2) == 0 {
                x[rng.below(n * k)] = f32::NAN;
            }
            let columns: Vec<u32> = (0..n as u32).rev().collect();
            for isa in Isa::available() {
                let arch = Arch::of(isa).unwrap();
                let all = products(arch, ty, &tile, &x, k, &columns);
                for (i, &c) in columns.iter().enumerate() {
                    let column = &x[c as usize * k..][..k];
                    let alone = products(arch, ty, &tile, &x, k, &[c]);
                    for (row, bytes) in bytes.chunks_exact(bytes.len() / rows).enumerate() {
                        let expected = if ty.is_quantized() {
                            dot(ty, bytes, &QuantizedColumn::new(column).blocks()).unwrap()
                        } else {
                            dot_float(ty, bytes, column).unwrap()
                        };
                        for (how, got) in [("all", all[i][row]), ("alone", alone[0][row])] {
                            assert!(
                                same_bits(got, expected),
                                "{isa} {ty} k {k} {n} columns ({how}), row {row}: {got} is not {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Counts tiles and checks that their bytes keep to their form.
struct Check {
    form: Form,
    tiles: usize,
}

impl Sink<Scalar> for Check {
    fn take(&mut self, tile: Tile<Scalar>) {
        self.tiles += 1;
        if let Form::Narrow(_) = self.form {
            assert!(tile.q.as_flattened().iter().all(|&q| q <= 127));
        }
    }
}

#[test]
fn unpackers_keep_to_what_they_declare() {
    struct Declared<'a>(GgmlType, &'a [u8]);

    impl Visit for Declared<'_> {
        fn visit<U: Unpack>(self, unpacker: U) {
            let halves = if U::SPLIT {
                Halves::Split
            } else {
                Halves::Uniform
            };
            assert_eq!(unpacker.ty(), self.0);
            assert_eq!(
                contract_of(self.0),
                Some(Contract {
                    halves,
                    has_min: U::MIN
                })
            );
            let mut check = Check {
                form: U::FORM,
                tiles: 0,
            };
            unpacker.unpack(Scalar, self.1, &mut check);
            assert_eq!(check.tiles, self.0.block_len() / 32);
        }
    }

    let mut rng = Rng::new(2);
    for &ty in GgmlType::WEIGHTS.iter().filter(|ty| ty.is_quantized()) {
        for _ in 0..50 {
            let k = ty.block_len();
            let bytes = random_rows(&mut rng, ty, TILE_ROWS, k);
            let mut tile = vec![0; tile_bytes(ty, k).unwrap()];
            pack_rows(ty, TILE_ROWS, k, &bytes, &mut tile).unwrap();
            with_unpacker(ty, Declared(ty, &tile));
        }
    }
}
