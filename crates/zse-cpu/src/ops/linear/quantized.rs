//! Products of quantized weights with rounded activations, by the contract of
//! [`zse_quant::contract`]: the same bits from every unpacker, instruction set and split.

use std::marker::PhantomData;

use zse_quant::contract::GROUP;
use zse_quant::pack::{TILE_ROWS, cell_bytes, cell_len};

use super::ahead::{Ahead, LINE, LaterBlock, STREAMS};
use super::tile::{Form, Sink, Tile, Unpack};
use crate::ops::activations::{Activations, Column, Group};
use crate::simd::{Kernel, LANES, Simd, array, chain};

/// Groups of 32 k that are unpacked at a time for many columns: with 512 bytes a group they stay
/// in the first-level cache while all columns go by. A multiple of every type's groups in a cell.
pub(super) const GROUPS: usize = 8;

/// Tiles that many columns meet together.
pub(super) const BAND: usize = 2;

/// Columns up to which a band is [`STREAMS`] tiles. More take a while for each tile, and fewer tiles are
/// easier to share out.
pub(super) const FEW: usize = 4;

/// Multiplies tiles of 16 rows with columns.
pub(super) struct Multiply<'a, U> {
    pub(super) unpacker: U,
    /// The tiles' cells over all k, one tile after the other.
    pub(super) tiles: &'a [u8],
    pub(super) tile_bytes: usize,
    pub(super) input: &'a Activations,
    /// Which columns of `input`.
    pub(super) columns: &'a [u32],
    /// For each tile and each column, the products with the 16 rows.
    pub(super) out: &'a mut [[f32; LANES]],
    /// How far a tile's products are from the next one's in `out`.
    pub(super) stride: usize,
}

impl<U: Unpack> Kernel for Multiply<'_, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.columns.len() {
            0 => {}
            1 => self.direct::<S, STREAMS, 1>(s),
            2 if S::DIRECT >= 2 => self.direct::<S, STREAMS, 2>(s),
            3 | 4 if S::DIRECT >= 4 => self.direct::<S, STREAMS, 4>(s),
            5..=8 if S::DIRECT >= 8 && !U::SPLIT => self.direct::<S, BAND, 8>(s),
            _ if S::TILES == 2 => self.blocks::<S, 2>(s),
            _ => self.blocks::<S, 1>(s),
        }
    }
}

impl<U: Unpack> Multiply<'_, U> {
    /// Multiplies up to `N` columns with weights as they are unpacked, `T` tiles in turns.
    #[inline(always)]
    fn direct<S: Simd, const T: usize, const N: usize>(self, s: S) {
        let ty = self.unpacker.ty();
        let (bytes, groups) = (TILE_ROWS * cell_bytes(ty), cell_len(ty) / GROUP);
        // What is computed for columns beyond the last is nobody's.
        let last = self.columns.len() - 1;
        let columns: [Column<'_>; N] = array!(self.input.column(self.columns[0] as usize);
            c => self.input.column(self.columns[c.min(last)] as usize));
        let bands = self.tiles.chunks(T * self.tile_bytes);
        for (tiles, out) in bands.zip(self.out.chunks_mut(T * self.stride)) {
            let mut ahead = Ahead::<T>::new(tiles, self.tile_bytes);
            let each = bytes / (groups * (tiles.len() / self.tile_bytes));
            let mut sums = [[[0.0; LANES]; N]; T];
            for i in 0..self.tile_bytes / bytes {
                for (tile, sums) in tiles.chunks_exact(self.tile_bytes).zip(&mut sums) {
                    let mut sink: Direct<'_, '_, S, U, T, N> = Direct {
                        s,
                        columns,
                        ahead: &mut ahead,
                        each,
                        unpacker: PhantomData,
                        group: i * groups,
                        acc: array!(s.zero(); c => s.load(&sums[c])),
                    };
                    self.unpacker
                        .unpack(s, &tile[i * bytes..][..bytes], &mut sink);
                    for (acc, sum) in sink.acc.into_iter().zip(sums) {
                        s.store(acc, sum);
                    }
                }
            }
            for (sums, out) in sums.iter().zip(out.chunks_mut(self.stride)) {
                out[..=last].copy_from_slice(&sums[..=last]);
            }
        }
    }

    /// Unpacks [`GROUPS`] groups of up to `T` tiles, then multiplies all columns with them. The
    /// accumulators wait in `out`, which does not change their bits.
    #[inline(always)]
    fn blocks<S: Simd, const T: usize>(self, s: S) {
        let ty = self.unpacker.ty();
        let cells = TILE_ROWS * cell_bytes(ty);
        let cells_at_once = cells * (GROUPS / (cell_len(ty) / GROUP));
        let mut unpacked = [[Unpacked::ZERO; GROUPS]; T];
        let bands = self.tiles.chunks(T * self.tile_bytes);
        for (tiles, out) in bands.zip(self.out.chunks_mut(T * self.stride)) {
            for out in out.chunks_mut(self.stride) {
                out[..self.columns.len()].fill([0.0; LANES]);
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
                        self.unpacker.unpack(s, cells, &mut fill);
                    }
                    len = fill.filled;
                }
                let mut block = Block {
                    tiles: &unpacked,
                    first,
                    len,
                    input: self.input,
                    columns: self.columns,
                    lines: (end - start).div_ceil(LINE),
                    later: LaterBlock::new(tiles, self.tile_bytes, start, end - start),
                    stride: self.stride,
                };
                let mut done = 0;
                if S::COLUMNS >= 8 && !U::SPLIT {
                    done = block.multiply::<S, U, 8>(s, done, out);
                }
                if S::COLUMNS >= 4 {
                    done = block.multiply::<S, U, 4>(s, done, out);
                }
                if S::COLUMNS == 2 {
                    done = block.multiply::<S, U, 2>(s, done, out);
                }
                block.multiply::<S, U, 1>(s, done, out);
                first += len;
            }
        }
    }
}

/// Multiplies the groups of a tile at once with each column.
struct Direct<'a, 't, S: Simd, U, const T: usize, const N: usize> {
    s: S,
    columns: [Column<'a>; N],
    ahead: &'t mut Ahead<T>,
    /// Bytes of each tile to ask for with each group of one.
    each: usize,
    unpacker: PhantomData<U>,
    group: usize,
    acc: [S::F; N],
}

impl<S: Simd, U: Unpack, const T: usize, const N: usize> Sink<S> for Direct<'_, '_, S, U, T, N> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        let s = self.s;
        self.ahead.ask(self.each);
        let x: [&Group; N] = array!(self.columns[0].group(self.group);
            c => self.columns[c].group(self.group));
        let [products] = dot::<S, U, 1, N>(s, [&tile], x);
        for c in 0..N {
            self.acc[c] = s.fma(products[c], s.splat(x[c].scale), self.acc[c]);
        }
        self.group += 1;
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
    input: &'a Activations,
    columns: &'a [u32],
    /// Lines of memory that the groups take in each tile.
    lines: usize,
    later: LaterBlock<T>,
    /// As of [`Multiply`].
    stride: usize,
}

impl<const T: usize> Block<'_, T> {
    /// Multiplies the columns from number `done` on, `N` at a time, unless at most half as many are
    /// left; returns the number of the next.
    #[inline(always)]
    fn multiply<S: Simd, U: Unpack, const N: usize>(
        &mut self,
        s: S,
        mut done: usize,
        out: &mut [[f32; LANES]],
    ) -> usize {
        let each = (N * self.lines).div_ceil(self.len * self.columns.len());
        for columns in self.columns[done..].chunks(N) {
            if N > 1 && columns.len() <= N / 2 {
                break;
            }
            // The last one again, where there are fewer: it has the same bits each time.
            let last = columns.len() - 1;
            let columns: [Column<'_>; N] = array!(self.input.column(columns[0] as usize);
                c => self.input.column(columns[c.min(last)] as usize));
            let mut acc = [[s.zero(); N]; T];
            // The last band may have fewer tiles: what is computed for the others is nobody's.
            for (acc, out) in acc.iter_mut().zip(out.chunks(self.stride)) {
                for c in 0..N {
                    acc[c] = s.load(&out[done + c.min(last)]);
                }
            }
            for g in 0..self.len {
                self.later.ask(each);
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
            for (acc, out) in acc.iter().zip(out.chunks_mut(self.stride)) {
                for c in 0..N {
                    s.store(acc[c], &mut out[done + c.min(last)]);
                }
            }
            done += last + 1;
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
