//! Products of F32, F16 and BF16 weights with activations as they are: one fused multiply-add
//! after the other in order of k.

use zse_quant::pack::TILE_ROWS;

use super::ahead::{Ahead, STREAMS};
use crate::simd::{Kernel, LANES, Simd, array};

/// Bytes of a column of cells: 4 bytes of 16 rows.
const CELLS: usize = 4 * TILE_ROWS;

/// Values of k that are widened at a time for many columns. A band of tiles then fits the second
/// level of cache, and what is gathered of a column is long enough for the prefetchers.
const BLOCK: usize = 256;

/// Tiles that many columns meet together, so that these are gathered once for all.
pub(super) const BAND: usize = 16;

/// Values of k by 16 rows or columns, where vectors do not cross lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Aligned([[f32; LANES]; BLOCK]);

/// How the 4 bytes of a cell become numbers.
pub(super) trait FloatCell: Copy + Sync {
    /// Values of k in a cell.
    const LEN: usize;

    /// The values of 16 rows; the second is not read where `LEN` is 1.
    fn widen<S: Simd>(self, s: S, cells: &[u8; CELLS]) -> [S::F; 2];
}

/// F32 weights.
#[derive(Clone, Copy)]
pub(super) struct F32;
/// F16 weights.
#[derive(Clone, Copy)]
pub(super) struct F16;
/// BF16 weights.
#[derive(Clone, Copy)]
pub(super) struct Bf16;

impl FloatCell for F32 {
    const LEN: usize = 1;

    #[inline(always)]
    fn widen<S: Simd>(self, s: S, cells: &[u8; CELLS]) -> [S::F; 2] {
        [s.from_bits(s.load_bytes(cells)), s.zero()]
    }
}

impl FloatCell for F16 {
    const LEN: usize = 2;

    #[inline(always)]
    fn widen<S: Simd>(self, s: S, cells: &[u8; CELLS]) -> [S::F; 2] {
        let pairs = s.load_bytes(cells);
        [s.f16_of_low(pairs), s.f16_of_low(s.shr::<16>(pairs))]
    }
}

impl FloatCell for Bf16 {
    const LEN: usize = 2;

    #[inline(always)]
    fn widen<S: Simd>(self, s: S, cells: &[u8; CELLS]) -> [S::F; 2] {
        let pairs = s.load_bytes(cells);
        let high = s.splat_i32(0xffff_0000_u32 as i32);
        [
            s.from_bits(s.shl::<16>(pairs)),
            s.from_bits(s.and(pairs, high)),
        ]
    }
}

/// Multiplies tiles of 16 rows with some columns.
pub(super) struct Multiply<'a, C> {
    pub(super) cell: C,
    /// The tiles' cells over all k, one tile after the other.
    pub(super) tiles: &'a [u8],
    pub(super) tile_bytes: usize,
    /// Activations, `[n, k]`.
    pub(super) input: &'a [f32],
    /// Length of a column.
    pub(super) k: usize,
    /// Which columns of `input`.
    pub(super) columns: &'a [u32],
    /// For each tile and each column, the products with the 16 rows.
    pub(super) out: &'a mut [[f32; LANES]],
}

impl<C: FloatCell> Kernel for Multiply<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match *self.columns {
            [column] => self.one(s, column),
            _ => self.many(s),
        }
    }
}

impl<C: FloatCell> Multiply<'_, C> {
    #[inline(always)]
    fn one<S: Simd>(self, s: S, column: u32) {
        let x = &self.input[column as usize * self.k..][..self.k];
        let tiles = self.tiles.chunks(STREAMS * self.tile_bytes);
        for (tiles, out) in tiles.zip(self.out.chunks_mut(STREAMS)) {
            match out.as_mut_array() {
                Some(out) => stream::<S, C, STREAMS>(s, self.cell, tiles, x, out),
                None => {
                    let tiles = tiles.chunks_exact(self.tile_bytes);
                    for (tile, out) in tiles.zip(out) {
                        stream::<S, C, 1>(s, self.cell, tile, x, std::array::from_mut(out));
                    }
                }
            }
        }
    }

    /// Widens [`BLOCK`] values of k of [`BAND`] tiles, then multiplies all columns with them. The
    /// accumulators wait in `out`, which does not change their bits.
    #[inline(always)]
    fn many<S: Simd>(self, s: S) {
        let n = self.columns.len();
        let mut weights = [Aligned([[0.0; LANES]; BLOCK]); BAND];
        let mut x = Aligned([[0.0; LANES]; BLOCK]);
        self.out.fill([0.0; LANES]);
        let bands = self.tiles.chunks(BAND * self.tile_bytes);
        for (tiles, out) in bands.zip(self.out.chunks_mut(BAND * n)) {
            for first in (0..self.k).step_by(BLOCK) {
                let len = BLOCK.min(self.k - first);
                let tiles = tiles.chunks_exact(self.tile_bytes);
                for (tile, weights) in tiles.zip(&mut weights) {
                    let cells = &tile.as_chunks::<CELLS>().0[first / C::LEN..];
                    for (cells, to) in cells.iter().zip(weights.0.chunks_mut(C::LEN)) {
                        for (w, to) in self.cell.widen(s, cells).into_iter().zip(to) {
                            s.store(w, to);
                        }
                    }
                }
                for (i, columns) in self.columns.chunks(LANES).enumerate() {
                    gather(s, self.input, self.k, columns, first, &mut x.0[..len]);
                    let columns = LANES * i..LANES * i + columns.len();
                    let pairs = weights.chunks(S::TILES).zip(out.chunks_mut(S::TILES * n));
                    for (weights, out) in pairs {
                        let mut out = out.chunks_exact_mut(n).map(|out| &mut out[columns.clone()]);
                        match (weights, out.next(), out.next()) {
                            ([w0, w1], Some(out0), Some(out1)) => {
                                let weights = [&w0.0[..len], &w1.0[..len]];
                                multiply_add(s, weights, &x.0[..len], [out0, out1]);
                            }
                            ([w0, ..], Some(out0), None) => {
                                multiply_add(s, [&w0.0[..len]], &x.0[..len], [out0]);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}

/// The products of `T` tiles, one after the other in `tiles`, with a column.
#[inline(always)]
fn stream<S: Simd, C: FloatCell, const T: usize>(
    s: S,
    cell: C,
    tiles: &[u8],
    x: &[f32],
    out: &mut [[f32; LANES]; T],
) {
    let cells = tiles.as_chunks::<CELLS>().0;
    let len = cells.len() / T;
    let tiles: [&[[u8; CELLS]]; T] = array!(cells; t => &cells[t * len..][..len]);
    let mut ahead = Ahead::<STREAMS>::new(cells.as_flattened(), len * CELLS);
    // A chain of additions for each tile, so that none waits for the one before.
    let mut acc = [s.zero(); T];
    for (i, x) in x.chunks(C::LEN).enumerate() {
        ahead.ask(CELLS);
        for t in 0..T {
            let w = cell.widen(s, &tiles[t][i]);
            acc[t] = s.fma(w[0], s.splat(x[0]), acc[t]);
            if let [_, second] = x {
                acc[t] = s.fma(w[1], s.splat(*second), acc[t]);
            }
        }
    }
    for t in 0..T {
        s.store(acc[t], &mut out[t]);
    }
}

/// Gathers values `first ..` of up to 16 columns: `x[i][c]` is value `first + i` of column `c`.
/// Lanes without a column are zero.
#[inline(always)]
fn gather<S: Simd>(
    s: S,
    input: &[f32],
    k: usize,
    columns: &[u32],
    first: usize,
    x: &mut [[f32; LANES]],
) {
    for (i, x) in x.chunks_mut(LANES).enumerate() {
        let first = first + LANES * i;
        let mut rows = [s.zero(); LANES];
        for (row, &column) in rows.iter_mut().zip(columns) {
            let from = &input[column as usize * k + first..][..x.len()];
            *row = match from.as_array() {
                Some(from) => s.load(from),
                None => {
                    let mut padded = [0.0; LANES];
                    padded[..from.len()].copy_from_slice(from);
                    s.load(&padded)
                }
            };
        }
        let rows = s.transpose(rows);
        for (x, row) in x.iter_mut().zip(rows) {
            s.store(row, x);
        }
    }
}

/// Adds the products of `T` tiles with the columns that `x` holds to `out`.
#[inline(always)]
fn multiply_add<S: Simd, const T: usize>(
    s: S,
    weights: [&[[f32; LANES]]; T],
    x: &[[f32; LANES]],
    mut out: [&mut [[f32; LANES]]; T],
) {
    let n = out[0].len();
    let mut first = 0;
    while first < n {
        // Few columns are better served by few than by many of which most are nobody's.
        first = match S::FLOAT_COLUMNS {
            8 if n - first > 4 => multiply_add_from::<S, T, 8>(s, weights, x, first, &mut out),
            6 if n - first > 4 => multiply_add_from::<S, T, 6>(s, weights, x, first, &mut out),
            _ => multiply_add_from::<S, T, 4>(s, weights, x, first, &mut out),
        };
    }
}

/// As [`multiply_add`], for up to `N` columns from number `first` on. Returns the number of the
/// next.
#[inline(always)]
fn multiply_add_from<S: Simd, const T: usize, const N: usize>(
    s: S,
    weights: [&[[f32; LANES]]; T],
    x: &[[f32; LANES]],
    first: usize,
    out: &mut [&mut [[f32; LANES]]; T],
) -> usize {
    let mut acc = [[s.zero(); N]; T];
    for t in 0..T {
        for (acc, out) in acc[t].iter_mut().zip(&out[t][first..]) {
            *acc = s.load(out);
        }
    }
    for (i, x) in x.iter().enumerate() {
        let mut w = [s.zero(); T];
        for t in 0..T {
            w[t] = s.load(&weights[t][i]);
        }
        let x: &[f32; N] = x[first..]
            .first_chunk()
            .expect("16 columns go by 8 or 4, or by 6, 6 and 4");
        for c in 0..N {
            let x = s.splat(x[c]);
            for t in 0..T {
                acc[t][c] = s.fma(w[t], x, acc[t][c]);
            }
        }
    }
    for t in 0..T {
        for (acc, out) in acc[t].into_iter().zip(&mut out[t][first..]) {
            s.store(acc, out);
        }
    }
    first + N
}
