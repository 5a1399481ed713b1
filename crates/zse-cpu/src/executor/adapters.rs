//! What adapters (LoRA) add to products: `scale * B (A x)` for the rows of the sequences that use
//! them.
//!
//! Both products go through the kernels of unquantized weights, whose order of additions depends on
//! nothing but k, and what they give is added row by row, adapter after adapter in the order of their
//! ids. So rows without adapters are what they were, and those of a sequence do not depend on which
//! others share its adapter.

use std::collections::BTreeMap;
use std::io;

use zse_model::executor::{AdaptedRows, AdapterId, Batch};
use zse_model::program::{LinearSlot, Rows};
use zse_model::{Adapter, AdapterError, LoraMatrix, LowRank};

use crate::ops::activations::Activations;
use crate::ops::linear::{Input, Product, Weight, products};
use crate::ops::moe::adapted::{self, ExpertSite};
use crate::ops::{Ctx, resize};
use crate::par::{SharedSlice, chunk_len};
use crate::pool::Step;
use crate::weights::Matrix;

/// The adapters that are loaded.
#[derive(Default)]
pub(super) struct Adapters {
    loaded: BTreeMap<AdapterId, Loaded>,
}

struct Loaded {
    /// By [`LinearSlot`].
    sites: Vec<Option<Site>>,
    experts: BTreeMap<LinearSlot, ExpertSite>,
}

/// What an adapter adds to a product.
struct Site {
    /// `[rank, in]`.
    a: Matrix,
    /// `[out, rank]`.
    b: Matrix,
    scale: f32,
}

impl Adapters {
    /// Packs an adapter.
    pub(super) fn load(
        &mut self,
        id: AdapterId,
        adapter: &Adapter,
        step: &Step<'_>,
    ) -> Result<(), AdapterError> {
        let out_of_memory = |_| AdapterError::OutOfMemory {
            needed: adapter.bytes(),
        };
        let mut sites = Vec::with_capacity(adapter.sites().len());
        for site in adapter.sites() {
            let pack = |matrix: &LoraMatrix| Matrix::of_stack(std::slice::from_ref(matrix), step);
            sites.push(match site {
                None => None,
                Some(site) => Some(Site {
                    a: pack(&site.a).map_err(out_of_memory)?,
                    b: pack(&site.b).map_err(out_of_memory)?,
                    scale: site.scale,
                }),
            });
        }
        let mut experts = BTreeMap::new();
        for (slot, of) in adapter.experts() {
            experts.insert(slot, expert_site(of, step).map_err(out_of_memory)?);
        }
        self.loaded.insert(id, Loaded { sites, experts });
        Ok(())
    }

    pub(super) fn unload(&mut self, id: AdapterId) {
        self.loaded.remove(&id);
    }

    pub(super) fn is_loaded(&self, id: AdapterId) -> bool {
        self.loaded.contains_key(&id)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        let loaded = || self.loaded.values();
        let sites = loaded().flat_map(|l| l.sites.iter().flatten().map(|s| [&s.a, &s.b]));
        let experts = loaded().flat_map(|l| l.experts.values().map(|s| [&s.a, &s.b]));
        let matrices = sites.chain(experts).flatten();
        matrices.map(|matrix| matrix.bytes().0).sum()
    }

    fn site(&self, id: AdapterId, slot: LinearSlot) -> Option<&Site> {
        self.loaded.get(&id)?.sites.get(slot.0 as usize)?.as_ref()
    }

    fn experts(&self, id: AdapterId, slot: LinearSlot) -> Option<&ExpertSite> {
        self.loaded.get(&id)?.experts.get(&slot)
    }
}

/// Packs what an adapter adds to some experts, as stacks. Of different ranks the smaller ones are filled
/// up with zeros.
fn expert_site(of: &[Option<LowRank>], step: &Step<'_>) -> io::Result<ExpertSite> {
    let changed: Vec<&LowRank> = of.iter().flatten().collect();
    let alike = |matrices: Vec<&LoraMatrix>| -> Vec<LoraMatrix> {
        let shape = |m: &LoraMatrix| (m.ty, m.rows, m.cols);
        if matrices.iter().all(|m| shape(m) == shape(matrices[0])) {
            return matrices.into_iter().cloned().collect();
        }
        let rows = matrices.iter().map(|m| m.rows).max().unwrap_or(0);
        let cols = matrices.iter().map(|m| m.cols).max().unwrap_or(0);
        matrices.into_iter().map(|m| m.padded(rows, cols)).collect()
    };
    let places = of.iter().scan(0, |next, low_rank| {
        let place = low_rank.as_ref().map(|l| (*next, l.scale));
        *next += usize::from(place.is_some());
        Some(place)
    });
    Ok(ExpertSite {
        a: Matrix::of_stack(&alike(changed.iter().map(|l| &l.a).collect()), step)?,
        b: Matrix::of_stack(&alike(changed.iter().map(|l| &l.b).collect()), step)?,
        places: places.collect(),
    })
}

/// Which rows of a batch which adapters change.
pub(super) struct Adapted<'a> {
    adapters: &'a Adapters,
    tokens: Vec<AdaptedRows>,
    outputs: Vec<AdaptedRows>,
    seqs: Vec<AdaptedRows>,
    /// 0, 1, 2, ...
    identity: Vec<u32>,
}

/// What is computed on the way.
#[derive(Default)]
pub(super) struct Scratch {
    /// `A x`: `[n, rank]`.
    inner: Vec<f32>,
    /// `B (A x)`: `[n, out]`.
    outer: Vec<f32>,
    /// Both sides of a gated product, of its rows with adapters.
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) gated: Vec<f32>,
    /// Not read: the factors of adapters are not quantized.
    rounded: Activations,
}

impl Scratch {
    pub(super) fn bytes(&self) -> usize {
        let Self {
            inner,
            outer,
            gate,
            up,
            gated,
            rounded,
        } = self;
        let floats = [inner, outer, gate, up, gated];
        4 * floats.map(Vec::capacity).iter().sum::<usize>() + rounded.bytes()
    }
}

impl<'a> Adapted<'a> {
    pub(super) fn new(adapters: &'a Adapters, batch: &Batch) -> Self {
        let tokens = batch.adapted(Rows::Tokens);
        let rows = if tokens.is_empty() {
            0
        } else {
            batch.tokens.len()
        };
        Self {
            adapters,
            tokens,
            outputs: batch.adapted(Rows::Outputs),
            seqs: batch.adapted(Rows::Seqs),
            identity: (0..rows as u32).collect(),
        }
    }

    /// Whether no sequence of the batch uses an adapter.
    pub(super) fn is_empty(&self) -> bool {
        // Every sequence has tokens.
        self.tokens.is_empty()
    }

    /// For each adapter that changes the product of `slot`, the rows.
    fn of(&self, slot: LinearSlot, rows: Rows) -> impl Iterator<Item = (&'a Site, &AdaptedRows)> {
        let all = self.all(rows);
        let site = move |adapted: &AdaptedRows| self.adapters.site(adapted.adapter, slot);
        all.iter()
            .filter_map(move |adapted| Some((site(adapted)?, adapted)))
    }

    /// What adapters do to the products of experts of `slots`: gates, ups and downs.
    pub(super) fn of_experts(
        &self,
        slots: [LinearSlot; 3],
        rows: Rows,
    ) -> Vec<adapted::Adapted<'_>> {
        let all = self.all(rows).iter();
        let all = all.map(|adapted| adapted::Adapted {
            sites: slots.map(|slot| self.adapters.experts(adapted.adapter, slot)),
            rows: &adapted.rows,
            scales: &adapted.scales,
        });
        all.filter(|adapted| adapted.sites.iter().any(Option::is_some))
            .collect()
    }

    fn all(&self, rows: Rows) -> &[AdaptedRows] {
        match rows {
            Rows::Tokens => &self.tokens,
            Rows::Outputs => &self.outputs,
            Rows::Seqs => &self.seqs,
        }
    }

    /// The rows that adapters change of any of the products of `slots`; rising.
    pub(super) fn rows(&self, slots: &[LinearSlot], rows: Rows) -> Vec<u32> {
        let mut found: Vec<u32> = Vec::new();
        for &slot in slots {
            for (_, adapted) in self.of(slot, rows) {
                found.extend(&adapted.rows);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Adds to `out`, `[n, cols]`, the product of `slot` with `x`, what the adapters add. `place` says
    /// which row of `out` a row of `x` is.
    pub(super) fn add(
        &self,
        ctx: &Ctx<'_>,
        slot: LinearSlot,
        (x, rows): (&[f32], Rows),
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
        for (site, adapted) in self.of(slot, rows) {
            let n = adapted.rows.len();
            let in_order = &self.identity[..n];
            resize(inner, n * site.a.rows(), 0.0);
            multiply(ctx, &site.a, (x, rounded), &adapted.rows, in_order, inner);
            resize(outer, n * site.b.rows(), 0.0);
            multiply(ctx, &site.b, (inner, rounded), in_order, in_order, outer);
            let cols = site.b.rows();
            let out = SharedSlice::new(out);
            let chunk = chunk_len(ctx.step, n, cols);
            ctx.step.run(n.div_ceil(chunk), &|i| {
                for i in i * chunk..n.min((i + 1) * chunk) {
                    let scale = adapted.scales[i] * site.scale;
                    // SAFETY: rows rise, so none is named twice, and each is in one chunk, which is
                    // handed out once.
                    let to = unsafe { out.part(place(adapted.rows[i]) * cols, cols) };
                    for (to, from) in to.iter_mut().zip(&outer[i * cols..]) {
                        *to += scale * from;
                    }
                }
            });
        }
    }
}

/// Row `to[i]` of `out` becomes the product of `matrix` with row `columns[i]` of `x`; `to` has none
/// twice.
fn multiply(
    ctx: &Ctx<'_>,
    matrix: &Matrix,
    (x, rounded): (&[f32], &Activations),
    columns: &[u32],
    to: &[u32],
    out: &mut [f32],
) {
    let product = Product {
        weight: Weight {
            matrix,
            expert: 0,
            bias: None,
        },
        gated: None,
        input: Input { x, rounded },
        columns,
        to,
        out: &SharedSlice::new(out),
    };
    // SAFETY: it is the one product, and names each row once.
    unsafe { products(ctx, &[product]) };
}
