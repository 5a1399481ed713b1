//! What adapters (LoRA) add to the products of experts: `scale * B (A x)` for the pairs of a token and an
//! expert whose token uses an adapter that changes the expert.
//!
//! As of single matrices (`executor/adapters.rs`), both products go through the kernels of unquantized
//! weights, and what they give is added pair by pair, adapter after adapter: a token's results do not
//! depend on which others share its adapter, and those without one are what they were.

use super::{Experts, Pairs};
use crate::ops::activations::Activations;
use crate::ops::linear::{Input, Product, Weight, products};
use crate::ops::{Ctx, elementwise, resize};
use crate::par::{SharedSlice, chunk_len};
use crate::weights::Matrix;

/// What an adapter adds to the products of a stack of experts.
pub(crate) struct ExpertSite {
    /// Those of the experts that it changes, each `[rank, in]`.
    pub(crate) a: Matrix,
    /// Likewise, `[out, rank]`.
    pub(crate) b: Matrix,
    /// For each expert, which of those it is, and the factor.
    pub(crate) places: Vec<Option<(usize, f32)>>,
}

/// An adapter in a mixture.
#[derive(Clone, Copy)]
pub(crate) struct Adapted<'a> {
    /// What it adds to gates, ups and downs.
    pub(crate) sites: [Option<&'a ExpertSite>; 3],
    /// The tokens that use it, rising.
    pub(crate) rows: &'a [u32],
    /// For each of them, the factor on what is added.
    pub(crate) scales: &'a [f32],
}

/// What is computed on the way.
#[derive(Default)]
pub(super) struct Scratch {
    /// `A x`: `[pairs, rank]`.
    inner: Vec<f32>,
    /// `B (A x)`: `[pairs, out]`.
    outer: Vec<f32>,
    /// Both sides of the gated products that are changed, `[pairs, ff]`, and what comes of them.
    sides: [Vec<f32>; 2],
    hidden: Vec<f32>,
    /// Not read: the factors of adapters are not quantized.
    rounded: Activations,
}

impl Scratch {
    pub(super) fn bytes(&self) -> usize {
        let Self {
            inner,
            outer,
            sides: [gate, up],
            hidden,
            rounded,
        } = self;
        let floats = [inner, outer, gate, up, hidden];
        4 * floats.map(Vec::capacity).iter().sum::<usize>() + rounded.bytes()
    }
}

/// The pairs of an expert that an adapter changes.
struct Group {
    /// Which of the site's matrices.
    place: usize,
    /// Rising.
    pairs: Vec<u32>,
    tokens: Vec<u32>,
    /// Their rows of [`Scratch::inner`] and [`Scratch::outer`].
    rows: Vec<u32>,
}

/// Which rows of its input a product reads.
#[derive(Clone, Copy)]
enum Columns {
    /// Those of the tokens.
    Tokens,
    /// Those of the pairs.
    Pairs,
    /// Those of the adapter's own results.
    Rows,
}

/// What an adapter does to one of the three products.
struct Use<'a> {
    site: &'a ExpertSite,
    groups: Vec<Group>,
    /// For each row, the pair and the factor.
    added: Vec<(u32, f32)>,
}

/// What adapters do to a part of the tokens.
pub(super) struct Uses<'a> {
    /// To gates, ups and downs.
    sides: [Vec<Use<'a>>; 3],
}

impl<'a> Uses<'a> {
    /// Those to the tokens of `route`, the first of which is `first`.
    pub(super) fn new(adapted: &[Adapted<'a>], first: usize, route: &[f32], top_k: usize) -> Self {
        let end = first + route.len() / (2 * top_k);
        let of_side = |side: usize| {
            let uses = adapted.iter().filter_map(|adapted| {
                let before = |row| adapted.rows.partition_point(|&r| (r as usize) < row);
                let range = before(first)..before(end);
                let rows = &adapted.rows[range.clone()];
                let tokens = rows.iter().map(|&row| row as usize - first);
                let tokens = tokens.zip(adapted.scales[range].iter().copied());
                Use::new(adapted.sites[side]?, tokens, route, top_k)
            });
            uses.collect()
        };
        Self {
            sides: [0, 1, 2].map(of_side),
        }
    }

    /// The pairs whose gated products are changed, rising.
    pub(super) fn of_gated(&self) -> Vec<u32> {
        let uses = self.sides[..2].iter().flatten();
        let mut pairs: Vec<u32> = uses
            .flat_map(|u| u.added.iter().map(|(pair, _)| *pair))
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// Adds what is added to the last products, of `hidden`, `[pairs, ff]`.
    pub(super) fn add_down(
        &self,
        ctx: &Ctx<'_>,
        hidden: &[f32],
        scratch: &mut Scratch,
        outputs: &mut [f32],
    ) {
        for of in &self.sides[2] {
            let place = |pair| pair as usize;
            of.add(ctx, (hidden, Columns::Pairs), place, scratch, outputs);
        }
    }
}

impl<'a> Use<'a> {
    /// What `site` does to these tokens, each with a factor; nothing if none goes to an expert that it
    /// changes.
    fn new(
        site: &'a ExpertSite,
        tokens: impl Iterator<Item = (usize, f32)>,
        route: &[f32],
        top_k: usize,
    ) -> Option<Self> {
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = vec![None; site.places.len()];
        let mut added = Vec::new();
        for (token, factor) in tokens {
            let experts = &route[token * 2 * top_k..][..top_k];
            for (i, &expert) in experts.iter().enumerate() {
                let expert = expert as usize;
                let Some((place, scale)) = site.places[expert] else {
                    continue;
                };
                let group = *group_of[expert].get_or_insert_with(|| {
                    groups.push(Group {
                        place,
                        pairs: Vec::new(),
                        tokens: Vec::new(),
                        rows: Vec::new(),
                    });
                    groups.len() - 1
                });
                let pair = (token * top_k + i) as u32;
                groups[group].pairs.push(pair);
                groups[group].tokens.push(token as u32);
                groups[group].rows.push(added.len() as u32);
                added.push((pair, factor * scale));
            }
        }
        (!added.is_empty()).then_some(Self {
            site,
            groups,
            added,
        })
    }

    /// Adds it to `out`, of which `place` says a pair's row. `x` has a row for each of `columns`.
    fn add(
        &self,
        ctx: &Ctx<'_>,
        (x, columns): (&[f32], Columns),
        place: impl Fn(u32) -> usize + Sync,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Scratch {
            inner,
            outer,
            rounded,
            ..
        } = scratch;
        let ExpertSite { a, b, .. } = self.site;
        let (n, cols) = (self.added.len(), b.rows());
        resize(inner, n * a.rows(), 0.0);
        resize(outer, n * cols, 0.0);
        self.multiply(ctx, a, Input { x, rounded }, columns, inner);
        let input = Input { x: inner, rounded };
        self.multiply(ctx, b, input, Columns::Rows, outer);
        let out = SharedSlice::new(out);
        let chunk = chunk_len(ctx.step, n, cols);
        ctx.step.run(n.div_ceil(chunk), &|i| {
            for row in i * chunk..n.min((i + 1) * chunk) {
                let (pair, factor) = self.added[row];
                // SAFETY: no pair is added twice, each has a row of its own, and each chunk is handed
                // out once.
                let to = unsafe { out.part(place(pair) * cols, cols) };
                for (to, from) in to.iter_mut().zip(&outer[row * cols..]) {
                    *to += factor * from;
                }
            }
        });
    }

    /// The products of each group's `columns` of the input with its matrix, to its rows of `out`.
    fn multiply(
        &self,
        ctx: &Ctx<'_>,
        matrix: &Matrix,
        input: Input<'_>,
        columns: Columns,
        out: &mut [f32],
    ) {
        let out = SharedSlice::new(out);
        let parts = self.groups.iter().map(|group| Product {
            weight: Weight {
                matrix,
                expert: group.place,
                bias: None,
            },
            gated: None,
            input,
            columns: match columns {
                Columns::Tokens => &group.tokens,
                Columns::Pairs => &group.pairs,
                Columns::Rows => &group.rows,
            },
            to: &group.rows,
            out: &out,
        });
        // SAFETY: each row is of one group, and once in it.
        unsafe { products(ctx, &parts.collect::<Vec<_>>()) };
    }
}

/// `act(gate(x)) * up(x)` of `pairs`, which are `changed`, rising, to their rows of `hidden`.
pub(super) fn gated(
    ctx: &Ctx<'_>,
    experts: &Experts<'_>,
    (pairs, changed): (&Pairs, &[u32]),
    input: Input<'_>,
    uses: &Uses<'_>,
    scratch: &mut Scratch,
    hidden: &mut [f32],
) {
    let ff = experts.gate.rows();
    let place = |pair: u32| changed.binary_search(&pair).expect("of all changed pairs");
    let to: Vec<Vec<u32>> = pairs
        .pairs
        .iter()
        .map(|of| of.iter().map(|&p| place(p) as u32).collect())
        .collect();
    let mut sides = std::mem::take(&mut scratch.sides);
    for ((matrix, uses), side) in [experts.gate, experts.up]
        .into_iter()
        .zip(&uses.sides)
        .zip(&mut sides)
    {
        resize(side, changed.len() * ff, 0.0);
        let shared = SharedSlice::new(side);
        let parts = pairs.used().map(|expert| Product {
            weight: Weight {
                matrix,
                expert,
                bias: None,
            },
            gated: None,
            input,
            columns: &pairs.tokens[expert],
            to: &to[expert],
            out: &shared,
        });
        // SAFETY: each pair is of one expert, and among its pairs once.
        unsafe { products(ctx, &parts.collect::<Vec<_>>()) };
        for of in uses {
            of.add(ctx, (input.x, Columns::Tokens), place, scratch, side);
        }
    }
    let [gate, up] = &sides;
    let mut made = std::mem::take(&mut scratch.hidden);
    resize(&mut made, changed.len() * ff, 0.0);
    elementwise::glu(ctx, experts.act, gate, up, &mut made);
    for (&pair, values) in changed.iter().zip(made.chunks_exact(ff)) {
        hidden[pair as usize * ff..][..ff].copy_from_slice(values);
    }
    (scratch.sides, scratch.hidden) = (sides, made);
}
