//! `x W^T + bias`, and `act(x G^T) * (x U^T)`: products of packed weights with columns of
//! activations, tile by tile of 16 rows.
//!
//! A quantized product is made of two parts that know nothing of each other. An *unpacker*
//! ([`tile::Unpack`], one for each type) turns packed bytes into small integers and scales; the
//! *multiplier* ([`quantized`]) multiplies those with rounded activations. Both are written
//! once over [`Simd`](crate::simd::Simd). For a few columns the multiplier works on the registers
//! that the unpacker filled; for many it unpacks once, into the first-level cache. Where the CPU
//! multiplies matrices, many columns go through a second multiplier ([`panels`]), which gives the
//! same bits.

mod ahead;
mod float;
mod generic;
mod panels;
mod quantized;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod unpack;

use std::ops::Range;

use zse_model::program::Act;
use zse_quant::GgmlType;
use zse_quant::contract::{Contract, Halves, contract_of};
use zse_quant::pack::TILE_ROWS;

use super::Ctx;
use super::activations::{Activations, PANEL};
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

/// Hands the generic unpacker of `ty` to `visitor`.
///
/// # Panics
/// If `ty` has no contract: it is not quantized, and its products are made elsewhere.
fn with_generic(ty: GgmlType, visitor: impl Visit) {
    let Some(Contract { halves, has_min }) = contract_of(ty) else {
        unreachable!("{ty} has no contract of quantized products");
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

/// Products that run in one parallel region.
///
/// # Safety
/// Nobody else writes or reads the rows of [`Product::out`] that are named: those of one product
/// differ, and products that share an `out` name none in common.
pub(crate) unsafe fn products(ctx: &Ctx<'_>, products: &[Product<'_>]) {
    // Units: a tile times a block of columns. Product p has those up to ends[p].
    let mut total = 0;
    let ends: Vec<usize> = products
        .iter()
        .map(|p| {
            total += p.units(ctx.arch);
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
            // SAFETY: each unit is in one chunk, and chunks are handed out once; the caller keeps
            // rows apart.
            unsafe { products[p].unit(ctx.arch, unit - first, &mut scratch) };
        }
    });
}

/// Multiply-adds of a product that take as long as one of an elementwise operation.
const UNIT_DISCOUNT: usize = 4;

/// Products of 16 rows with some columns.
type Products = [[f32; LANES]];

/// Products of a unit before they are written out, tile by tile, and room for tiles packed on the
/// fly.
#[derive(Default)]
struct Scratch {
    first: Vec<[f32; LANES]>,
    second: Vec<[f32; LANES]>,
    tiles: Vec<u8>,
}

impl Product<'_> {
    fn tiles(&self) -> usize {
        self.weight.matrix.rows().div_ceil(TILE_ROWS)
    }

    /// Tiles of a unit.
    fn band(&self, arch: Arch) -> usize {
        let columns = self.columns.len();
        match self.weight.matrix.ty().is_quantized() {
            _ if columns == 1 => ahead::STREAMS,
            true if columns <= quantized::FEW => ahead::STREAMS,
            false => float::BAND,
            true if columns >= PANEL && arch.panels().is_some() => panels::BAND,
            true => quantized::BAND,
        }
    }

    fn blocks(&self) -> usize {
        self.columns.len().div_ceil(COLUMN_BLOCK)
    }

    fn units(&self, arch: Arch) -> usize {
        self.tiles().div_ceil(self.band(arch)) * self.blocks()
    }

    /// Computes and writes unit `unit`: blocks of columns within bands of tiles, so that the
    /// bytes of the tiles are fetched once.
    ///
    /// # Safety
    /// As of [`products`], and nobody else computes this unit.
    unsafe fn unit(&self, arch: Arch, unit: usize, scratch: &mut Scratch) {
        let (band, block) = (unit / self.blocks(), unit % self.blocks());
        let first_tile = band * self.band(arch);
        let tiles = first_tile..self.tiles().min(first_tile + self.band(arch));
        let first = block * COLUMN_BLOCK;
        let len = COLUMN_BLOCK.min(self.columns.len() - first);
        let columns = &self.columns[first..][..len];
        let Scratch {
            first: out,
            second: up_out,
            tiles: packed,
        } = scratch;
        out.resize(tiles.len() * len, [0.0; LANES]);
        self.weight
            .multiply(arch, tiles.clone(), &self.input, columns, out, packed);
        if let Some((act, up)) = self.gated {
            up_out.resize(tiles.len() * len, [0.0; LANES]);
            up.multiply(arch, tiles.clone(), &self.input, columns, up_out, packed);
            glu_lanes(arch, act, out, up_out);
        }
        // Row by row, so that what is written of one lies together.
        let rows = self.weight.matrix.rows();
        let (from, width) = (
            tiles.start * TILE_ROWS,
            rows.min(tiles.end * TILE_ROWS) - tiles.start * TILE_ROWS,
        );
        for (i, &row) in self.to[first..][..len].iter().enumerate() {
            // SAFETY: no row is named twice, by the caller, and each tile of a row is in one unit,
            // which is computed once.
            let to = unsafe { self.out.part(row as usize * rows + from, width) };
            for (tile, to) in to.chunks_mut(TILE_ROWS).enumerate() {
                let values = &out[tile * len + i];
                // A whole tile is one store; a slice of unknown length would be a call.
                match to.as_mut_array() {
                    Some(to) => *to = *values,
                    None => to.copy_from_slice(&values[..to.len()]),
                }
            }
        }
    }
}

impl Weight<'_> {
    /// For each of `tiles`, `out[i]` = its rows times column `columns[i]`, plus bias.
    fn multiply(
        &self,
        arch: Arch,
        tiles: Range<usize>,
        input: &Input<'_>,
        columns: &[u32],
        out: &mut Products,
        packed: &mut Vec<u8>,
    ) {
        let (ty, k) = (self.matrix.ty(), self.matrix.cols());
        let bytes = self.matrix.tiles(self.expert, tiles.clone(), packed);
        let tile_bytes = bytes.len() / tiles.len();
        if ty.is_quantized() {
            let quantized = Quantized {
                arch,
                tiles: bytes,
                tile_bytes,
                input: input.rounded,
                columns,
                out,
            };
            with_unpacker(ty, quantized);
        } else {
            let float = Float {
                tiles: bytes,
                tile_bytes,
                input: input.x,
                k,
                columns,
                out,
            };
            float.multiply(arch, ty);
        }
        if let Some(bias) = self.bias {
            for (tile, out) in tiles.zip(out.chunks_exact_mut(columns.len())) {
                let bias = &bias[tile * TILE_ROWS..];
                for out in out {
                    for (value, bias) in out.iter_mut().zip(bias) {
                        *value += bias;
                    }
                }
            }
        }
    }
}

/// Products of F32, F16 or BF16 weights.
struct Float<'a> {
    /// Tiles of the same matrix, one after the other.
    tiles: &'a [u8],
    tile_bytes: usize,
    /// Activations, `[n, k]`.
    input: &'a [f32],
    k: usize,
    columns: &'a [u32],
    /// For each tile and column.
    out: &'a mut Products,
}

impl Float<'_> {
    fn multiply(self, arch: Arch, ty: GgmlType) {
        match ty {
            GgmlType::F32 => self.of(arch, float::F32),
            GgmlType::F16 => self.of(arch, float::F16),
            GgmlType::Bf16 => self.of(arch, float::Bf16),
            _ => unreachable!("quantized types are multiplied elsewhere"),
        }
    }

    fn of(self, arch: Arch, cell: impl float::FloatCell) {
        arch.run(float::Multiply {
            cell,
            tiles: self.tiles,
            tile_bytes: self.tile_bytes,
            input: self.input,
            k: self.k,
            columns: self.columns,
            out: self.out,
        });
    }
}

/// Runs a quantized product once its unpacker is known.
struct Quantized<'a> {
    arch: Arch,
    /// Tiles of the same matrix, one after the other.
    tiles: &'a [u8],
    tile_bytes: usize,
    input: &'a Activations,
    columns: &'a [u32],
    /// For each tile and column.
    out: &'a mut Products,
}

impl Visit for Quantized<'_> {
    fn visit<U: Unpack>(self, unpacker: U) {
        let Self {
            arch,
            tiles,
            tile_bytes,
            input,
            columns,
            out,
        } = self;
        // The columns that lie in whole panels, and the rest.
        let whole = match arch.panels() {
            Some(unit) if columns.len() >= PANEL => {
                let (whole, _) = columns.as_chunks();
                let bands = tiles.chunks(panels::BAND * tile_bytes);
                for (tiles, out) in bands.zip(out.chunks_mut(panels::BAND * columns.len())) {
                    unit.run(panels::Multiply {
                        unpacker,
                        tiles,
                        tile_bytes,
                        input,
                        columns: whole,
                        out,
                        stride: columns.len(),
                    });
                }
                PANEL * whole.len()
            }
            _ => 0,
        };
        arch.run(quantized::Multiply {
            unpacker,
            tiles,
            tile_bytes,
            input,
            columns: &columns[whole..],
            out: &mut out[whole..],
            stride: columns.len(),
        });
    }
}
