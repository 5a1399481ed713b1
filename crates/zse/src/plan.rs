//! The memory that a model needs, known before it is loaded.

use zse_model::Model;
use zse_model::executor::Fuse;
use zse_model::passes::{BufferPlan, GroupKind, schedule};
use zse_model::program::{Op, Program, Rows, TensorId};
use zse_quant::pack::packed_bytes;

use crate::LoadOptions;

/// Bytes that a model needs on the CPU, by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights that are packed as they are loaded.
    pub weights: u64,
    /// Weights that are read from the file in place (tables of which only rows are looked up); the
    /// whole file where it is no map but part of the program, as the built-in model is.
    pub mapped: u64,
    /// Keys and values of all tokens.
    pub kv: u64,
    /// Intermediate results of the largest batch.
    pub activations: u64,
}

impl MemoryPlan {
    /// The plan of `model`, loaded with `options`, while it computes prompts and generates.
    pub fn new(model: &Model, options: &LoadOptions) -> Self {
        let budget = options.budget(model);
        // No prompt is longer than the context.
        let n_tokens = budget
            .max_tokens
            .min(model.info.context * options.sequences);
        let mut plan = Self {
            kv: budget.kv_bytes(&model.program).unwrap_or(u64::MAX),
            activations: activations(&model.program, n_tokens, options)
                + rounded(model, n_tokens)
                + rotations(&model.program, n_tokens),
            ..Self::default()
        };
        for (i, role) in roles(&model.program).into_iter().enumerate() {
            let view = model.weights.get(TensorId(i as u32));
            match role {
                Role::Product => {
                    let packed = packed_bytes(view.ty, view.rows, view.cols).unwrap_or(0);
                    plan.weights += (packed * view.experts) as u64;
                }
                Role::Table => plan.mapped += view.data.len() as u64,
                Role::Vector => plan.weights += 4 * (view.rows * view.cols * view.experts) as u64,
            }
        }
        let checkpoint = model.weights.checkpoint();
        if !checkpoint.is_mapped() {
            plan.mapped = checkpoint.file_bytes();
        }
        plan
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        [self.weights, self.mapped, self.kv, self.activations]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// What a tensor is used for, which decides its form in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Multiplied by: packed.
    Product,
    /// Rows are looked up: left in the file.
    Table,
    /// Norms, biases, factors: decoded.
    Vector,
}

fn roles(program: &Program) -> Vec<Role> {
    let mut roles = vec![Role::Vector; program.tensors.len()];
    for node in &program.nodes {
        match node.op {
            // A table that is multiplied by as well is looked up in its packed form.
            Op::Embed { table, .. } if roles[table.index()] != Role::Product => {
                roles[table.index()] = Role::Table;
            }
            Op::Linear { weight, .. } => roles[weight.index()] = Role::Product,
            Op::MoeFfn { gate, up, down, .. } => {
                for tensor in [gate, up, down] {
                    roles[tensor.index()] = Role::Product;
                }
            }
            _ => {}
        }
    }
    roles
}

/// Bytes of the buffers that intermediate results of a batch of `n_tokens` share.
fn activations(program: &Program, n_tokens: usize, options: &LoadOptions) -> u64 {
    let claim: &[GroupKind] = match options.fuse {
        Fuse::All => &GroupKind::ALL,
        Fuse::None => &[],
    };
    let plan = BufferPlan::new(program, &schedule(program, claim));
    let bytes = |rows, cols| match rows {
        Rows::Tokens => 4 * (n_tokens * cols) as u64,
        // A sequence wants one output in a step.
        Rows::Outputs | Rows::Seqs => 4 * (options.sequences * cols) as u64,
    };
    plan.buffers.iter().map(|b| bytes(b.rows, b.cols)).sum()
}

/// Bytes of the widest input of a product with quantized weights, rounded to 8 bits as the numeric
/// contract says: a byte each, and for every 32 a scale and two sums.
fn rounded(model: &Model, n_tokens: usize) -> u64 {
    let quantized = model.program.nodes.iter().filter_map(|node| match node.op {
        Op::Linear { weight, .. } => Some(model.weights.get(weight)),
        _ => None,
    });
    let widest = quantized
        .filter(|w| w.ty.is_quantized())
        .map(|w| w.cols)
        .max();
    widest.map_or(0, |cols| (n_tokens * (cols + cols / 32 * 12)) as u64)
}

/// Bytes of the sines and cosines of a batch's positions.
fn rotations(program: &Program, n_tokens: usize) -> u64 {
    program
        .ropes
        .iter()
        .map(|rope| 4 * (n_tokens * rope.dims) as u64)
        .sum()
}
