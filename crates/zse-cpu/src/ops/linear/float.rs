//! Products of F32, F16 and BF16 weights with activations as they are: one fused multiply-add
//! after the other in order of k.

use zse_quant::pack::TILE_ROWS;

use crate::simd::{Kernel, LANES, Simd, array};

/// Bytes of a column of cells: 4 bytes of 16 rows.
const CELLS: usize = 4 * TILE_ROWS;

/// Values of k that are widened at a time for many columns: 4 KiB stay in the first-level cache.
const BLOCK: usize = 64;

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

/// Multiplies a tile of 16 rows with some columns.
pub(super) struct Multiply<'a, C> {
    pub(super) cell: C,
    /// The tile's cells over all k.
    pub(super) tile: &'a [u8],
    /// Activations, `[n, k]`.
    pub(super) input: &'a [f32],
    /// Length of a column.
    pub(super) k: usize,
    /// Which columns of `input`.
    pub(super) columns: &'a [u32],
    /// For each of them, the products with the 16 rows.
    pub(super) out: &'a mut [[f32; LANES]],
}

impl<C: FloatCell> Kernel for Multiply<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.columns {
            [column] => self.one(s, *column),
            _ => self.many(s),
        }
    }
}

impl<C: FloatCell> Multiply<'_, C> {
    #[inline(always)]
    fn one<S: Simd>(self, s: S, column: u32) {
        let x = &self.input[column as usize * self.k..][..self.k];
        let mut acc = s.zero();
        for (cells, x) in self
            .tile
            .as_chunks::<CELLS>()
            .0
            .iter()
            .zip(x.chunks(C::LEN))
        {
            let w = self.cell.widen(s, cells);
            acc = s.fma(w[0], s.splat(x[0]), acc);
            if let [_, second] = x {
                acc = s.fma(w[1], s.splat(*second), acc);
            }
        }
        s.store(acc, &mut self.out[0]);
    }

    /// Widens [`BLOCK`] values of k, then multiplies all columns with them. The accumulators wait
    /// in `out`, which does not change their bits.
    #[inline(always)]
    fn many<S: Simd>(self, s: S) {
        self.out.fill([0.0; LANES]);
        let mut weights = [[0.0; LANES]; BLOCK];
        let cells = self.tile.as_chunks::<CELLS>().0;
        for (i, cells) in cells.chunks(BLOCK / C::LEN).enumerate() {
            for (cells, to) in cells.iter().zip(weights.chunks_mut(C::LEN)) {
                for (w, to) in self.cell.widen(s, cells).into_iter().zip(to) {
                    s.store(w, to);
                }
            }
            let first = i * BLOCK;
            let weights = &weights[..BLOCK.min(self.k - first)];
            let x = |column: u32| &self.input[column as usize * self.k + first..][..weights.len()];
            let (columns, rest) = self.columns.as_chunks::<4>();
            let (out, out_rest) = self.out.as_chunks_mut::<4>();
            for (columns, out) in columns.iter().zip(out) {
                let x: [&[f32]; 4] = array!(x(columns[0]); c => x(columns[c]));
                multiply(s, weights, x, out);
            }
            for (column, out) in rest.iter().zip(out_rest) {
                multiply(s, weights, [x(*column)], std::array::from_mut(out));
            }
        }
    }
}

/// Adds the products of `weights` with `N` columns to `out`.
#[inline(always)]
fn multiply<S: Simd, const N: usize>(
    s: S,
    weights: &[[f32; LANES]],
    x: [&[f32]; N],
    out: &mut [[f32; LANES]; N],
) {
    let mut acc: [S::F; N] = array!(s.zero(); c => s.load(&out[c]));
    for (k, w) in weights.iter().enumerate() {
        let w = s.load(w);
        for c in 0..N {
            acc[c] = s.fma(w, s.splat(x[c][k]), acc[c]);
        }
    }
    for c in 0..N {
        s.store(acc[c], &mut out[c]);
    }
}
