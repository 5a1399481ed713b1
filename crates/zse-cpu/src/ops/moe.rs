//! Mixtures of experts: the router's choice, and the experts' gated MLPs.

pub(crate) mod adapted;

use zse_model::WeightView;
use zse_model::program::Act;

use super::activations::Activations;
use super::linear::{Input, Product, Weight, products};
use super::{Ctx, resize};
use crate::par::SharedSlice;
use crate::simd::{Kernel, LANES, Simd, math};
use crate::weights::Matrix;
use adapted::{Adapted, Uses};

/// Token-expert pairs whose hidden activations are kept at a time.
const MAX_PAIRS: usize = 2048;

/// How router logits become a route.
#[derive(Clone, Copy)]
pub(crate) struct Router {
    pub(crate) experts: usize,
    pub(crate) top_k: usize,
    pub(crate) normalize: bool,
    pub(crate) scale: f32,
}

struct Route<'a> {
    router: Router,
    logits: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Route<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Router {
            experts,
            top_k,
            normalize,
            scale,
        } = self.router;
        let mut order: Vec<usize> = Vec::with_capacity(experts);
        let mut p = vec![0.0; experts];
        let rows = self
            .logits
            .chunks_exact(experts)
            .zip(self.out.chunks_exact_mut(2 * top_k));
        for (logits, out) in rows {
            order.clear();
            order.extend(0..experts);
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let max = s.splat(logits[order[0]]);
            let mut sum = s.zero();
            for (logits, p) in logits.chunks(LANES).zip(p.chunks_mut(LANES)) {
                let e = math::exp(s, s.sub(s.load_part(logits, 0.0), max));
                s.store_part(e, p);
                sum = s.add(sum, s.load_part(p, 0.0));
            }
            let total = s.sum(sum);
            let chosen = &order[..top_k];
            let kept: f32 = chosen.iter().map(|&e| p[e] / total).sum();
            let factor = if normalize { scale / kept } else { scale };
            let (ids, weights) = out.split_at_mut(top_k);
            for ((&e, id), weight) in chosen.iter().zip(ids).zip(weights) {
                *id = e as f32;
                *weight = p[e] / total * factor;
            }
        }
    }
}

/// The experts of each token, `[n_tokens, 2 * top_k]`: their numbers, best first, then their
/// weights; ties go to the lower number. `logits` is `[n_tokens, experts]`.
pub(crate) fn moe_route(ctx: &Ctx<'_>, router: Router, logits: &[f32], out: &mut [f32]) {
    let Router { experts, top_k, .. } = router;
    ctx.rows(out, 2 * top_k, |first, out| {
        let rows = out.len() / (2 * top_k);
        let logits = &logits[first * experts..][..rows * experts];
        ctx.arch.run(Route {
            router,
            logits,
            out,
        });
    });
}

/// The experts' matrices.
#[derive(Clone, Copy)]
pub(crate) struct Experts<'a> {
    pub(crate) gate: &'a Matrix,
    pub(crate) up: &'a Matrix,
    pub(crate) down: &'a Matrix,
    pub(crate) act: Act,
}

/// Memory for a mixture.
#[derive(Default)]
pub(crate) struct MoeScratch {
    /// `[pairs, ff]`.
    hidden: Vec<f32>,
    /// `[pairs, out]`.
    outputs: Vec<f32>,
    rounded: Activations,
    hidden_rounded: Activations,
    adapted: adapted::Scratch,
}

impl MoeScratch {
    /// What the last matrices met in the last pass, if all of its tokens were computed at once:
    /// `[n_tokens, top_k, ff]`.
    pub(crate) fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.hidden.capacity() + self.outputs.capacity())
            + self.rounded.bytes()
            + self.hidden_rounded.bytes()
            + self.adapted.bytes()
    }
}

/// Numbers that [`MoeScratch`] holds, part by part.
#[derive(Clone, Copy, Default)]
pub(crate) struct MoeSize {
    hidden: usize,
    outputs: usize,
    rounded: usize,
    hidden_rounded: usize,
}

impl MoeSize {
    /// What a mixture of `n_tokens` tokens, each through `top_k` of the experts of `gate`, `up` and
    /// `down`, works in.
    pub(crate) fn new(n_tokens: usize, top_k: usize, experts: [WeightView<'_>; 3]) -> Self {
        let [gate, up, down] = experts;
        let tokens = n_tokens.min(tokens_at_once(top_k));
        let hidden = tokens * top_k * gate.rows;
        let input_rounded = gate.ty.is_quantized() || up.ty.is_quantized();
        Self {
            hidden,
            outputs: tokens * top_k * down.rows,
            rounded: usize::from(input_rounded) * tokens * gate.cols,
            hidden_rounded: usize::from(down.ty.is_quantized()) * hidden,
        }
    }

    /// What suffices for either.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            hidden: self.hidden.max(other.hidden),
            outputs: self.outputs.max(other.outputs),
            rounded: self.rounded.max(other.rounded),
            hidden_rounded: self.hidden_rounded.max(other.hidden_rounded),
        }
    }

    /// Bytes of all.
    pub(crate) fn bytes(self) -> usize {
        4 * (self.hidden + self.outputs)
            + Activations::bytes_of(self.rounded)
            + Activations::bytes_of(self.hidden_rounded)
    }
}

/// What goes into a mixture.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    /// `[n_tokens, in]`.
    pub(crate) x: &'a [f32],
    /// From [`moe_route`].
    pub(crate) route: &'a [f32],
    pub(crate) top_k: usize,
}

/// Tokens that are computed at a time.
pub(crate) fn tokens_at_once(top_k: usize) -> usize {
    (MAX_PAIRS / top_k).max(1)
}

/// `sum_e weight_e * down_e(act(gate_e(x)) * up_e(x))`, added in the order of the route; `adapted` says
/// what is added to which products.
pub(crate) fn moe_ffn(
    ctx: &Ctx<'_>,
    experts: &Experts<'_>,
    tokens: Tokens<'_>,
    adapted: &[Adapted<'_>],
    scratch: &mut MoeScratch,
    out: &mut [f32],
) {
    let Tokens { x, route, top_k } = tokens;
    let (cols, width) = (experts.gate.cols(), experts.down.rows());
    let at_once = tokens_at_once(top_k);
    let parts = x
        .chunks(at_once * cols)
        .zip(route.chunks(at_once * 2 * top_k));
    let parts = parts.zip(out.chunks_mut(at_once * width));
    for (i, ((x, route), out)) in parts.enumerate() {
        let uses = Uses::new(adapted, i * at_once, route, top_k);
        let tokens = Tokens { x, route, top_k };
        part(ctx, experts, tokens, &uses, scratch, out);
    }
}

/// Pairs of a token and one of its experts: pair `token * top_k + i` is a token's i-th.
struct Pairs {
    /// By expert, rising.
    pairs: Vec<Vec<u32>>,
    /// Their tokens.
    tokens: Vec<Vec<u32>>,
}

impl Pairs {
    /// Those of `route` that are wanted.
    fn of(route: &[f32], top_k: usize, experts: usize, is_wanted: impl Fn(u32) -> bool) -> Self {
        let mut this = Self {
            pairs: vec![Vec::new(); experts],
            tokens: vec![Vec::new(); experts],
        };
        for (token, route) in route.chunks_exact(2 * top_k).enumerate() {
            for (i, &expert) in route[..top_k].iter().enumerate() {
                let pair = (token * top_k + i) as u32;
                if is_wanted(pair) {
                    this.pairs[expert as usize].push(pair);
                    this.tokens[expert as usize].push(token as u32);
                }
            }
        }
        this
    }

    /// The experts that have some.
    fn used(&self) -> impl Iterator<Item = usize> {
        (0..self.pairs.len()).filter(|&e| !self.pairs[e].is_empty())
    }
}

/// [`moe_ffn`] of as many tokens as are taken at once.
fn part(
    ctx: &Ctx<'_>,
    experts: &Experts<'_>,
    tokens: Tokens<'_>,
    uses: &Uses<'_>,
    scratch: &mut MoeScratch,
    out: &mut [f32],
) {
    let Tokens { x, route, top_k } = tokens;
    let Experts {
        gate,
        up,
        down,
        act,
    } = *experts;
    let (ff, width) = (gate.rows(), down.rows());
    let pairs = route.len() / 2;
    // Pairs whose gated products are made in one go, and those of which adapters change a part.
    let changed = uses.of_gated();
    let is_changed = |pair| changed.binary_search(&pair).is_ok();
    let plain = Pairs::of(route, top_k, gate.experts(), |pair| !is_changed(pair));

    let MoeScratch {
        hidden,
        outputs,
        rounded,
        hidden_rounded,
        adapted,
    } = scratch;
    resize(hidden, pairs * ff, 0.0);
    resize(outputs, pairs * width, 0.0);
    let weight = |matrix, expert| Weight {
        matrix,
        expert,
        bias: None,
    };
    if gate.ty().is_quantized() || up.ty().is_quantized() {
        rounded.round(ctx, x, gate.cols());
    }
    let shared = SharedSlice::new(hidden);
    let gated = plain.used().map(|e| Product {
        weight: weight(gate, e),
        gated: Some((act, weight(up, e))),
        input: Input { x, rounded },
        columns: &plain.tokens[e],
        to: &plain.pairs[e],
        out: &shared,
    });
    // SAFETY: each pair is of one expert, and among its pairs once.
    unsafe { products(ctx, &gated.collect::<Vec<_>>()) };
    let all = match changed.is_empty() {
        true => plain,
        false => {
            let pairs = Pairs::of(route, top_k, gate.experts(), is_changed);
            let input = Input { x, rounded };
            adapted::gated(
                ctx,
                experts,
                (&pairs, &changed),
                input,
                uses,
                adapted,
                hidden,
            );
            Pairs::of(route, top_k, gate.experts(), |_| true)
        }
    };

    if down.ty().is_quantized() {
        hidden_rounded.round(ctx, hidden, ff);
    }
    let shared = SharedSlice::new(outputs);
    let lowered = all.used().map(|e| Product {
        weight: weight(down, e),
        gated: None,
        input: Input {
            x: hidden,
            rounded: hidden_rounded,
        },
        columns: &all.pairs[e],
        to: &all.pairs[e],
        out: &shared,
    });
    // SAFETY: as above.
    unsafe { products(ctx, &lowered.collect::<Vec<_>>()) };
    uses.add_down(ctx, hidden, adapted, outputs);

    ctx.rows(out, width, |first, out| {
        ctx.arch.run(Combine {
            outputs: &outputs[first * top_k * width..],
            route: &route[first * 2 * top_k..],
            top_k,
            width,
            out,
        });
    });
}

/// Sums the experts' outputs of each token, weighted, in the order of the route.
struct Combine<'a> {
    /// `[tokens, top_k, width]`.
    outputs: &'a [f32],
    /// `[tokens, 2 * top_k]`.
    route: &'a [f32],
    top_k: usize,
    width: usize,
    /// `[tokens, width]`.
    out: &'a mut [f32],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self {
            outputs,
            route,
            top_k,
            width,
            out,
        } = self;
        let tokens = outputs
            .chunks_exact(top_k * width)
            .zip(route.chunks_exact(2 * top_k));
        for ((outputs, route), out) in tokens.zip(out.chunks_exact_mut(width)) {
            out.fill(0.0);
            for (y, weight) in outputs.chunks_exact(width).zip(&route[top_k..]) {
                out.iter_mut()
                    .zip(y)
                    .for_each(|(out, y)| *out = y.mul_add(*weight, *out));
            }
        }
    }
}
