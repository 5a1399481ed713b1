//! Where intermediate results lie: one arena, sized from the program for the largest batch.

use zse_model::Model;
use zse_model::executor::{Budget, Fuse, LoadError, MemoryReport};
use zse_model::passes::{BufferPlan, GroupKind, Step, schedule};
use zse_model::program::{Op, Program, ProgramOutput, Rows, TensorId, ValueId};

use super::draws;
use super::load::Places;
use super::meta::{self, Size};
use crate::device::Arena;
use crate::kv;
use crate::ops::attention::{self, WIDEST};
use crate::ops::gemm_hopper::{Grouping, Shared};
use crate::ops::gemv::MOST;
use crate::ops::quantize::{Columns, Form, Narrowed};
use crate::ops::sample;
use crate::weights::Layout;

/// The groups that have kernels.
const FUSED: [GroupKind; 4] = GroupKind::ALL;

/// Pairs of a token and an expert that a mixture works on at once.
pub(super) const PAIRS: usize = 16_384;

/// Most rows that a batch may have: what a grid counts.
const MOST_ROWS: usize = 65_535;

/// Steps, and offsets of all that a step works in.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) buffers: BufferPlan,
    /// By buffer.
    pub(super) offsets: Vec<usize>,
    /// Columns rounded to 8 bits: q and s.
    pub(super) rounded: [usize; 2],
    /// By value: the form in which products read it at once, if nothing else reads it.
    pub(super) only_products: Vec<Option<Form>>,
    /// Columns in 16 or 8 bits and their scales.
    pub(super) narrow: [usize; 2],
    /// Of products whose blocks share tiles: sums, and who has left theirs.
    pub(super) shared: [usize; 2],
    /// Of a mixture, by pair: inner results, the same rounded (q, s), and what experts say.
    pub(super) mixture: [usize; 4],
    /// How its pairs are grouped by expert: counts, sources, slots and tiles.
    pub(super) groups: [usize; 4],
    /// Products with the second matrix of a gated pair, where the two differ in layout.
    pub(super) apart: usize,
    /// Of attention with split keys: sums, and their weights.
    pub(super) splits: [usize; 2],
    /// Of sampling: between the kernels, and the best of each row.
    pub(super) best: [usize; 2],
    pub(super) arena: Arena,
    /// Words of a batch.
    pub(super) words: usize,
    /// Most rows that tokens are drawn from.
    pub(super) outputs: usize,
}

/// Sizes that grow to the largest of the operations.
#[derive(Default)]
struct Sizes {
    rounded: [usize; 2],
    narrow: [usize; 2],
    shared: [usize; 2],
    mixture: [usize; 4],
    groups: [usize; 4],
    apart: [usize; 1],
    splits: [usize; 2],
}

fn grow<const N: usize>(to: &mut [usize; N], by: [usize; N]) {
    for (to, by) in to.iter_mut().zip(by) {
        *to = (*to).max(by);
    }
}

impl Plan {
    /// Of `model` within a budget that was checked.
    pub(super) fn new(model: &Model, budget: &Budget) -> Self {
        let program = &model.program;
        let claim: &[GroupKind] = match budget.fuse {
            Fuse::All => &FUSED,
            Fuse::None => &[],
        };
        let steps = schedule(program, claim);
        let buffers = BufferPlan::new(program, &steps);
        let mut arena = Arena::default();
        let offsets = buffers
            .buffers
            .iter()
            .map(|b| arena.take(budget.max_rows(b.rows).saturating_mul(4 * b.cols)))
            .collect();
        let sizes = sizes(model, budget);
        let (outputs, best) = match program.output {
            ProgramOutput::Logits(_) => {
                let n = budget.max_rows(Rows::Outputs);
                (n, [sample::scratch_bytes(n), 4 * sample::WORDS * n])
            }
            ProgramOutput::Pooled(_) => (0, [0; 2]),
        };
        let size = Size {
            tokens: budget.max_tokens,
            outputs,
            seqs: budget
                .max_tokens
                .min(budget.kv_blocks.max(budget.max_outputs)),
        };
        let only_products = only_products(model, &steps);
        Self {
            steps,
            buffers,
            offsets,
            rounded: sizes.rounded.map(|b| arena.take(b)),
            only_products,
            narrow: sizes.narrow.map(|b| arena.take(b)),
            shared: sizes.shared.map(|b| arena.take(b)),
            mixture: sizes.mixture.map(|b| arena.take(b)),
            groups: sizes.groups.map(|b| arena.take(b)),
            apart: arena.take(sizes.apart[0]),
            splits: sizes.splits.map(|b| arena.take(b)),
            best: best.map(|b| arena.take(b)),
            words: meta::words(size, program.kv_groups().len(), budget.kv_blocks),
            outputs,
            arena,
        }
    }
}

/// In which form products of one step, that which makes a value or the next, read it, if nothing else does:
/// there is one place for rounded columns, and one for narrowed ones.
fn only_products(model: &Model, steps: &[Step]) -> Vec<Option<Form>> {
    let program = &model.program;
    let mut made = vec![0; program.values.len()];
    let mut reads: Vec<Option<(Form, usize)>> = vec![None; program.values.len()];
    let mut others = vec![false; program.values.len()];
    others[program.output.value().index()] = true;
    for (i, step) in steps.iter().enumerate() {
        for node in step.nodes().iter().map(|id| &program.nodes[id.index()]) {
            let form = match node.op {
                Op::Linear { weight, .. } => Form::of(Layout::of(model.weights.get(weight).ty)),
                _ => None,
            };
            for v in node.op.inputs().iter().map(|v| v.index()) {
                let read = form.map(|form| (form, i - made[v]));
                let differs = reads[v].is_some_and(|known| Some(known) != read);
                others[v] |= differs || read.is_none_or(|(_, later)| later > 1);
                reads[v] = read;
            }
            if let Some(out) = node.out {
                made[out.index()] = i;
            }
        }
    }
    let reads = reads.into_iter().zip(others);
    reads
        .map(|(read, other)| read.filter(|_| !other).map(|(form, _)| form))
        .collect()
}

fn sizes(model: &Model, budget: &Budget) -> Sizes {
    let program = &model.program;
    let rows = |v: ValueId| budget.max_rows(program.value(v).rows);
    let layout = |t: TensorId| Layout::of(model.weights.get(t).ty);
    let mut sizes = Sizes::default();
    for node in &program.nodes {
        match node.op {
            Op::Linear { x, weight, .. } => {
                let (n, cols) = (rows(x), program.value(x).cols);
                if layout(weight).is_quantized() {
                    grow(&mut sizes.rounded, Columns::bytes(n.min(MOST), cols));
                }
                if n > 1 && layout(weight) != Layout::F32 {
                    grow(&mut sizes.narrow, Narrowed::bytes(n, cols));
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
            Op::Glu { gate, .. } if mixed_gates(model) => {
                // Whether its inputs come from one group is known to the schedule; few models have both.
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

/// Whether some gate's matrix differs in layout from another product of the same input.
fn mixed_gates(model: &Model) -> bool {
    let linears = || {
        model.program.nodes.iter().filter_map(|n| match n.op {
            Op::Linear { x, weight, .. } => Some((x, Layout::of(model.weights.get(weight).ty))),
            _ => None,
        })
    };
    linears().any(|(x, layout)| linears().any(|(other, l)| other == x && l != layout))
}

/// Tokens whose pairs a mixture works on at once.
pub(super) fn tokens_at_once(top_k: usize) -> usize {
    (PAIRS / top_k.max(1)).max(1)
}

/// What the kernels cannot do.
pub(super) fn check(program: &Program, budget: &Budget, device: &str) -> Result<(), LoadError> {
    let unsupported = |what: String| {
        Err(LoadError::Unsupported {
            device: device.to_owned(),
            what,
        })
    };
    if budget.max_tokens > MOST_ROWS {
        return Err(LoadError::Budget(format!(
            "a batch of {} tokens: at most {MOST_ROWS} on a GPU",
            budget.max_tokens
        )));
    }
    if budget
        .kv_blocks
        .checked_mul(budget.block_len)
        .is_none_or(|n| u32::try_from(n).is_err())
    {
        return Err(LoadError::Budget(format!(
            "{} KV blocks, of which rows are numbered in 32 bits",
            budget.kv_blocks
        )));
    }
    for i in 0..program.states.len() {
        let paged = program.paged(zse_model::program::StateId(i as u32));
        let widest = paged.k_dim.max(paged.v_dim);
        if widest > WIDEST {
            return unsupported(format!(
                "attention heads of {widest} numbers, at most {WIDEST}"
            ));
        }
    }
    for tensor in &program.tensors {
        if i32::try_from(tensor.rows).is_err() || i32::try_from(tensor.cols).is_err() {
            return unsupported(format!(
                "tensor '{}' of {} rows of {}",
                tensor.name, tensor.rows, tensor.cols
            ));
        }
    }
    Ok(())
}

/// What an executor of `model` within `budget` uses.
pub(crate) fn report(
    model: &Model,
    budget: &Budget,
    device: &str,
) -> Result<MemoryReport, LoadError> {
    budget.check(&model.program)?;
    check(&model.program, budget, device)?;
    let plan = Plan::new(model, budget);
    Ok(MemoryReport {
        weights: Places::new(model).bytes(),
        mapped: model.weights.mapped_bytes(0),
        kv: kv::bytes(&model.program, budget),
        activations: (plan.arena.bytes() + 4 * (plan.words + draws::words(plan.outputs))) as u64,
    })
}
