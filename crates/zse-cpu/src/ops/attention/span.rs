//! Attention of a tile of queries over one span of keys.

use std::ops::Range;

use super::merge::{HEADER, partial_len};
use super::{Attention, SPAN, Tile};
use crate::kv::HeadRows;
use crate::simd::{Kernel, LANES, Simd, array, math};

/// Query rows whose scores are computed together, if the registers hold that many: enough sums for
/// the CPU to add to while each waits for its last addition.
const ROWS: usize = 8;

/// Query rows that share values as they are summed.
const SHARING: usize = 4;

/// Vectors of values that are summed together.
const COLUMNS: usize = 4;

/// How far below the greatest score one counts as nothing: it weighs less than a 2^92nd of that one.
/// What is left out of a sum is therefore far below an f32's precision relative to the greatest value
/// in it; it could show only where the values that weigh more are smaller than it by as much. Sums
/// that begin with such parts would be subnormal, and those are slow.
const NOTHING: f32 = -64.0;

/// Memory for a span.
#[derive(Default)]
pub(super) struct SpanScratch {
    /// 16 keys or values: `[16, dim]`, each padded to whole vectors.
    rows: Vec<f32>,
    /// 16 keys, transposed: `[k_dim]` vectors of a key to a lane, padded likewise.
    keys: Vec<[f32; LANES]>,
    /// `[rows, SPAN]`: scores, then their exponentials.
    scores: Vec<f32>,
}

/// Partial results of a tile's rows over one span.
pub(super) struct Span<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) tile: &'a Tile,
    /// Number of the span: positions `span * SPAN ..`.
    pub(super) span: usize,
    pub(super) scratch: &'a mut SpanScratch,
    /// `[tokens, group]` partial results, written.
    pub(super) partials: &'a mut [f32],
}

impl Kernel for Span<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let a = self.attention;
        let seq = &a.seqs[self.tile.seq];
        let [keys, values] = a.kv.head(a.state, seq, self.tile.kv_head);
        let rows = self.tile.tokens * a.group();
        self.scratch.scores.resize(rows * SPAN, 0.0);

        // What any of the tile's tokens sees in this span, relative to its start.
        let (first, last) = (self.visible(0), self.visible(self.tile.tokens - 1));
        let seen = first.start.min(last.start)..first.end.max(last.end);
        for at in (seen.start / LANES * LANES..seen.end).step_by(LANES) {
            self.load_keys(s, &keys, at, &seen);
            self.score(s, at);
        }
        for row in 0..rows {
            self.soften(s, row);
        }
        for at in (seen.start / LANES * LANES..seen.end).step_by(LANES) {
            self.load_rows(s, &values, at, &seen);
            self.sum_values(s, at);
        }
    }
}

impl Span<'_> {
    /// Positions of the span, relative to its start, that token `token` of the tile sees.
    #[inline(always)]
    fn visible(&self, token: usize) -> Range<usize> {
        let a = self.attention;
        let all = a.visible(&a.seqs[self.tile.seq], self.tile.token + token);
        let relative = |position: usize| position.saturating_sub(self.span * SPAN).min(SPAN);
        relative(all.start)..relative(all.end)
    }

    /// Decodes the keys of positions `at .. at + 16` of the span and transposes them. Keys that
    /// nobody sees may not exist: their lanes hold whatever was there before, and the scores made
    /// of them are overwritten by minus infinity.
    #[inline(always)]
    fn load_keys<S: Simd>(&mut self, s: S, keys: &HeadRows<'_>, at: usize, seen: &Range<usize>) {
        let padded = self.load_rows(s, keys, at, seen);
        let SpanScratch { rows, keys, .. } = &mut *self.scratch;
        keys.resize(padded, [0.0; LANES]);
        let rows = rows.as_chunks::<LANES>().0;
        for (d, keys) in keys.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let block = array!(s.zero(); i => s.load(&rows[i * padded / LANES + d]));
            let block = s.transpose(block);
            for i in 0..LANES {
                s.store(block[i], &mut keys[i]);
            }
        }
    }

    /// Decodes what is seen of positions `at .. at + 16` of the span; returns the length that
    /// rows are padded to.
    #[inline(always)]
    fn load_rows<S: Simd>(
        &mut self,
        s: S,
        from: &HeadRows<'_>,
        at: usize,
        seen: &Range<usize>,
    ) -> usize {
        let padded = from.dim().next_multiple_of(LANES);
        let rows = &mut self.scratch.rows;
        rows.resize(LANES * padded, 0.0);
        for lane in 0..LANES {
            if seen.contains(&(at + lane)) {
                let to = &mut rows[lane * padded..][..from.dim()];
                from.decode(s, self.span * SPAN + at + lane, to);
            }
        }
        padded
    }

    /// Scores of all rows with 16 keys.
    #[inline(always)]
    fn score<S: Simd>(&mut self, s: S, at: usize) {
        let rows = self.tile.tokens * self.attention.group();
        let mut row = 0;
        if S::COLUMNS >= ROWS {
            while row + ROWS <= rows {
                self.score_rows::<S, ROWS>(s, row, at);
                row += ROWS;
            }
        }
        while row + ROWS / 2 <= rows {
            self.score_rows::<S, { ROWS / 2 }>(s, row, at);
            row += ROWS / 2;
        }
        while row < rows {
            self.score_rows::<S, 1>(s, row, at);
            row += 1;
        }
    }

    /// Scores of rows `row .. row + N`: products summed in order of the dimension.
    #[inline(always)]
    fn score_rows<S: Simd, const N: usize>(&mut self, s: S, row: usize, at: usize) {
        let a = self.attention;
        let (group, k_dim) = (a.group(), a.k_dim);
        let queries: [&[f32]; N] = array!(a.q; i => {
            let (token, head) = ((row + i) / group, (row + i) % group);
            let head = self.tile.kv_head * group + head;
            &a.q[((self.tile.token + token) * a.heads + head) * k_dim..][..k_dim]
        });
        let mut sums = [s.zero(); N];
        for (d, keys) in self.scratch.keys[..k_dim].iter().enumerate() {
            let keys = s.load(keys);
            for i in 0..N {
                sums[i] = s.fma(s.splat(queries[i][d]), keys, sums[i]);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            let mut score = s.mul(*sum, s.splat(a.scale));
            if let Some(cap) = a.softcap {
                score = math::soft_cap(s, score, cap);
            }
            let to = &mut self.scratch.scores[(row + i) * SPAN + at..][..LANES];
            s.store(score, to.as_chunks_mut().0.first_mut().expect("16 scores"));
        }
    }

    /// Turns a row's scores into exponentials, zero where it does not see; writes maximum and
    /// sum of its partial result, and zeroes the values.
    #[inline(always)]
    fn soften<S: Simd>(&mut self, s: S, row: usize) {
        let group = self.attention.group();
        let visible = self.visible(row / group);
        let len = partial_len(self.attention.v_dim);
        let partial = &mut self.partials[row * len..][..len];
        partial.fill(0.0);
        if visible.is_empty() {
            partial[0] = f32::NEG_INFINITY;
            return;
        }
        let scores = &mut self.scratch.scores[row * SPAN..][..SPAN];
        // Whole vectors around what is visible.
        let around = visible.start / LANES * LANES..visible.end.next_multiple_of(LANES);
        scores[around.start..visible.start].fill(f32::NEG_INFINITY);
        scores[visible.end..around.end].fill(f32::NEG_INFINITY);
        let vectors = scores[around.clone()].as_chunks_mut::<LANES>().0;
        let mut max = s.splat(f32::NEG_INFINITY);
        for v in vectors.iter() {
            max = s.max(s.load(v), max);
        }
        let max = s.greatest(max);
        let mut total = s.zero();
        for v in vectors.iter_mut() {
            let below = s.sub(s.load(v), s.splat(max));
            // What is not seen is minus infinity.
            let e = s.select_lt(below, s.splat(NOTHING), s.zero(), math::exp(s, below));
            s.store(e, v);
            total = s.add(total, e);
        }
        partial[0] = max;
        partial[1] = s.sum(total);
    }

    /// Adds the values of 16 positions to each row that sees them, position after position.
    #[inline(always)]
    fn sum_values<S: Simd>(&mut self, s: S, at: usize) {
        let group = self.attention.group();
        let rows = self.tile.tokens * group;
        let mut row = 0;
        while row < rows {
            let seen = self.seen_of(row / group, at);
            let sharing = row..rows.min(row + SHARING);
            let shared = S::COLUMNS >= ROWS
                && sharing.len() == SHARING
                && self.seen_of((sharing.end - 1) / group, at) == seen;
            if shared {
                self.add_values::<S, SHARING>(s, row, at, seen);
                row += SHARING;
            } else {
                self.add_values::<S, 1>(s, row, at, seen);
                row += 1;
            }
        }
    }

    /// Which of the positions `at .. at + 16` of the span token `token` of the tile sees.
    #[inline(always)]
    fn seen_of(&self, token: usize, at: usize) -> Range<usize> {
        let visible = self.visible(token);
        visible.start.max(at)..visible.end.min(at + LANES)
    }

    /// Adds the values of the positions `seen`, of 16 from `at` on, to rows `row .. row + N`.
    #[inline(always)]
    fn add_values<S: Simd, const N: usize>(
        &mut self,
        s: S,
        row: usize,
        at: usize,
        seen: Range<usize>,
    ) {
        if seen.is_empty() {
            return;
        }
        let (v_dim, scratch) = (self.attention.v_dim, &*self.scratch);
        let (padded, len) = (v_dim.next_multiple_of(LANES), partial_len(v_dim));
        let values = &scratch.rows[(seen.start - at) * padded..(seen.end - at) * padded];
        let weights: [&[f32]; N] = array!(&scratch.scores[..0]; i => {
            &scratch.scores[(row + i) * SPAN..][seen.clone()]
        });
        let partials = &mut self.partials[row * len..][..N * len];
        let mut from = 0;
        while from + COLUMNS * LANES <= padded {
            add_weighted::<S, N, COLUMNS>(s, weights, values, padded, from, partials);
            from += COLUMNS * LANES;
        }
        while from < padded {
            add_weighted::<S, N, 1>(s, weights, values, padded, from, partials);
            from += LANES;
        }
    }
}

/// Adds columns `from ..` of `values`, rows of `width`, times `weights` to `C` vectors of the sums
/// of each of `N` partial results.
#[inline(always)]
fn add_weighted<S: Simd, const N: usize, const C: usize>(
    s: S,
    weights: [&[f32]; N],
    values: &[f32],
    width: usize,
    from: usize,
    partials: &mut [f32],
) {
    let len = partials.len() / N;
    let mut acc = [[s.zero(); C]; N];
    for (acc, partial) in acc.iter_mut().zip(partials.chunks_exact(len)) {
        let sums = partial[HEADER + from..].as_chunks().0;
        *acc = array!(s.zero(); i => s.load(&sums[i]));
    }
    for (position, values) in values.chunks_exact(width).enumerate() {
        let values = values[from..].as_chunks().0;
        let values: [S::F; C] = array!(s.zero(); i => s.load(&values[i]));
        for (acc, weights) in acc.iter_mut().zip(weights) {
            let weight = s.splat(weights[position]);
            for i in 0..C {
                acc[i] = s.fma(weight, values[i], acc[i]);
            }
        }
    }
    for (acc, partial) in acc.iter().zip(partials.chunks_exact_mut(len)) {
        let sums = partial[HEADER + from..].as_chunks_mut().0;
        for i in 0..C {
            s.store(acc[i], &mut sums[i]);
        }
    }
}
