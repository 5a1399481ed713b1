//! Products of quantized weights with rounded activations, by the contract of
//! [`zse_quant::contract`]: the same bits from every unpacker, instruction set and split.

use std::marker::PhantomData;

use zse_quant::contract::GROUP;
use zse_quant::pack::{TILE_ROWS, cell_bytes, cell_len};

use super::tile::{Form, Sink, Tile, Unpack};
use crate::ops::activations::{Activations, Column};
use crate::simd::{Kernel, LANES, Simd, array, fetch_ahead};

/// Groups of 32 k that are unpacked at a time for many columns: with 512 bytes a group they stay
/// in the first-level cache while all columns go by. A multiple of every type's groups in a cell.
pub(super) const GROUPS: usize = 8;

/// Bytes that memory is fetched by.
const LINE: usize = 64;

/// Tiles that one column meets together: each is memory of its own, and several streams are fetched
/// faster than one.
pub(super) const STREAMS: usize = 4;

/// Multiplies up to [`STREAMS`] tiles of 16 rows with one column, as it unpacks them.
pub(super) struct MultiplyOne<'a, U> {
    pub(super) unpacker: U,
    /// The tiles' cells over all k, one tile after the other.
    pub(super) tiles: &'a [u8],
    pub(super) tile_bytes: usize,
    pub(super) column: Column<'a>,
    /// For each tile, the products with its rows.
    pub(super) out: &'a mut [[f32; LANES]],
}

impl<U: Unpack> Kernel for MultiplyOne<'_, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ty = self.unpacker.ty();
        let (bytes, groups) = (TILE_ROWS * cell_bytes(ty), cell_len(ty) / GROUP);
        self.out.fill([0.0; LANES]);
        let mut ahead = Ahead {
            tiles: self.tiles,
            tile_bytes: self.tile_bytes,
            step: bytes / (groups * self.out.len()),
            done: 0,
            asked: 0,
        };
        for i in 0..self.tile_bytes / bytes {
            let tiles = self.tiles.chunks_exact(self.tile_bytes);
            for (tile, out) in tiles.zip(&mut *self.out) {
                let mut sink: OneColumn<'_, '_, S, U> = OneColumn {
                    s,
                    column: self.column,
                    ahead: &mut ahead,
                    unpacker: PhantomData,
                    group: i * groups,
                    acc: s.load(out),
                };
                self.unpacker
                    .unpack(s, &tile[i * bytes..][..bytes], &mut sink);
                s.store(sink.acc, out);
            }
        }
    }
}

/// Asks for the memory of several tiles, a little of each at a time: more at once would wait for a
/// free buffer, and the products with it.
struct Ahead<'a> {
    tiles: &'a [u8],
    tile_bytes: usize,
    /// Bytes of a tile to ask for at a time.
    step: usize,
    /// What is behind the products, on average over the tiles.
    done: usize,
    /// What was asked for, in whole lines.
    asked: usize,
}

impl Ahead<'_> {
    #[inline(always)]
    fn step(&mut self) {
        self.done += self.step;
        while self.asked < self.done {
            for tile in (0..self.tiles.len()).step_by(self.tile_bytes) {
                fetch_ahead(&self.tiles[tile + self.asked..][..1]);
            }
            self.asked += LINE;
        }
    }
}

/// Multiplies each tile at once with one column.
struct OneColumn<'a, 't, S: Simd, U> {
    s: S,
    column: Column<'a>,
    ahead: &'t mut Ahead<'a>,
    unpacker: PhantomData<U>,
    group: usize,
    acc: S::F,
}

impl<S: Simd, U: Unpack> Sink<S> for OneColumn<'_, '_, S, U> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        self.ahead.step();
        let products = dot::<S, U, 1>(self.s, &tile, [group_of(&self.column, self.group)]);
        let scale = self.s.splat(self.column.scale[self.group]);
        self.acc = self.s.fma(products[0], scale, self.acc);
        self.group += 1;
    }
}

/// Multiplies a tile of 16 rows with many columns.
pub(super) struct Multiply<'a, U> {
    pub(super) unpacker: U,
    /// The tile's cells over all k.
    pub(super) tile: &'a [u8],
    pub(super) input: &'a Activations,
    /// Which columns of `input`.
    pub(super) columns: &'a [u32],
    /// For each of them, the products with the 16 rows.
    pub(super) out: &'a mut [[f32; LANES]],
}

impl<U: Unpack> Kernel for Multiply<'_, U> {
    type Output = ();

    /// Unpacks [`GROUPS`] groups, then multiplies all columns with them. The accumulators wait in
    /// `out`, which does not change their bits.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ty = self.unpacker.ty();
        let cells_at_once = GROUPS / (cell_len(ty) / GROUP);
        self.out.fill([0.0; LANES]);
        let mut fill = Fill {
            s,
            groups: Groups::default(),
            filled: 0,
        };
        let mut first = 0;
        for cells in self.tile.chunks(cells_at_once * TILE_ROWS * cell_bytes(ty)) {
            fill.filled = 0;
            for cells in cells.chunks_exact(TILE_ROWS * cell_bytes(ty)) {
                fetch_ahead(cells);
                self.unpacker.unpack(s, cells, &mut fill);
            }
            let block = Block {
                groups: &fill.groups,
                first,
                len: fill.filled,
            };
            let (columns, out) = (self.columns, &mut self.out[..]);
            let (columns, out) = match S::COLUMNS {
                4 => block.multiply::<S, U, 4>(s, self.input, columns, out),
                2 => block.multiply::<S, U, 2>(s, self.input, columns, out),
                _ => (columns, out),
            };
            block.multiply::<S, U, 1>(s, self.input, columns, out);
            first += fill.filled;
        }
    }
}

/// Unpacked groups in memory.
struct Groups {
    q: [[[u8; 64]; 8]; GROUPS],
    w: [[[f32; LANES]; 2]; GROUPS],
    m: [[[f32; LANES]; 2]; GROUPS],
}

impl Default for Groups {
    fn default() -> Self {
        let zeros = [[[0.0; LANES]; 2]; GROUPS];
        Self {
            q: [[[0; 64]; 8]; GROUPS],
            w: zeros,
            m: zeros,
        }
    }
}

/// Writes tiles to memory.
struct Fill<S> {
    s: S,
    groups: Groups,
    filled: usize,
}

impl<S: Simd> Sink<S> for Fill<S> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        let g = self.filled;
        for j in 0..8 {
            self.s.store_bytes(tile.q[j], &mut self.groups.q[g][j]);
        }
        for h in 0..2 {
            self.s.store(tile.w[h], &mut self.groups.w[g][h]);
            self.s.store(tile.m[h], &mut self.groups.m[g][h]);
        }
        self.filled += 1;
    }
}

/// Groups `first .. first + len` of the columns, and the weights that meet them.
struct Block<'a> {
    groups: &'a Groups,
    first: usize,
    len: usize,
}

impl Block<'_> {
    /// Multiplies as many columns as go by `N`; returns the rest.
    #[inline(always)]
    fn multiply<'c, 'o, S: Simd, U: Unpack, const N: usize>(
        &self,
        s: S,
        input: &Activations,
        columns: &'c [u32],
        out: &'o mut [[f32; LANES]],
    ) -> (&'c [u32], &'o mut [[f32; LANES]]) {
        let (columns, rest) = columns.as_chunks::<N>();
        let (out, out_rest) = out.as_chunks_mut::<N>();
        for (columns, out) in columns.iter().zip(out) {
            let columns: [Column<'_>; N] =
                array!(input.column(columns[0] as usize); c => input.column(columns[c] as usize));
            let mut acc: [S::F; N] = array!(s.zero(); c => s.load(&out[c]));
            for g in 0..self.len {
                let tile = Tile {
                    q: array!(s.splat_i32(0); j => s.load_bytes(&self.groups.q[g][j])),
                    w: [s.load(&self.groups.w[g][0]), s.load(&self.groups.w[g][1])],
                    m: [s.load(&self.groups.m[g][0]), s.load(&self.groups.m[g][1])],
                };
                let mut x = [group_of(&columns[0], self.first + g); N];
                for c in 1..N {
                    x[c] = group_of(&columns[c], self.first + g);
                }
                let products = dot::<S, U, N>(s, &tile, x);
                for c in 0..N {
                    let scale = s.splat(columns[c].scale[self.first + g]);
                    acc[c] = s.fma(products[c], scale, acc[c]);
                }
            }
            for c in 0..N {
                s.store(acc[c], &mut out[c]);
            }
        }
        (rest, out_rest)
    }
}

/// 32 activations of a column and their sums.
type Group<'a> = (&'a [u8; GROUP], &'a [i32; 2]);

#[inline(always)]
fn group_of<'a>(column: &Column<'a>, group: usize) -> Group<'a> {
    (&column.q[group], &column.sums[group])
}

/// The contract's `t` of 16 rows and `N` columns.
#[inline(always)]
fn dot<S: Simd, U: Unpack, const N: usize>(s: S, tile: &Tile<S>, x: [Group<'_>; N]) -> [S::F; N] {
    // Both halves' products, less what the form of the weights adds.
    let offset = U::FORM.offset::<S>();
    let mut p = [[s.splat_i32(0); 2]; N];
    for c in 0..N {
        let [s0, s1] = x[c].1;
        if U::SPLIT {
            p[c] = [s.splat_i32(-offset * s0), s.splat_i32(-offset * s1)];
        } else {
            p[c][0] = s.splat_i32(-offset * (s0 + s1));
        }
    }
    for (j, w) in tile.q.iter().enumerate() {
        for c in 0..N {
            let x = s.splat_i32(i32::from_le_bytes(x[c].0.as_chunks().0[j]));
            let p = &mut p[c][j / 4];
            *p = match U::FORM {
                Form::Narrow(_) => s.dot_narrow(*p, *w, x),
                Form::Wide => s.dot_wide(*p, *w, x),
            };
        }
    }
    array!(s.zero(); c => {
        let ([p0, p1], [s0, s1]) = (p[c], *x[c].1);
        let (p, sums) = if U::SPLIT {
            ([p0, p1], [s0 as f32, s1 as f32])
        } else {
            ([s.add_i32(p0, p1), p1], [(s0 + s1) as f32, 0.0])
        };
        scaled::<S, U>(s, p, sums, &tile.w, &tile.m)
    })
}

/// The contract's `t` of 16 rows and a column: its products and sums over each half of a group,
/// scaled. If the halves share a scale, the first are over both and the second are not read.
#[inline(always)]
pub(super) fn scaled<S: Simd, U: Unpack>(
    s: S,
    products: [S::I; 2],
    sums: [f32; 2],
    w: &[S::F; 2],
    m: &[S::F; 2],
) -> S::F {
    let mut t = s.mul(s.to_f32(products[0]), w[0]);
    if U::SPLIT {
        t = s.fma(s.to_f32(products[1]), w[1], t);
    }
    if U::MIN {
        t = s.fma(s.splat(sums[0]), m[0], t);
    }
    if U::MIN && U::SPLIT {
        t = s.fma(s.splat(sums[1]), m[1], t);
    }
    t
}
