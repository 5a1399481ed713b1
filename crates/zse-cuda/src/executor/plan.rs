//! Where intermediate results lie: one allocation, shared by what is not needed at the same time, sized from the
//! program for the largest batch.

use zse_model::Model;
use zse_model::executor::{Budget, Fuse, LoadError, MemoryReport};
use zse_model::passes::{GroupKind, Step, schedule};
use zse_model::program::{Op, Program, ProgramOutput, Rows, ValueId};

use super::draws;
use super::library;
use super::lives::{Part, place};
use super::load::Places;
use super::meta::{self, Size};
use super::scratch::{Scratch, Sizes, grow};
use crate::device::Library;
use crate::kv;
use crate::ops::attention::WIDEST;
use crate::ops::gemv::MOST;
use crate::ops::quantize::Form;
use crate::ops::sample;
use crate::weights::{Layout, Layouts};

/// The groups that have kernels.
const FUSED: [GroupKind; 4] = GroupKind::ALL;

/// Most rows that a batch may have: what a grid counts.
const MOST_ROWS: usize = 65_535;

/// Weights of the largest matrix of a model whose 16-bit matrices meet activations as they are, however many columns
/// there are: launches take the time there, and what is not rounded comes nearer.
const SMALL: usize = 1 << 16;

/// What a model is planned for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Whether Hopper's kernels run, or those for any card.
    pub(crate) is_hopper: bool,
    /// Whether cuBLASLt may be used, where there is one.
    pub(crate) cublas: bool,
    /// Whether matrices of floats become FP8.
    pub(crate) fp8: bool,
    /// Whether what a token gives may not depend on what else is in the batch.
    pub(crate) deterministic: bool,
}

/// Steps, and offsets of all that a step works in.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// By value; `None` of those that no step stores.
    values: Vec<Option<usize>>,
    /// By step.
    pub(super) scratch: Vec<Scratch>,
    /// Columns rounded to 8 bits: q and s.
    pub(super) rounded: [usize; 2],
    /// Whether 16-bit matrices are so small that no activations are narrowed for them.
    pub(super) is_small: bool,
    /// Whether BF16 and FP8 matrices meet many columns through cuBLASLt.
    pub(super) cublas: bool,
    /// Whether kernels and the order of sums do not depend on how many columns there are.
    pub(super) deterministic: bool,
    /// By value: the form in which products read it at once, if nothing else reads it.
    pub(super) only_products: Vec<Option<Form>>,
    /// Of products whose blocks share tiles: who has left their sums.
    pub(super) counters: usize,
    /// Of sampling: between the kernels, and the best of each row.
    pub(super) best: [usize; 2],
    /// Bytes of it all.
    pub(super) bytes: usize,
    /// Words of a batch.
    pub(super) words: usize,
    /// Most rows that tokens are drawn from.
    pub(super) outputs: usize,
}

impl Plan {
    /// Of `model` within a budget that was checked.
    pub(super) fn new(model: &Model, layouts: &Layouts, budget: &Budget, target: Target) -> Self {
        let program = &model.program;
        let claim: &[GroupKind] = match budget.fuse {
            Fuse::All => &FUSED,
            Fuse::None => &[],
        };
        let steps = schedule(program, claim);
        let is_small = is_small(model);
        let only_products = only_products(model, layouts, &steps, is_small);
        // It is loaded only for models that it is for.
        let cublas = target.cublas
            && !target.deterministic
            && !is_small
            && library::suits(model, layouts, &steps, &only_products)
            && Library::find().is_some();
        let in_place = cublas.then(|| library::gated(model, layouts, &steps, Layout::Bf16));
        let (outputs, best) = match program.output {
            ProgramOutput::Logits(_) => {
                let n = budget.max_rows(Rows::Outputs);
                (n, [sample::scratch_bytes(n), 4 * sample::WORDS * n])
            }
            ProgramOutput::Pooled(_) | ProgramOutput::Hidden(_) => (0, [0; 2]),
        };
        let size = Size {
            tokens: budget.max_tokens,
            outputs,
            seqs: budget
                .max_tokens
                .min(budget.kv_blocks.max(budget.max_outputs)),
        };
        let few = match target.deterministic {
            true => usize::MAX,
            false => MOST,
        };
        let sizes: Vec<Sizes> = steps
            .iter()
            .map(|step| Sizes::of(model, layouts, budget, step, (few, in_place.as_deref())))
            .collect();
        let (mut rounded, mut counters) = ([0; 2], [0]);
        for step in &sizes {
            grow(&mut rounded, step.rounded);
            grow(&mut counters, [step.shared[1]]);
        }

        let end = 2 * steps.len() + 1;
        let always = |bytes: usize| Part::new(bytes, 0..=end);
        let mut parts = vec![always(counters[0])];
        parts.extend(rounded.map(always));
        parts.extend(best.map(|bytes| Part::new(bytes, end - 1..=end)));
        for (i, sizes) in sizes.iter().enumerate() {
            parts.extend(sizes.parts(i));
        }
        let scratch = parts.len();
        let stored = Lives {
            model,
            layouts,
            budget,
            steps: &steps,
            only_products: &only_products,
            is_small,
            few,
            norms_narrow: target.is_hopper && !target.deterministic,
            in_place: in_place.as_deref(),
        };
        let stored = stored.all(end);
        parts.extend(stored.iter().map(|(_, part)| part.clone()));
        let (offsets, bytes) = place(&parts);
        let mut values = vec![None; program.values.len()];
        for ((value, _), offset) in stored.iter().zip(&offsets[scratch..]) {
            values[value.index()] = Some(*offset);
        }
        Self {
            values,
            counters: offsets[0],
            rounded: [offsets[1], offsets[2]],
            best: [offsets[3], offsets[4]],
            scratch: offsets[5..scratch]
                .as_chunks()
                .0
                .iter()
                .map(Scratch::new)
                .collect(),
            bytes,
            words: meta::words(size, program.kv_groups().len(), budget.kv_blocks),
            outputs,
            is_small,
            cublas,
            deterministic: target.deterministic,
            only_products,
            steps,
        }
    }

    /// Where `v` lies.
    ///
    /// # Panics
    /// If no step stores it.
    pub(super) fn value(&self, v: ValueId) -> usize {
        self.values[v.index()].expect("stored by a step")
    }
}

/// When values are needed. Time counts two for each step: inputs are brought into the form that products read, then
/// results are written.
struct Lives<'a> {
    model: &'a Model,
    layouts: &'a Layouts,
    budget: &'a Budget,
    steps: &'a [Step],
    only_products: &'a [Option<Form>],
    is_small: bool,
    /// Most rows that products read as they are, or rounded.
    few: usize,
    /// Whether norms leave more than a few rows in the form that products read.
    norms_narrow: bool,
    /// Of many columns those that products read where they are, by cuBLASLt.
    in_place: Option<&'a [bool]>,
}

impl Lives<'_> {
    /// The values that steps store, and when they are needed; the last time is `end`.
    fn all(&self, end: usize) -> Vec<(ValueId, Part)> {
        let program = &self.model.program;
        let reads = self.reads();
        let mut stored = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            for v in step.stores(program) {
                let value = program.value(v);
                let rows = self.budget.max_rows(value.rows);
                let rows = if self.is_norm_of(step, v) {
                    rows.min(self.few)
                } else {
                    rows
                };
                let row = 4 * value.cols;
                let (until, few_until) = match program.output.value() == v {
                    true => (end, end),
                    // Who makes it has it to the end of its step.
                    false => reads[v.index()].map(|at| at.max(2 * i + 1)).into(),
                };
                let mut nodes = step.nodes().iter().map(|id| &program.nodes[id.index()].op);
                // Where the input is narrowed first, nothing is written before that.
                let narrows = nodes.any(|op| self.is_narrowed(step, op));
                let from = 2 * i + usize::from(narrows);
                let part = Part::new(rows.saturating_mul(row), from..=until);
                stored.push((v, part.lasting(self.few.min(rows) * row, few_until)));
            }
        }
        stored
    }

    /// Whether `v` is the norm of a step's input that more than a few columns of products read in their form alone.
    fn is_norm_of(&self, step: &Step, v: ValueId) -> bool {
        let program = &self.model.program;
        let Step::Group(GroupKind::Linears | GroupKind::GatedUp, nodes) = step else {
            return false;
        };
        let first = &program.nodes[nodes[0].index()];
        let form = self.only_products[v.index()];
        // Those read it as it is first.
        let form = form.filter(|form| !matches!(form, Form::F16 | Form::Fp8));
        let whole = program.value(v).cols.is_multiple_of(32);
        self.norms_narrow
            && first.out == Some(v)
            && matches!(first.op, Op::RmsNorm { .. })
            && form.is_some()
            && whole
    }

    /// By value, when the last step reads all of it, and its first rows.
    fn reads(&self) -> Vec<[usize; 2]> {
        let program = &self.model.program;
        let mut reads = vec![[0; 2]; program.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for node in step.nodes() {
                let op = &program.nodes[node.index()].op;
                for v in op.inputs() {
                    let first = self.is_narrowed(step, op)
                        && !self.in_place.is_some_and(|in_place| in_place[v.index()]);
                    let all = if first { 2 * i } else { 2 * i + 1 };
                    let [until, few] = &mut reads[v.index()];
                    (*until, *few) = ((*until).max(all), (*few).max(2 * i + 1));
                }
            }
        }
        reads
    }

    /// Whether `op`, of `step`, reads its input before the step writes anything, if there are more than a few rows.
    fn is_narrowed(&self, step: &Step, op: &Op) -> bool {
        let Op::Linear { weight, .. } = *op else {
            return false;
        };
        let alone = matches!(step, Step::One(_) | Step::Group(GroupKind::LinearAdd, _));
        alone && form(self.is_small, self.layouts.of(weight)).is_some()
    }
}

/// In which form products of one step, that which makes a value or the next, read it, if nothing else does:
/// there is one place for rounded columns, and one for narrowed ones.
fn only_products(
    model: &Model,
    layouts: &Layouts,
    steps: &[Step],
    is_small: bool,
) -> Vec<Option<Form>> {
    let program = &model.program;
    let mut made = vec![0; program.values.len()];
    let mut reads: Vec<Option<(Form, usize)>> = vec![None; program.values.len()];
    let mut others = vec![false; program.values.len()];
    others[program.output.value().index()] = true;
    for (i, step) in steps.iter().enumerate() {
        for node in step.nodes().iter().map(|id| &program.nodes[id.index()]) {
            let form = match node.op {
                Op::Linear { weight, .. } => form(is_small, layouts.of(weight)),
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

/// The form in which products with such weights read more than a few columns; `None`: as f32.
pub(super) fn form(is_small: bool, weights: Layout) -> Option<Form> {
    Form::of(weights).filter(|_| weights.is_quantized() || !is_small)
}

fn is_small(model: &Model) -> bool {
    let tensors = model.program.nodes.iter().filter_map(|node| match node.op {
        Op::Linear { weight, .. } => Some(model.program.tensor(weight)),
        _ => None,
    });
    let mut sizes = tensors.map(|t| t.rows.saturating_mul(t.cols));
    sizes.all(|size| size <= SMALL)
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
    target: Target,
) -> Result<MemoryReport, LoadError> {
    budget.check(&model.program)?;
    check(&model.program, budget, device)?;
    let layouts = Layouts::new(model, target.fp8);
    let plan = Plan::new(model, &layouts, budget, target);
    Ok(MemoryReport {
        weights: Places::new(model, &layouts).bytes(),
        mapped: model.weights.mapped_bytes(0),
        kv: kv::bytes(&model.program, budget),
        activations: (plan.bytes + 4 * (plan.words + draws::words(plan.outputs))) as u64,
    })
}
