//! `x W^T + bias`, and `act(x G^T) * (x U^T)`: products of packed weights with columns of
//! activations, tile by tile of 16 rows.
//!
//! A quantized product is made of two parts that know nothing of each other. An *unpacker*
//! ([`tile::Unpack`], one for each type) turns packed bytes into small integers and scales; the
//! *multiplier* ([`quantized`]) multiplies those with rounded activations. Both are written
//! once over [`Simd`](crate::simd::Simd). For one column the multiplier works on the registers
//! that the unpacker filled; for many it unpacks once, into the first-level cache.

mod float;
mod generic;
mod quantized;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod unpack;

use zse_model::program::Act;
use zse_quant::GgmlType;
use zse_quant::contract::{Contract, Halves, contract_of};
use zse_quant::pack::TILE_ROWS;

use super::Ctx;
use super::activations::Activations;
use super::elementwise::glu_lanes;
use crate::isa::Arch;
use crate::par::{SharedSlice, chunk_len};
use crate::simd::LANES;
use crate::weights::Matrix;
use generic::Generic;
use tile::Unpack;

/// Columns that a tile is multiplied with before their products are written out.
const COLUMN_BLOCK: usize = 128;

const _: () = assert!(TILE_ROWS == LANES);

/// Something that is done with the unpacker of a type.
trait Visit {
    fn visit<U: Unpack>(self, unpacker: U);
}

/// Hands the best unpacker of `ty` to `visitor`: the table of unpackers. Types without one of
/// their own go through [`Generic`].
fn with_unpacker(ty: GgmlType, visitor: impl Visit) {
    match ty {
        GgmlType::Q4_0 => visitor.visit(unpack::Q4_0),
        GgmlType::Q4_1 => visitor.visit(unpack::Q4_1),
        GgmlType::Q5_0 => visitor.visit(unpack::Q5_0),
        GgmlType::Q5_1 => visitor.visit(unpack::Q5_1),
        GgmlType::Q8_0 => visitor.visit(unpack::Q8_0),
        GgmlType::Q2K => visitor.visit(unpack::Q2K),
        GgmlType::Q3K => visitor.visit(unpack::Q3K),
        GgmlType::Q4K => visitor.visit(unpack::Q4K),
        GgmlType::Q5K => visitor.visit(unpack::Q5K),
        GgmlType::Q6K => visitor.visit(unpack::Q6K),
        GgmlType::Q8K => visitor.visit(unpack::Q8K),
        GgmlType::Iq1S => visitor.visit(unpack::Iq1S),
        GgmlType::Iq1M => visitor.visit(unpack::Iq1M),
        GgmlType::Iq2Xxs => visitor.visit(unpack::Iq2Xxs),
        GgmlType::Iq2Xs => visitor.visit(unpack::Iq2Xs),
        GgmlType::Iq2S => visitor.visit(unpack::Iq2S),
        GgmlType::Iq3Xxs => visitor.visit(unpack::Iq3Xxs),
        GgmlType::Iq3S => visitor.visit(unpack::Iq3S),
        GgmlType::Iq4Nl => visitor.visit(unpack::Iq4Nl),
        GgmlType::Iq4Xs => visitor.visit(unpack::Iq4Xs),
        GgmlType::Tq1_0 => visitor.visit(unpack::Tq1_0),
        GgmlType::Tq2_0 => visitor.visit(unpack::Tq2_0),
        GgmlType::Mxfp4 => visitor.visit(unpack::Mxfp4),
        GgmlType::Nvfp4 => visitor.visit(unpack::Nvfp4),
        GgmlType::Q1_0 => visitor.visit(unpack::Q1_0),
        GgmlType::Q2_0 => visitor.visit(unpack::Q2_0),
        _ => with_generic(ty, visitor),
    }
}

/// Hands the generic unpacker of `ty` to `visitor`; does nothing for types that are not
/// quantized.
fn with_generic(ty: GgmlType, visitor: impl Visit) {
    let Some(Contract { halves, has_min }) = contract_of(ty) else {
        return;
    };
    match (halves, has_min) {
        (Halves::Uniform, false) => visitor.visit(Generic::<false, false>(ty)),
        (Halves::Uniform, true) => visitor.visit(Generic::<false, true>(ty)),
        (Halves::Split, false) => visitor.visit(Generic::<true, false>(ty)),
        (Halves::Split, true) => visitor.visit(Generic::<true, true>(ty)),
    }
}

/// The columns that a product takes.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    /// As they are, `[n, k]`: for F32, F16 and BF16 weights.
    pub(crate) x: &'a [f32],
    /// Rounded: for quantized weights. Not read for others.
    pub(crate) rounded: &'a Activations,
}

/// A matrix of a stack and what is added to its product.
#[derive(Clone, Copy)]
pub(crate) struct Weight<'a> {
    pub(crate) matrix: &'a Matrix,
    /// Which matrix of the stack.
    pub(crate) expert: usize,
    /// `[rows]`.
    pub(crate) bias: Option<&'a [f32]>,
}

/// A product: for each `i`, row `to[i]` of `out` becomes that of column `columns[i]`.
pub(crate) struct Product<'a> {
    /// The matrix; of a gated product, the gate.
    pub(crate) weight: Weight<'a>,
    /// For `act(gate) * up`: the activation and the second matrix, of the same shape.
    pub(crate) gated: Option<(Act, Weight<'a>)>,
    pub(crate) input: Input<'a>,
    pub(crate) columns: &'a [u32],
    /// Rows of `out`, none of them twice.
    pub(crate) to: &'a [u32],
    /// `[n, rows]`.
    pub(crate) out: &'a SharedSlice<'a, f32>,
}

/// Products that run in one parallel region. Their outputs must not overlap: each row of each
/// `out` belongs to one product.
pub(crate) fn products(ctx: &Ctx<'_>, products: &[Product<'_>]) {
    // Units: a tile times a block of columns. Product p has those up to ends[p].
    let mut total = 0;
    let ends: Vec<usize> = products
        .iter()
        .map(|p| {
            total += p.tiles() * p.blocks();
            total
        })
        .collect();
    if total == 0 {
        return;
    }
    let work = |p: &Product<'_>| {
        let matrices = 1 + usize::from(p.gated.is_some());
        p.tiles() * p.columns.len() * TILE_ROWS * p.weight.matrix.cols() * matrices
    };
    let work = products.iter().map(work).sum::<usize>() / total;
    let chunk = chunk_len(ctx.step, total, work / UNIT_DISCOUNT);
    ctx.step.run(total.div_ceil(chunk), &|i| {
        let mut scratch = Scratch::default();
        for unit in i * chunk..total.min((i + 1) * chunk) {
            let p = ends.partition_point(|&end| end <= unit);
            let first = if p == 0 { 0 } else { ends[p - 1] };
            products[p].unit(ctx.arch, unit - first, &mut scratch);
        }
    });
}

/// Multiply-adds of a product that take as long as one of an elementwise operation.
const UNIT_DISCOUNT: usize = 4;

/// Products of a unit before they are written out, and room for a tile packed on the fly.
struct Scratch {
    first: [[f32; LANES]; COLUMN_BLOCK],
    second: [[f32; LANES]; COLUMN_BLOCK],
    tile: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        let zeros = [[0.0; LANES]; COLUMN_BLOCK];
        Self {
            first: zeros,
            second: zeros,
            tile: Vec::new(),
        }
    }
}

impl Product<'_> {
    fn tiles(&self) -> usize {
        self.weight.matrix.rows().div_ceil(TILE_ROWS)
    }

    fn blocks(&self) -> usize {
        self.columns.len().div_ceil(COLUMN_BLOCK)
    }

    /// Computes and writes unit `unit`: blocks of columns within tiles, so that a tile's bytes
    /// are fetched once.
    fn unit(&self, arch: Arch, unit: usize, scratch: &mut Scratch) {
        let (tile, block) = (unit / self.blocks(), unit % self.blocks());
        let first = block * COLUMN_BLOCK;
        let len = COLUMN_BLOCK.min(self.columns.len() - first);
        let columns = &self.columns[first..][..len];
        let out = &mut scratch.first[..len];
        self.weight
            .multiply(arch, tile, &self.input, columns, out, &mut scratch.tile);
        if let Some((act, up)) = self.gated {
            let up_out = &mut scratch.second[..len];
            up.multiply(arch, tile, &self.input, columns, up_out, &mut scratch.tile);
            glu_lanes(arch, act, out, up_out);
        }
        let rows = self.weight.matrix.rows();
        let width = TILE_ROWS.min(rows - tile * TILE_ROWS);
        for (values, &row) in out.iter().zip(&self.to[first..]) {
            // SAFETY: rows of `to` differ, and each tile of a row is one unit, which is computed
            // once; products do not overlap.
            let to = unsafe { self.out.part(row as usize * rows + tile * TILE_ROWS, width) };
            to.copy_from_slice(&values[..width]);
        }
    }
}

impl Weight<'_> {
    /// `out[i]` = rows of tile `tile` times column `columns[i]`, plus bias.
    fn multiply(
        &self,
        arch: Arch,
        tile: usize,
        input: &Input<'_>,
        columns: &[u32],
        out: &mut [[f32; LANES]],
        scratch: &mut Vec<u8>,
    ) {
        let (ty, k) = (self.matrix.ty(), self.matrix.cols());
        let tile_bytes = self.matrix.tile(self.expert, tile, scratch);
        match ty {
            GgmlType::F32 => {
                let (cell, x) = (float::F32, input.x);
                arch.run(float::Multiply {
                    cell,
                    tile: tile_bytes,
                    input: x,
                    k,
                    columns,
                    out,
                });
            }
            GgmlType::F16 => {
                let (cell, x) = (float::F16, input.x);
                arch.run(float::Multiply {
                    cell,
                    tile: tile_bytes,
                    input: x,
                    k,
                    columns,
                    out,
                });
            }
            GgmlType::Bf16 => {
                let (cell, x) = (float::Bf16, input.x);
                arch.run(float::Multiply {
                    cell,
                    tile: tile_bytes,
                    input: x,
                    k,
                    columns,
                    out,
                });
            }
            _ => {
                let input = input.rounded;
                with_unpacker(
                    ty,
                    Quantized {
                        arch,
                        tile: tile_bytes,
                        input,
                        columns,
                        out,
                    },
                );
            }
        }
        if let Some(bias) = self.bias {
            let bias = &bias[tile * TILE_ROWS..];
            for out in out {
                for (value, bias) in out.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        }
    }
}

/// Runs a quantized product once its unpacker is known.
struct Quantized<'a> {
    arch: Arch,
    tile: &'a [u8],
    input: &'a Activations,
    columns: &'a [u32],
    out: &'a mut [[f32; LANES]],
}

impl Visit for Quantized<'_> {
    fn visit<U: Unpack>(self, unpacker: U) {
        let Self {
            arch,
            tile,
            input,
            columns,
            out,
        } = self;
        arch.run(quantized::Multiply {
            unpacker,
            tile,
            input,
            columns,
            out,
        });
    }
}
