//! Every unpacker and multiplier against the contract's scalar code, bit for bit.

use std::sync::Arc;

use zse_model::Model;
use zse_model::conformance::{DecoderSpec, Rng, decoder};
use zse_model::program::{Act, TensorId};
use zse_quant::contract::{Contract, Halves, QuantizedColumn, contract_of, dot, dot_float};
use zse_quant::pack::{TILE_ROWS, pack_rows, tile_bytes};
use zse_quant::{GgmlType, decode};

use super::tile::{Form, Sink, Tile, Unpack};
use super::{
    Float, Input, Product, Quantized, Visit, Weight, products, with_generic, with_unpacker,
};
use crate::isa::{Arch, Isa};
use crate::ops::Ctx;
use crate::ops::activations::Activations;
use crate::ops::elementwise::glu;
use crate::par::SharedSlice;
use crate::pool::Pool;
use crate::simd::{LANES, Scalar};
use crate::weights::Matrix;

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

/// Columns with outliers, zeros and, one group in 256 numbers, numbers too small to be rounded.
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

/// Tiles of a matrix, packed.
#[derive(Clone, Copy)]
struct Packed<'a> {
    ty: GgmlType,
    tiles: &'a [u8],
    tile_bytes: usize,
}

/// Products of `columns` with each of some tiles on `arch`, by the type's own unpacker or by the
/// generic one.
fn multiply(
    arch: Arch,
    matrix: Packed<'_>,
    x: &[f32],
    k: usize,
    columns: &[u32],
    generic: bool,
) -> Vec<[f32; LANES]> {
    let Packed {
        ty,
        tiles,
        tile_bytes,
    } = matrix;
    let mut out = vec![[f32::NAN; LANES]; tiles.len() / tile_bytes * columns.len()];
    if ty.is_quantized() {
        let mut rounded = Activations::default();
        let step = Pool::global().step(2);
        rounded.round(&Ctx { arch, step: &step }, x, k);
        let quantized = Quantized {
            arch,
            tiles,
            tile_bytes,
            input: &rounded,
            columns,
            out: &mut out,
        };
        if generic {
            with_generic(ty, quantized);
        } else {
            with_unpacker(ty, quantized);
        }
    } else {
        let float = Float {
            tiles,
            tile_bytes,
            input: x,
            k,
            columns,
            out: &mut out,
        };
        float.multiply(arch, ty);
    }
    out
}

#[test]
fn products_have_the_bits_of_the_contract() {
    let mut rng = Rng::new(1);
    for &ty in GgmlType::WEIGHTS {
        let cell = ty.block_len();
        for (i, max_tiles) in [1, 9, 9, 20].into_iter().enumerate() {
            // Floats are widened some hundred at a time: more than those, and not a multiple.
            let many = match cell {
                1 => 257 + rng.below(300),
                _ => 1 + rng.below(20),
            };
            let blocks = [1, 2, 3, many][i];
            let k = blocks * cell;
            let (tiles, last) = (1 + rng.below(max_tiles), 1 + rng.below(TILE_ROWS));
            let rows = (tiles - 1) * TILE_ROWS + last;
            let bytes = random_rows(&mut rng, ty, rows, k);
            let tile_bytes = tile_bytes(ty, k).unwrap();
            let mut packed = vec![0; tiles * tile_bytes];
            let parts = bytes.chunks(TILE_ROWS * (bytes.len() / rows));
            for (rows_bytes, tile) in parts.zip(packed.chunks_exact_mut(tile_bytes)) {
                let rows = rows_bytes.len() / (bytes.len() / rows);
                pack_rows(ty, rows, k, rows_bytes, tile).unwrap();
            }
            let matrix = Packed {
                ty,
                tiles: &packed,
                tile_bytes,
            };
            let n = 1 + rng.below(40);
            let mut x = random_columns(&mut rng, n, k);
            if rng.below(2) == 0 {
                x[rng.below(n * k)] = f32::NAN;
            }
            let columns: Vec<u32> = (0..n as u32).rev().collect();
            let expected: Vec<Vec<f32>> = columns
                .iter()
                .map(|&c| {
                    let column = &x[c as usize * k..][..k];
                    let rounded = QuantizedColumn::new(column);
                    let rows = bytes.chunks_exact(bytes.len() / rows);
                    rows.map(|row| {
                        if ty.is_quantized() {
                            dot(ty, row, &rounded.blocks()).unwrap()
                        } else {
                            dot_float(ty, row, column).unwrap()
                        }
                    })
                    .collect()
                })
                .collect();
            let check = |how: &str, got: &[[f32; LANES]], expected: &[Vec<f32>]| {
                for (tile, got) in got.chunks_exact(expected.len()).enumerate() {
                    for (got, expected) in got.iter().zip(expected) {
                        let expected = &expected[tile * TILE_ROWS..];
                        for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
                            assert!(
                                same_bits(*got, *expected),
                                "{how} {ty} k {k}, tile {tile} of {tiles}, {n} columns, \
                                 row {row}: {got} is not {expected}"
                            );
                        }
                    }
                }
            };
            for isa in Isa::available() {
                let arch = Arch::of(isa).unwrap();
                let got = multiply(arch, matrix, &x, k, &columns, false);
                check(&format!("{isa}"), &got, &expected);
                let got = multiply(arch, matrix, &x, k, &columns, true);
                check(&format!("{isa} generic"), &got, &expected);
                let i = rng.below(n);
                let got = multiply(arch, matrix, &x, k, &columns[i..=i], false);
                check(&format!("{isa} alone"), &got, &expected[i..=i]);
                // A few have kernels of their own.
                let few = i..n.min(i + 2 + rng.below(8));
                let got = multiply(arch, matrix, &x, k, &columns[few.clone()], false);
                check(&format!("{isa} few"), &got, &expected[few]);
            }
        }
    }
}

#[test]
fn weights_in_place_give_the_bits_of_packed_ones() {
    let mut rng = Rng::new(3);
    for &ty in GgmlType::WEIGHTS {
        let spec = DecoderSpec {
            layers: 1,
            vocab: 85,
            ..DecoderSpec::small(ty)
        };
        let model = decoder(&spec, rng.bits()).unwrap();
        let tensors = &model.program.tensors;
        let id = tensors.iter().position(|t| t.name == "output.weight");
        let id = TensorId(id.unwrap() as u32);
        let step = Pool::global().step(2);
        let packed = Matrix::pack(&model, id, &step).unwrap();
        let in_place = Matrix::in_place(&model, id).unwrap();

        let (rows, k, n) = (spec.vocab, spec.width, 1 + rng.below(150));
        let x = random_columns(&mut rng, n, k);
        let bias: Vec<f32> = (0..rows).map(|_| rng.normal()).collect();
        let columns: Vec<u32> = (0..n as u32).collect();
        for isa in Isa::available() {
            let arch = Arch::of(isa).unwrap();
            let ctx = Ctx { arch, step: &step };
            let mut rounded = Activations::default();
            rounded.round(&ctx, &x, k);
            let product = |matrix| {
                let weight = Weight {
                    matrix,
                    expert: 0,
                    bias: Some(&bias),
                };
                let mut out = vec![0.0; n * rows];
                let product = Product {
                    weight,
                    gated: Some((Act::Silu, weight)),
                    input: Input {
                        x: &x,
                        rounded: &rounded,
                    },
                    columns: &columns,
                    to: &columns,
                    out: &SharedSlice::new(&mut out),
                };
                // SAFETY: the one product names each row of `out` once.
                unsafe { products(&ctx, &[product]) };
                out
            };
            let (got, expected) = (product(&in_place), product(&packed));
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert!(same_bits(*got, *expected), "{isa} {ty} {n} columns, {i}");
            }
        }
    }
}

#[test]
fn a_gate_may_be_of_another_type_than_what_it_gates() {
    let mut rng = Rng::new(4);
    let step = Pool::global().step(2);
    let (rows, most) = (85, 150);
    let scalar = Arch::of(Isa::Scalar).unwrap();
    for types in [
        (GgmlType::Q4K, GgmlType::F16),
        (GgmlType::F16, GgmlType::Q8_0),
        (GgmlType::Q8_0, GgmlType::Q4_0),
    ] {
        let (gate_ty, up_ty) = types;
        let [gate, up] = [gate_ty, up_ty].map(|ty| {
            let spec = DecoderSpec {
                layers: 1,
                vocab: rows,
                ..DecoderSpec::small(ty)
            };
            let model = decoder(&spec, rng.bits()).unwrap();
            let tensors = &model.program.tensors;
            let id = tensors.iter().position(|t| t.name == "output.weight");
            let id = TensorId(id.unwrap() as u32);
            assert_eq!(model.weights.get(id).ty, ty);
            let bias: Vec<f32> = (0..rows).map(|_| rng.normal()).collect();
            let packed = Matrix::pack(&model, id, &step).unwrap();
            (model, id, packed, bias)
        });
        let k = gate.2.cols();
        let x = random_columns(&mut rng, most, k);
        // [most, rows] of one side, by the contract's own code.
        let plain = |(model, id, _, bias): &(Arc<Model>, TensorId, Matrix, Vec<f32>)| {
            let view = model.weights.get(*id);
            let mut out = Vec::with_capacity(most * rows);
            for column in x.chunks_exact(k) {
                let rounded = QuantizedColumn::new(column);
                out.extend((0..rows).map(|row| {
                    let weights = &view.row(0, row);
                    let product = if view.ty.is_quantized() {
                        dot(view.ty, weights, &rounded.blocks()).unwrap()
                    } else {
                        dot_float(view.ty, weights, column).unwrap()
                    };
                    product + bias[row]
                }));
            }
            out
        };
        let mut expected = vec![0.0; most * rows];
        let ctx = Ctx {
            arch: scalar,
            step: &step,
        };
        glu(&ctx, Act::Silu, &plain(&gate), &plain(&up), &mut expected);

        for isa in Isa::available() {
            let arch = Arch::of(isa).unwrap();
            let ctx = Ctx { arch, step: &step };
            let mut rounded = Activations::default();
            rounded.round(&ctx, &x, k);
            for n in [1, 17, most] {
                let columns: Vec<u32> = (0..n as u32).collect();
                let [gate, up] = [&gate, &up].map(|(_, _, matrix, bias)| Weight {
                    matrix,
                    expert: 0,
                    bias: Some(bias),
                });
                let mut got = vec![f32::NAN; n * rows];
                let product = Product {
                    weight: gate,
                    gated: Some((Act::Silu, up)),
                    input: Input {
                        x: &x,
                        rounded: &rounded,
                    },
                    columns: &columns,
                    to: &columns,
                    out: &SharedSlice::new(&mut got),
                };
                // SAFETY: the one product names each row of `out` once.
                unsafe { products(&ctx, &[product]) };
                for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    assert!(
                        same_bits(*got, *expected),
                        "{isa} {types:?} {n} columns, {i}: {got} is not {expected}"
                    );
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
        if let Form::Narrow { bits, .. } = self.form {
            assert!(bits <= 7);
            assert!(tile.q.as_flattened().iter().all(|&q| q < 1 << bits));
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
