//! Products of quantized weights with many columns where the CPU multiplies matrices (AMX, I8MM):
//! its instructions sum the products of 16 columns with 16 rows, and vectors go on with the f32 part
//! of the contract. The bits are those of [`quantized`](super::quantized).

use std::marker::PhantomData;
use std::ops::Range;

use zse_quant::contract::GROUP;

use zse_quant::pack::{TILE_ROWS, cell_bytes, cell_len};

use super::quantized::{GROUPS, scaled};
use super::tile::{Form, Sink, Tile, Unpack};
use crate::ops::activations::{Activations, Group, PANEL};
use crate::simd::panel::{PanelDot, PanelKernel, Right, Sums};
use crate::simd::{LANES, Simd, array, fetch_line_later, in_place};

/// Tiles of weights that meet the same activations, so that these are gathered once for all.
pub(super) const BAND: usize = 4;

/// Multiplies up to [`BAND`] tiles of 16 rows with a multiple of 16 columns.
pub(super) struct Multiply<'a, U> {
    pub(super) unpacker: U,
    /// The tiles' cells over all k, one tile after the other.
    pub(super) tiles: &'a [u8],
    pub(super) tile_bytes: usize,
    pub(super) input: &'a Activations,
    /// Which columns of `input`.
    pub(super) columns: &'a [[u32; PANEL]],
    /// For each tile and each column, the products with the 16 rows.
    pub(super) out: &'a mut [[f32; LANES]],
    /// How far a tile's products are from the next one's in `out`.
    pub(super) stride: usize,
}

impl<U: Unpack> PanelKernel for Multiply<'_, U> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, unit: &impl PanelDot) {
        let ty = self.unpacker.ty();
        let cells = TILE_ROWS * cell_bytes(ty);
        let cells_at_once = cells * (GROUPS / (cell_len(ty) / GROUP));
        let mut weights = [Weights::ZERO; BAND];
        let beside = self.columns.iter().all(|c| self.input.panel(c).is_some());
        let mut gathered =
            (!beside).then(|| vec![[[Group::ZERO; PANEL]; GROUPS]; self.columns.len()]);
        let mut sums = [[Sums::ZERO; 2]; 2];
        for out in self.out.chunks_mut(self.stride) {
            out[..PANEL * self.columns.len()].fill([0.0; LANES]);
        }
        let mut first = 0;
        for start in (0..self.tile_bytes).step_by(cells_at_once) {
            let end = self.tile_bytes.min(start + cells_at_once);
            let mut len = 0;
            for (tile, weights) in self.tiles.chunks_exact(self.tile_bytes).zip(&mut weights) {
                let mut fill: Fill<'_, S, _, U> = Fill {
                    s,
                    unit,
                    weights,
                    filled: 0,
                    unpacker: PhantomData,
                };
                for cells in tile[start..end].chunks_exact(cells) {
                    self.unpacker.unpack(s, cells, &mut fill);
                }
                len = fill.filled;
            }
            let panels: Vec<&[[Group; PANEL]]> = match &mut gathered {
                None => self
                    .columns
                    .iter()
                    .flat_map(|columns| self.input.panel(columns))
                    .map(|panel| &panel[first..first + len])
                    .collect(),
                Some(gathered) => self
                    .columns
                    .iter()
                    .zip(gathered)
                    .map(|(columns, to)| gather(self.input, columns, first, &mut to[..len]))
                    .collect(),
            };
            let pairs = Pairs {
                next: Next {
                    tiles: self.tiles,
                    tile_bytes: self.tile_bytes,
                    bytes: end..self.tile_bytes.min(end + cells_at_once),
                },
                weights: &weights[..self.tiles.len() / self.tile_bytes],
                panels: &panels,
                unpacker: PhantomData::<U>,
            };
            pairs.multiply(s, unit, &mut sums, self.out, self.stride);
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
        q: [Right::ZERO; GROUPS],
        w: [[[0.0; LANES]; 2]; GROUPS],
        m: [[[0.0; LANES]; 2]; GROUPS],
    };
}

/// Writes tiles to memory.
struct Fill<'a, S, P, U> {
    s: S,
    unit: &'a P,
    weights: &'a mut Weights,
    filled: usize,
    unpacker: PhantomData<U>,
}

impl<S: Simd, P: PanelDot, U: Unpack> Sink<S> for Fill<'_, S, P, U> {
    #[inline(always)]
    fn take(&mut self, tile: Tile<S>) {
        let (s, g) = (self.s, self.filled);
        for j in 0..8 {
            let q = signed(s, U::FORM, tile.q[j]);
            s.store_bytes(q, &mut self.weights.q[g].0[j]);
        }
        self.unit.arrange(&mut self.weights.q[g]);
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
        Form::Narrow { offset: 0, .. } => q,
        Form::Narrow { offset, .. } => {
            // With the upper bit set, no byte borrows from the next.
            let less = s.splat_i32((offset * 0x0101_0101).wrapping_neg());
            s.xor(s.add_i32(s.or(q, sign), less), sign)
        }
        Form::Wide if S::WIDE_OFFSET == 0 => q,
        Form::Wide => s.xor(q, sign),
    }
}

/// The bytes of the tiles that are unpacked next. They are asked for while the panels go by: all at
/// once they would wait for each other.
struct Next<'a> {
    /// One tile after the other.
    tiles: &'a [u8],
    tile_bytes: usize,
    /// Which of each tile.
    bytes: Range<usize>,
}

impl Next<'_> {
    /// Asks for the part of tile `tile` that falls to panel `panel` of `panels`.
    #[inline(always)]
    fn fetch(&self, tile: usize, panel: usize, panels: usize) {
        let bytes = &self.tiles[tile * self.tile_bytes..][self.bytes.clone()];
        let part = &bytes[bytes.len() * panel / panels..bytes.len() * (panel + 1) / panels];
        for line in part.chunks(64) {
            fetch_line_later(line.as_ptr());
        }
    }
}

/// Gathers groups `first ..` of columns that do not lie beside each other.
fn gather<'g>(
    input: &Activations,
    columns: &[u32; PANEL],
    first: usize,
    to: &'g mut [[Group; PANEL]],
) -> &'g [[Group; PANEL]] {
    for (c, &column) in columns.iter().enumerate() {
        let column = input.column(column as usize);
        for (g, to) in (first..).zip(&mut *to) {
            to[c] = *column.group(g);
        }
    }
    to
}

/// Tiles of weights and panels of activations, each of which meets each.
struct Pairs<'a, U> {
    next: Next<'a>,
    weights: &'a [Weights],
    /// The same groups of each.
    panels: &'a [&'a [[Group; PANEL]]],
    unpacker: PhantomData<U>,
}

impl<U: Unpack> Pairs<'_, U> {
    /// The integer sums of group `g` of pair `i`: of the tiles with the first panel, then with the
    /// next.
    #[inline(always)]
    fn dot(&self, unit: &impl PanelDot, i: usize, g: usize, sums: &mut [Sums; 2]) {
        let x = &self.panels[i / self.weights.len()][g];
        let w = &self.weights[i % self.weights.len()].q[g];
        if U::SPLIT {
            unit.dot_halves(x, w, sums);
        } else {
            unit.dot(x, w, &mut sums[0]);
        }
    }

    /// Adds the products to `out`, where those of tiles are `stride` apart. `sums` is room for the
    /// integer sums of two groups: the next one's are made while one's become numbers.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        s: S,
        unit: &impl PanelDot,
        sums: &mut [[Sums; 2]; 2],
        out: &mut [[f32; LANES]],
        stride: usize,
    ) {
        let pairs = self.weights.len() * self.panels.len();
        let mut slot = 0;
        self.dot(unit, 0, 0, &mut sums[slot]);
        for i in 0..pairs {
            let (panel, tile) = (i / self.weights.len(), i % self.weights.len());
            let (x, weights) = (self.panels[panel], &self.weights[tile]);
            self.next.fetch(tile, panel, self.panels.len());
            let out = &mut out[tile * stride..].as_chunks_mut::<PANEL>().0[panel];
            let mut acc: [S::F; PANEL] = array!(s.zero(); c => s.load(&out[c]));
            for (g, group) in x.iter().enumerate() {
                if g + 1 < x.len() {
                    self.dot(unit, i, g + 1, &mut sums[1 - slot]);
                } else if i + 1 < pairs {
                    self.dot(unit, i + 1, 0, &mut sums[1 - slot]);
                }
                let (group, [p0, p1]) = (in_place(group), in_place(&sums[slot]));
                let w = [s.load(&weights.w[g][0]), s.load(&weights.w[g][1])];
                let m = [s.load(&weights.m[g][0]), s.load(&weights.m[g][1])];
                for (c, acc) in acc.iter_mut().enumerate() {
                    let p = [
                        s.to_f32(s.load_bytes(&p0.0[c])),
                        s.to_f32(s.load_bytes(&p1.0[c])),
                    ];
                    let t = scaled::<S, U>(s, p, &group[c], &w, &m);
                    *acc = s.fma(t, s.splat(group[c].scale), *acc);
                }
                slot = 1 - slot;
            }
            for c in 0..PANEL {
                s.store(acc[c], &mut out[c]);
            }
        }
    }
}
