//! Products of quantized weights with many columns on AMX: a tile register sums the products of 16
//! columns with 16 rows, and vectors go on with the f32 part of the contract. The bits are those
//! of [`quantized`](super::quantized).

use std::marker::PhantomData;

use zse_quant::contract::GROUP;
use zse_quant::pack::{TILE_ROWS, cell_bytes, cell_len};

use super::quantized::{GROUPS, scaled};
use super::tile::{Form, Sink, Tile, Unpack};
use crate::ops::activations::Activations;
pub(super) use crate::simd::amx::COLUMNS;
use crate::simd::amx::{Amx, Left, Registers, Right, Sums};
use crate::simd::{Kernel, LANES, Simd, array, fetch_ahead};

/// Tiles of weights that meet the same activations, so that these are gathered once for all.
pub(super) const BAND: usize = 4;

/// Multiplies up to [`BAND`] tiles of 16 rows with a multiple of 16 columns.
pub(super) struct Multiply<'a, 'o, U> {
    pub(super) amx: Amx,
    pub(super) unpacker: U,
    /// The tiles' cells over all k, one tile after the other.
    pub(super) tiles: &'a [u8],
    pub(super) tile_bytes: usize,
    pub(super) input: &'a Activations,
    /// Which columns of `input`.
    pub(super) columns: &'a [[u32; COLUMNS]],
    /// For each tile and each column (there may be more), the products with the 16 rows.
    pub(super) out: &'a mut [&'o mut [[f32; LANES]]],
}

impl<U: Unpack> Kernel for Multiply<'_, '_, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ty = self.unpacker.ty();
        let cells = TILE_ROWS * cell_bytes(ty);
        let cells_at_once = cells * (GROUPS / (cell_len(ty) / GROUP));
        let registers = self.amx.registers();
        let mut weights = [Weights::ZERO; BAND];
        let mut activations = Gathered::ZERO;
        let mut sums = [[Sums::ZERO; 2]; 2];
        for out in &mut *self.out {
            out.fill([0.0; LANES]);
        }
        let mut first = 0;
        for start in (0..self.tile_bytes).step_by(cells_at_once) {
            let end = self.tile_bytes.min(start + cells_at_once);
            let mut len = 0;
            for (tile, weights) in self.tiles.chunks_exact(self.tile_bytes).zip(&mut weights) {
                let mut fill: Fill<'_, S, U> = Fill {
                    s,
                    weights,
                    filled: 0,
                    unpacker: PhantomData,
                };
                for cells in tile[start..end].chunks_exact(cells) {
                    fetch_ahead(cells);
                    self.unpacker.unpack(s, cells, &mut fill);
                }
                len = fill.filled;
            }
            for (i, columns) in self.columns.iter().enumerate() {
                activations.gather::<U>(self.input, columns, first, len);
                for (weights, out) in weights.iter().zip(&mut *self.out) {
                    let out = &mut out.as_chunks_mut().0[i];
                    multiply::<S, U>(s, &registers, weights, &activations, len, &mut sums, out);
                }
            }
            first += len;
        }
    }
}

/// Groups of a tile of weights, unpacked to signed bytes.
#[derive(Clone, Copy)]
struct Weights {
    q: [Right; GROUPS],
    w: [[[f32; LANES]; 2]; GROUPS],
    m: [[[f32; LANES]; 2]; GROUPS],
}

impl Weights {
    const ZERO: Self = Self {
        q: [Right([[0; 64]; 8]); GROUPS],
        w: [[[0.0; LANES]; 2]; GROUPS],
        m: [[[0.0; LANES]; 2]; GROUPS],
    };
}

/// Writes tiles to memory.
struct Fill<'a, S, U> {
    s: S,
    weights: &'a mut Weights,
    filled: usize,
    unpacker: PhantomData<U>,
}

impl<S: Simd, U: Unpack> Sink<S> for Fill<'_, S, U> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        let (s, g) = (self.s, self.filled);
        for j in 0..8 {
            let q = signed(s, U::FORM, tile.q[j]);
            s.store_bytes(q, &mut self.weights.q[g].0[j]);
        }
        for h in 0..1 + usize::from(U::SPLIT) {
            s.store(tile.w[h], &mut self.weights.w[g][h]);
            if U::MIN {
                s.store(tile.m[h], &mut self.weights.m[g][h]);
            }
        }
        self.filled += 1;
    }
}

/// The contract's integers, as signed bytes.
#[inline(always)]
fn signed<S: Simd>(s: S, form: Form, q: S::I) -> S::I {
    let sign = s.splat_u8(128);
    match form {
        Form::Narrow(0) => q,
        Form::Narrow(offset) => {
            // With the upper bit set, no byte borrows from the next.
            let less = s.splat_i32((offset * 0x0101_0101).wrapping_neg());
            s.xor(s.add_i32(s.or(q, sign), less), sign)
        }
        Form::Wide if S::WIDE_OFFSET == 0 => q,
        Form::Wide => s.xor(q, sign),
    }
}

/// Groups of 16 columns, beside each other.
struct Gathered {
    q: [Left; GROUPS],
    scale: [[f32; COLUMNS]; GROUPS],
    /// Sums over each half of a group; if the halves share a scale, over both in the first.
    sums: [[[f32; COLUMNS]; 2]; GROUPS],
}

impl Gathered {
    const ZERO: Self = Self {
        q: [Left([[0; GROUP]; COLUMNS]); GROUPS],
        scale: [[0.0; COLUMNS]; GROUPS],
        sums: [[[0.0; COLUMNS]; 2]; GROUPS],
    };

    /// Gathers groups `first .. first + len` of `columns` for the type of `U`.
    #[inline(always)]
    fn gather<U: Unpack>(
        &mut self,
        input: &Activations,
        columns: &[u32; COLUMNS],
        first: usize,
        len: usize,
    ) {
        for (c, &column) in columns.iter().enumerate() {
            let column = input.column(column as usize);
            for g in 0..len {
                self.q[g].0[c] = column.q[first + g];
                self.scale[g][c] = column.scale[first + g];
                let [s0, s1] = column.sums[first + g];
                if U::MIN && U::SPLIT {
                    self.sums[g][0][c] = s0 as f32;
                    self.sums[g][1][c] = s1 as f32;
                } else if U::MIN {
                    self.sums[g][0][c] = (s0 + s1) as f32;
                }
            }
        }
    }
}

/// Adds the products of `len` groups to `out`. `sums` is room for two groups' integer sums.
#[inline(always)]
fn multiply<S: Simd, U: Unpack>(
    s: S,
    registers: &Registers,
    weights: &Weights,
    x: &Gathered,
    len: usize,
    sums: &mut [[Sums; 2]; 2],
    out: &mut [[f32; LANES]; COLUMNS],
) {
    let dot = |g: usize, sums: &mut [Sums; 2]| {
        if U::SPLIT {
            registers.dot_halves(&x.q[g], &weights.q[g], sums);
        } else {
            registers.dot(&x.q[g], &weights.q[g], &mut sums[0]);
        }
    };
    let mut acc: [S::F; COLUMNS] = array!(s.zero(); c => s.load(&out[c]));
    dot(0, &mut sums[0]);
    for g in 0..len {
        // The next group's sums, while this one's become numbers.
        if g + 1 < len {
            dot(g + 1, &mut sums[(g + 1) % 2]);
        }
        let [p0, p1] = &sums[g % 2];
        let w = [s.load(&weights.w[g][0]), s.load(&weights.w[g][1])];
        let m = [s.load(&weights.m[g][0]), s.load(&weights.m[g][1])];
        for (c, acc) in acc.iter_mut().enumerate() {
            let p = [s.load_bytes(&p0.0[c]), s.load_bytes(&p1.0[c])];
            let t = scaled::<S, U>(s, p, [x.sums[g][0][c], x.sums[g][1][c]], &w, &m);
            *acc = s.fma(t, s.splat(x.scale[g][c]), *acc);
        }
    }
    for c in 0..COLUMNS {
        s.store(acc[c], &mut out[c]);
    }
}
