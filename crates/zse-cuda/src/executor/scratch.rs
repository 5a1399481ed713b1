//! What steps work in beside the values of the program.

use zse_model::Model;
use zse_model::executor::Budget;
use zse_model::passes::Step;
use zse_model::program::{Op, TensorId, ValueId};

use super::lives::Part;
use crate::device::WORKSPACE;
use crate::ops::attention;
use crate::ops::gemm_cublas::FEW;
use crate::ops::gemm_hopper::{Grouping, Shared};
use crate::ops::quantize::{Columns, Narrowed};
use crate::weights::{Layout, Layouts};

/// Pairs of a token and an expert that a mixture works on at once.
const PAIRS: usize = 16_384;

/// Parts of [`Scratch`].
const PARTS: usize = 14;

/// Offsets of what a step works in.
pub(super) struct Scratch {
    /// Columns in 16 or 8 bits and their scales.
    pub(super) narrow: [usize; 2],
    /// Of products whose blocks share tiles: sums.
    pub(super) shared: usize,
    /// Of a mixture, by pair: inner results, the same rounded (q, s), and what experts say.
    pub(super) mixture: [usize; 4],
    /// How its pairs are grouped by expert: counts, sources, slots and tiles.
    pub(super) groups: [usize; 4],
    /// Products with the second matrix of a gated pair, where the two differ in layout.
    pub(super) apart: usize,
    /// Of attention with split keys: sums, and their weights.
    pub(super) splits: [usize; 2],
}

impl Scratch {
    /// From offsets in the order of [`Sizes::parts`].
    pub(super) fn new(at: &[usize; PARTS]) -> Self {
        let &[a, b, shared, c, d, e, f, g, h, i, j, apart, k, l] = at;
        Self {
            narrow: [a, b],
            shared,
            mixture: [c, d, e, f],
            groups: [g, h, i, j],
            apart,
            splits: [k, l],
        }
    }
}

/// Bytes of what a step works in, the largest of its operations.
#[derive(Default)]
pub(super) struct Sizes {
    /// Columns rounded to 8 bits, of any step: others may find them there.
    pub(super) rounded: [usize; 2],
    narrow: [usize; 2],
    /// Sums of shared tiles, and counters, which stay zero between steps.
    pub(super) shared: [usize; 2],
    mixture: [usize; 4],
    groups: [usize; 4],
    apart: [usize; 1],
    splits: [usize; 2],
}

/// Raises sizes to others.
pub(super) fn grow<const N: usize>(to: &mut [usize; N], by: [usize; N]) {
    for (to, by) in to.iter_mut().zip(by) {
        *to = (*to).max(by);
    }
}

impl Sizes {
    /// What step `i` needs, when; see [`super::plan`] for time.
    pub(super) fn parts(&self, i: usize) -> [Part; PARTS] {
        let [a, b] = self.narrow;
        let [c, d, e, f] = self.mixture;
        let [g, h, j, k] = self.groups;
        let [l, m] = self.splits;
        let sizes = [
            a,
            b,
            self.shared[0],
            c,
            d,
            e,
            f,
            g,
            h,
            j,
            k,
            self.apart[0],
            l,
            m,
        ];
        // Products of a mixture narrow their input more than once.
        let products = if c > 0 { 2 * i } else { 2 * i + 1 };
        std::array::from_fn(|part| {
            let from = if part == 2 { products } else { 2 * i };
            // The next step may need the scales of what gated products were made of.
            let until = if part == 1 { 2 * i + 3 } else { 2 * i + 1 };
            Part::new(sizes[part], from..=until)
        })
    }

    /// Of `step`, where up to `few` columns are rounded as they come; `in_place`: with cuBLASLt, the values that its
    /// products read where they are.
    pub(super) fn of(
        model: &Model,
        layouts: &Layouts,
        budget: &Budget,
        step: &Step,
        (few, in_place): (usize, Option<&[bool]>),
    ) -> Self {
        let program = &model.program;
        let rows = |v: ValueId| budget.max_rows(program.value(v).rows);
        let layout = |t: TensorId| layouts.of(t);
        let mut sizes = Sizes::default();
        for node in step.nodes().iter().map(|id| &program.nodes[id.index()]) {
            match node.op {
                Op::Linear { x, weight, .. } => {
                    let (n, cols) = (rows(x), program.value(x).cols);
                    if layout(weight).is_quantized() {
                        grow(&mut sizes.rounded, Columns::bytes(n.min(few), cols));
                    }
                    if n > 1 && layout(weight) != Layout::F32 {
                        let of_library = matches!(layout(weight), Layout::Bf16 | Layout::Fp8);
                        if in_place.is_some() && of_library && n > FEW {
                            grow(&mut sizes.shared, [WORKSPACE, 0]);
                        }
                        let is_there = in_place.is_some_and(|in_place| in_place[x.index()]);
                        let rows_fp8 = in_place.is_some() && layout(weight) == Layout::Fp8;
                        let narrowed = if is_there || rows_fp8 { n.min(FEW) } else { n };
                        grow(&mut sizes.narrow, Narrowed::bytes(narrowed, cols));
                        if rows_fp8 {
                            grow(&mut sizes.narrow, Narrowed::bytes_fp8(n, cols));
                        }
                        grow(
                            &mut sizes.shared,
                            Shared::bytes(n, program.tensor(weight).rows),
                        );
                    }
                }
                Op::Attention { state, heads, .. } => {
                    grow(
                        &mut sizes.splits,
                        attention::scratch_bytes(program, state, heads),
                    );
                }
                Op::Glu { gate, .. } if differ(model, layouts, step) => {
                    let bytes = rows(gate).saturating_mul(4 * program.value(gate).cols);
                    grow(&mut sizes.apart, [bytes]);
                }
                Op::MoeFfn {
                    x,
                    route,
                    gate,
                    up,
                    down,
                    ..
                } => {
                    let top_k = program.value(route).cols / 2;
                    let n = rows(x).min(tokens_at_once(top_k));
                    let (ff, out) = (program.tensor(gate).rows, program.tensor(down).rows);
                    let (pairs, cols) = (n.saturating_mul(top_k), program.value(x).cols);
                    grow(&mut sizes.rounded, Columns::bytes(n, cols));
                    let [q, s] = Columns::bytes(pairs, ff);
                    let experts = program.tensor(gate).experts;
                    let grouping = Grouping { pairs, experts };
                    grow(&mut sizes.groups, grouping.bytes());
                    for (rows, cols) in [(ff, cols), (out, ff)] {
                        grow(&mut sizes.shared, grouping.shared_bytes(rows));
                        let scales = grouping.slots().saturating_mul(4);
                        grow(&mut sizes.narrow, [grouping.tile_bytes(cols), scales]);
                    }
                    let floats = |cols: usize| grouping.slots().saturating_mul(4 * cols);
                    grow(&mut sizes.mixture, [floats(ff), q, s, floats(out)]);
                    if layout(gate) != layout(up) {
                        grow(&mut sizes.apart, [floats(ff)]);
                    }
                }
                _ => {}
            }
        }
        sizes
    }
}

/// Whether the matrices of a step differ in layout.
fn differ(model: &Model, layouts: &Layouts, step: &Step) -> bool {
    let nodes = step
        .nodes()
        .iter()
        .map(|id| &model.program.nodes[id.index()]);
    let mut layouts = nodes.filter_map(|node| match node.op {
        Op::Linear { weight, .. } => Some(layouts.of(weight)),
        _ => None,
    });
    let first = layouts.next();
    layouts.any(|layout| Some(layout) != first)
}

/// Tokens whose pairs a mixture works on at once.
pub(super) fn tokens_at_once(top_k: usize) -> usize {
    (PAIRS / top_k.max(1)).max(1)
}
