//! Products of quantized weights with rounded activations, by the contract of
//! [`zse_quant::contract`]: the same bits from every unpacker, instruction set and split.

use std::marker::PhantomData;

use zse_quant::contract::GROUP;
use zse_quant::pack::{TILE_ROWS, cell_bytes, cell_len};

use super::ahead::Ahead;
use super::tile::{Form, Sink, Tile, Unpack};
use crate::ops::activations::{Activations, Column, Group};
use crate::simd::{Kernel, LANES, Simd, array, chain, fetch_ahead};

/// Groups of 32 k that are unpacked at a time for many columns: with 512 bytes a group they stay
/// in the first-level cache while all columns go by. A multiple of every type's groups in a cell.
pub(super) const GROUPS: usize = 8;

/// Multiplies up to [`STREAMS`](super::ahead::STREAMS) tiles of 16 rows with one column, as it unpacks
/// them.
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
        let mut ahead = Ahead::new(self.tiles, self.tile_bytes);
        let each = bytes / (groups * self.out.len());
        for i in 0..self.tile_bytes / bytes {
            let tiles = self.tiles.chunks_exact(self.tile_bytes);
            for (tile, out) in tiles.zip(&mut *self.out) {
                let mut sink: OneColumn<'_, '_, S, U> = OneColumn {
                    s,
                    column: self.column,
                    ahead: &mut ahead,
                    each,
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

/// Multiplies each tile at once with one column.
struct OneColumn<'a, 't, S: Simd, U> {
    s: S,
    column: Column<'a>,
    ahead: &'t mut Ahead,
    /// Bytes of each tile to ask for with each group of one.
    each: usize,
    unpacker: PhantomData<U>,
    group: usize,
    acc: S::F,
}

impl<S: Simd, U: Unpack> Sink<S> for OneColumn<'_, '_, S, U> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        self.ahead.ask(self.each);
        let x = self.column.group(self.group);
        let [[products]] = dot::<S, U, 1, 1>(self.s, [&tile], [x]);
        self.acc = self.s.fma(products, self.s.splat(x.scale), self.acc);
        self.group += 1;
    }
}

/// Tiles that many columns meet together.
pub(super) const BAND: usize = 2;

/// Multiplies up to [`BAND`] tiles of 16 rows with many columns.
pub(super) struct Multiply<'a, 'o, U> {
    pub(super) unpacker: U,
    /// The tiles' cells over all k, one tile after the other.
    pub(super) tiles: &'a [u8],
    pub(super) tile_bytes: usize,
    pub(super) input: &'a Activations,
    /// Which columns of `input`.
    pub(super) columns: &'a [u32],
    /// For each tile and each column, the products with the 16 rows.
    pub(super) out: &'a mut [&'o mut [[f32; LANES]]],
}

impl<U: Unpack> Kernel for Multiply<'_, '_, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let out = std::mem::take(&mut self.out);
        let bands = self.tiles.chunks(S::TILES * self.tile_bytes);
        for (tiles, out) in bands.zip(out.chunks_mut(S::TILES)) {
            match S::TILES {
                2 => self.band::<S, 2>(s, tiles, out),
                _ => self.band::<S, 1>(s, tiles, out),
            }
        }
    }
}

impl<U: Unpack> Multiply<'_, '_, U> {
    /// Unpacks [`GROUPS`] groups of up to `T` tiles, then multiplies all columns with them. The
    /// accumulators wait in `out`, which does not change their bits.
    #[inline(always)]
    fn band<S: Simd, const T: usize>(&self, s: S, tiles: &[u8], out: &mut [&mut [[f32; LANES]]]) {
        let ty = self.unpacker.ty();
        let cells = TILE_ROWS * cell_bytes(ty);
        let cells_at_once = cells * (GROUPS / (cell_len(ty) / GROUP));
        let mut unpacked = [[Unpacked::ZERO; GROUPS]; T];
        for out in &mut *out {
            out.fill([0.0; LANES]);
        }
        let mut first = 0;
        for start in (0..self.tile_bytes).step_by(cells_at_once) {
            let end = self.tile_bytes.min(start + cells_at_once);
            let mut len = 0;
            for (bytes, groups) in tiles.chunks_exact(self.tile_bytes).zip(&mut unpacked) {
                let mut fill = Fill {
                    s,
                    groups,
                    filled: 0,
                };
                for cells in bytes[start..end].chunks_exact(cells) {
                    fetch_ahead(cells);
                    self.unpacker.unpack(s, cells, &mut fill);
                }
                len = fill.filled;
            }
            let block = Block {
                tiles: &unpacked,
                first,
                len,
            };
            let mut done = 0;
            if S::COLUMNS >= 8 && !U::SPLIT {
                done = block.multiply::<S, U, 8>(s, self.input, self.columns, done, out);
            }
            if S::COLUMNS >= 4 {
                done = block.multiply::<S, U, 4>(s, self.input, self.columns, done, out);
            }
            if S::COLUMNS == 2 {
                done = block.multiply::<S, U, 2>(s, self.input, self.columns, done, out);
            }
            block.multiply::<S, U, 1>(s, self.input, self.columns, done, out);
            first += len;
        }
    }
}

/// An unpacked [`Tile`] in memory.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unpacked {
    q: [[u8; 64]; 8],
    w: [[f32; LANES]; 2],
    m: [[f32; LANES]; 2],
}

impl Unpacked {
    const ZERO: Self = Self {
        q: [[0; 64]; 8],
        w: [[0.0; LANES]; 2],
        m: [[0.0; LANES]; 2],
    };
}

/// Writes tiles to memory.
struct Fill<'a, S> {
    s: S,
    groups: &'a mut [Unpacked; GROUPS],
    filled: usize,
}

impl<S: Simd> Sink<S> for Fill<'_, S> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        let to = &mut self.groups[self.filled];
        for j in 0..8 {
            self.s.store_bytes(tile.q[j], &mut to.q[j]);
        }
        for h in 0..2 {
            self.s.store(tile.w[h], &mut to.w[h]);
            self.s.store(tile.m[h], &mut to.m[h]);
        }
        self.filled += 1;
    }
}

/// Groups `first .. first + len` of the columns, and the weights that meet them.
struct Block<'a, const T: usize> {
    tiles: &'a [[Unpacked; GROUPS]; T],
    first: usize,
    len: usize,
}

impl<const T: usize> Block<'_, T> {
    /// Multiplies as many of the columns from number `done` on as go by `N`; returns the number of
    /// the next.
    #[inline(always)]
    fn multiply<S: Simd, U: Unpack, const N: usize>(
        &self,
        s: S,
        input: &Activations,
        columns: &[u32],
        mut done: usize,
        out: &mut [&mut [[f32; LANES]]],
    ) -> usize {
        for columns in columns[done..].as_chunks::<N>().0 {
            let columns: [Column<'_>; N] =
                array!(input.column(columns[0] as usize); c => input.column(columns[c] as usize));
            let mut acc = [[s.zero(); N]; T];
            // The last band may have fewer tiles: what is computed for the others is nobody's.
            for (acc, out) in acc.iter_mut().zip(&*out) {
                for c in 0..N {
                    acc[c] = s.load(&out[done + c]);
                }
            }
            for g in 0..self.len {
                let x: [&Group; N] =
                    array!(columns[0].group(self.first + g); c => columns[c].group(self.first + g));
                let tiles: [&Unpacked; T] = array!(&self.tiles[0][g]; t => &self.tiles[t][g]);
                let products = dot::<S, U, T, N>(s, tiles, x);
                for t in 0..T {
                    for c in 0..N {
                        acc[t][c] = s.fma(products[t][c], s.splat(x[c].scale), acc[t][c]);
                    }
                }
            }
            for (acc, out) in acc.iter().zip(&mut *out) {
                for c in 0..N {
                    s.store(acc[c], &mut out[done + c]);
                }
            }
            done += N;
        }
        done
    }
}

/// Where [`dot`] has its weights from: registers, or memory, which is read as late as can be.
trait Source<S: Simd> {
    fn q(&self, s: S, j: usize) -> S::I;
    fn w(&self, s: S) -> [S::F; 2];
    fn m(&self, s: S) -> [S::F; 2];
}

impl<S: Simd> Source<S> for Tile<S> {
    #[inline(always)]
    fn q(&self, _: S, j: usize) -> S::I {
        self.q[j]
    }

    #[inline(always)]
    fn w(&self, _: S) -> [S::F; 2] {
        self.w
    }

    #[inline(always)]
    fn m(&self, _: S) -> [S::F; 2] {
        self.m
    }
}

impl<S: Simd> Source<S> for Unpacked {
    #[inline(always)]
    fn q(&self, s: S, j: usize) -> S::I {
        s.load_bytes(&self.q[j])
    }

    #[inline(always)]
    fn w(&self, s: S) -> [S::F; 2] {
        [s.load(&self.w[0]), s.load(&self.w[1])]
    }

    #[inline(always)]
    fn m(&self, s: S) -> [S::F; 2] {
        [s.load(&self.m[0]), s.load(&self.m[1])]
    }
}

/// The contract's `t` of 16 rows of each of `T` tiles and `N` columns.
#[inline(always)]
fn dot<S: Simd, U: Unpack, const T: usize, const N: usize>(
    s: S,
    tiles: [&impl Source<S>; T],
    x: [&Group; N],
) -> [[S::F; N]; T] {
    let chain = match U::FORM {
        Form::Narrow { bits, .. } => chain(bits),
        Form::Wide => 1,
    };
    let chain = if U::SPLIT { chain.min(4) } else { chain };
    // The products over each half, or over both in the first.
    let mut p = [[[s.splat_i32(0); 2]; N]; T];
    let mut sums = [[s.begin(s.splat_i32(0)); N]; T];
    for j in 0..8 {
        let half = if U::SPLIT { j / 4 } else { 0 };
        let w: [S::I; T] = array!(s.splat_i32(0); t => tiles[t].q(s, j));
        for c in 0..N {
            let x = s.splat_i32(i32::from_le_bytes(x[c].q.as_chunks().0[j]));
            for t in 0..T {
                let (p, sums) = (&mut p[t][c][half], &mut sums[t][c]);
                match U::FORM {
                    Form::Narrow { .. } => {
                        if j % chain == 0 {
                            *sums = s.begin(*p);
                        }
                        *sums = s.add_narrow(*sums, w[t], x);
                        if j % chain == chain - 1 {
                            *p = s.total(*sums, *p);
                        }
                    }
                    Form::Wide => *p = s.dot_wide(*p, w[t], x),
                }
            }
        }
    }
    array!([s.zero(); N]; t => {
        let (w, m) = (tiles[t].w(s), tiles[t].m(s));
        array!(s.zero(); c => {
            let mut p = [s.to_f32(p[t][c][0]), s.to_f32(p[t][c][1])];
            // Less what the form of the weights adds. All of these are integers below 2^24: exact.
            let offset = U::FORM.offset::<S>();
            if offset != 0 {
                let less = s.splat(-offset as f32);
                let sums = if U::SPLIT { x[c].sums } else { [x[c].total; 2] };
                p = array!(p[0]; h => s.fma(s.splat(sums[h]), less, p[h]));
            }
            scaled::<S, U>(s, p, x[c], &w, &m)
        })
    })
}

/// The contract's `t` of 16 rows and a column: its products over each half of a group, scaled. If
/// the halves share a scale, the first are over both and the second are not read.
#[inline(always)]
pub(super) fn scaled<S: Simd, U: Unpack>(
    s: S,
    products: [S::F; 2],
    x: &Group,
    w: &[S::F; 2],
    m: &[S::F; 2],
) -> S::F {
    let mut t = s.mul(products[0], w[0]);
    if U::SPLIT {
        t = s.fma(products[1], w[1], t);
    }
    if U::MIN && U::SPLIT {
        t = s.fma(s.splat(x.sums[0]), m[0], t);
        t = s.fma(s.splat(x.sums[1]), m[1], t);
    } else if U::MIN {
        t = s.fma(s.splat(x.total), m[0], t);
    }
    t
}
