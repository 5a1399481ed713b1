//! Softmax attention over the KV cache, by spans of keys (after Dao et al. 2022,
//! arXiv:2205.14135).
//!
//! Keys are taken in *spans* of [`SPAN`] positions that start at multiples of [`SPAN`], whatever
//! the batch. In a span, a query row's scores are taken together: their maximum, the sum of their
//! exponentials in 16 lanes by position, and the weighted sum of values position after position.
//! The results of spans are merged in order of position ([`merge`]). So the bits of a row depend
//! on its query and the keys that it sees, not on the batch, the chunking, block tables or
//! threads.
//!
//! Work is split over sequences, KV heads and tiles of queries; where that gives too few pieces
//! (one sequence decoding at a long context), over spans too, and merged afterwards.

mod merge;
mod span;

use zse_model::executor::SeqSpan;
use zse_model::program::{Mask, StateId};

use super::Ctx;
use crate::kv::KvStore;
use crate::par::{SharedSlice, chunk_len};
use merge::{Merge, partial_len, result};
use span::{Span, SpanScratch};

/// Positions of a span.
const SPAN: usize = 256;

/// Query rows of a tile: tokens times the heads that share a KV head.
const TILE_ROWS: usize = 32;

/// Most floats kept for results of spans that await their merge.
const MAX_PARTIALS: usize = 4 << 20;

/// What [`zse_model::program::Op::Attention`] says, and the shapes.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// `[n_tokens, heads * k_dim]`.
    pub(crate) q: &'a [f32],
    pub(crate) kv: &'a KvStore,
    pub(crate) state: StateId,
    pub(crate) seqs: &'a [SeqSpan],
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) k_dim: usize,
    pub(crate) v_dim: usize,
    pub(crate) scale: f32,
    pub(crate) mask: Mask,
    pub(crate) softcap: Option<f32>,
}

/// A tile of queries: tokens of a sequence under one KV head.
#[derive(Clone, Copy)]
struct Tile {
    seq: usize,
    kv_head: usize,
    /// First row of the batch.
    token: usize,
    tokens: usize,
    /// Spans that any of its queries sees.
    first_span: usize,
    spans: usize,
}

impl Attention<'_> {
    /// Query heads that share a KV head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Positions that the token in row `token` of the batch sees.
    fn visible(&self, seq: &SeqSpan, token: usize) -> std::ops::Range<usize> {
        let own = seq.first + token - seq.tokens.start;
        match self.mask {
            Mask::Causal => 0..own + 1,
            Mask::Window(n) => (own + 1).saturating_sub(n)..own + 1,
            Mask::Bidirectional => 0..seq.first + seq.tokens.len(),
        }
    }

    fn tiles(&self) -> Vec<Tile> {
        let per_tile = (TILE_ROWS / self.group()).max(1);
        let mut tiles = Vec::new();
        for (i, seq) in self.seqs.iter().enumerate() {
            for kv_head in 0..self.kv_heads {
                for token in seq.tokens.clone().step_by(per_tile) {
                    let tokens = per_tile.min(seq.tokens.end - token);
                    let first_span = self.visible(seq, token).start / SPAN;
                    let end = self.visible(seq, token + tokens - 1).end;
                    let spans = end.div_ceil(SPAN) - first_span;
                    tiles.push(Tile {
                        seq: i,
                        kv_head,
                        token,
                        tokens,
                        first_span,
                        spans,
                    });
                }
            }
        }
        tiles
    }

    /// Floats of the partial result of a query row.
    fn partial_len(&self) -> usize {
        partial_len(self.v_dim)
    }

    /// Floats of the partial results of all rows of a tile.
    fn tile_len(&self, tile: &Tile) -> usize {
        tile.tokens * self.group() * self.partial_len()
    }

    /// Partial results of one span of a tile.
    fn span(
        &self,
        ctx: &Ctx<'_>,
        tile: &Tile,
        span: usize,
        scratch: &mut SpanScratch,
        to: &mut [f32],
    ) {
        ctx.arch.run(Span {
            attention: self,
            tile,
            span,
            scratch,
            partials: to,
        });
    }

    /// Merges the partial results `from` of a tile's next span into `into`.
    fn merge(&self, ctx: &Ctx<'_>, into: &mut [f32], from: &[f32]) {
        ctx.arch.run(Merge {
            v_dim: self.v_dim,
            into,
            from,
        });
    }

    /// Writes the results of a tile.
    fn finish(&self, tile: &Tile, partials: &[f32], out: &SharedSlice<'_, f32>) {
        let (group, v_dim) = (self.group(), self.v_dim);
        for (row, partial) in partials.chunks_exact(self.partial_len()).enumerate() {
            let (token, head) = (tile.token + row / group, tile.kv_head * group + row % group);
            // SAFETY: each row of the output belongs to one tile, and each tile is finished once.
            let out = unsafe { out.part((token * self.heads + head) * v_dim, v_dim) };
            result(partial, out);
        }
    }
}

/// Attention of all tokens: `[n_tokens, heads * v_dim]`.
pub(crate) fn attention(ctx: &Ctx<'_>, a: &Attention<'_>, out: &mut [f32]) {
    let tiles = a.tiles();
    let out = SharedSlice::new(out);
    let pieces: usize = tiles.iter().map(|t| t.spans).sum();
    let partials: usize = tiles.iter().map(|t| t.spans * a.tile_len(t)).sum();
    let few = tiles.len() < 4 * ctx.step.threads() && pieces > tiles.len();
    if few && ctx.step.threads() > 1 && partials <= MAX_PARTIALS {
        split(ctx, a, &tiles, &out);
    } else {
        whole(ctx, a, &tiles, &out);
    }
}

/// A tile at a time, its spans in order.
fn whole(ctx: &Ctx<'_>, a: &Attention<'_>, tiles: &[Tile], out: &SharedSlice<'_, f32>) {
    let work = |t: &Tile| t.tokens * a.group() * t.spans * SPAN * (a.k_dim + a.v_dim) / 8;
    let work = tiles.iter().map(work).sum::<usize>() / tiles.len().max(1);
    // Later tiles of a prompt see more keys: no more than one tile at a time, if it is worth it.
    let chunk = chunk_len(ctx.step, 1, work).min(tiles.len());
    ctx.step.run(tiles.len().div_ceil(chunk.max(1)), &|i| {
        let mut scratch = SpanScratch::default();
        let (mut sum, mut next) = (Vec::new(), Vec::new());
        for tile in tiles.iter().skip(i * chunk).take(chunk) {
            sum.clear();
            sum.resize(a.tile_len(tile), 0.0);
            next.resize(a.tile_len(tile), 0.0);
            a.span(ctx, tile, tile.first_span, &mut scratch, &mut sum);
            for span in 1..tile.spans {
                a.span(ctx, tile, tile.first_span + span, &mut scratch, &mut next);
                a.merge(ctx, &mut sum, &next);
            }
            a.finish(tile, &sum, out);
        }
    });
}

/// A span of a tile at a time; then a tile's spans are merged in order.
fn split(ctx: &Ctx<'_>, a: &Attention<'_>, tiles: &[Tile], out: &SharedSlice<'_, f32>) {
    // Where each tile's spans begin, in pieces and in floats.
    let mut starts = Vec::with_capacity(tiles.len());
    let (mut pieces, mut floats) = (0, 0);
    for tile in tiles {
        starts.push((pieces, floats));
        pieces += tile.spans;
        floats += tile.spans * a.tile_len(tile);
    }
    let mut partials = vec![0.0; floats];
    let shared = SharedSlice::new(&mut partials);
    ctx.step.run(pieces, &|piece| {
        let t = starts.partition_point(|&(first, _)| first <= piece) - 1;
        let (tile, span) = (&tiles[t], piece - starts[t].0);
        let len = a.tile_len(tile);
        // SAFETY: pieces are handed out once, and each has a part of its own.
        let to = unsafe { shared.part(starts[t].1 + span * len, len) };
        a.span(
            ctx,
            tile,
            tile.first_span + span,
            &mut SpanScratch::default(),
            to,
        );
    });
    for (tile, &(_, start)) in tiles.iter().zip(&starts) {
        let len = a.tile_len(tile);
        let (sum, rest) = partials[start..start + tile.spans * len].split_at_mut(len);
        for next in rest.chunks_exact(len) {
            a.merge(ctx, sum, next);
        }
        a.finish(tile, sum, out);
    }
}
