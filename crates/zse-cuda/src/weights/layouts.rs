//! In which layout each tensor of a model goes to the device, by what the program makes of it.

use zse_model::Model;
use zse_model::program::{Op, Program, TensorId};
use zse_quant::GgmlType;

use super::Layout;

/// What the operations make of a tensor.
#[derive(Clone, Copy, Default)]
pub(crate) struct Uses {
    /// Multiplies activations.
    pub(crate) matrix: bool,
    /// Has rows that are looked up.
    pub(crate) table: bool,
    /// All numbers are needed as f32.
    pub(crate) vector: bool,
    /// Is an expert of a mixture, or what chooses them.
    mixture: bool,
}

/// What `program` makes of its tensors.
pub(crate) fn uses(program: &Program) -> Vec<Uses> {
    let mut routes = vec![false; program.values.len()];
    for node in &program.nodes {
        if let Op::MoeRoute { logits, .. } = node.op {
            routes[logits.index()] = true;
        }
    }
    let mut uses = vec![Uses::default(); program.tensors.len()];
    for node in &program.nodes {
        match node.op {
            Op::Embed { table, .. } => uses[table.index()].table = true,
            Op::Linear { weight, bias, .. } => {
                let of = &mut uses[weight.index()];
                of.matrix = true;
                of.mixture |= node.out.is_some_and(|out| routes[out.index()]);
                bias.into_iter().for_each(|b| uses[b.index()].vector = true);
            }
            Op::MoeFfn { gate, up, down, .. } => {
                for tensor in [gate, up, down] {
                    uses[tensor.index()].matrix = true;
                    uses[tensor.index()].mixture = true;
                }
            }
            _ => node
                .op
                .tensors()
                .iter()
                .for_each(|t| uses[t.index()].vector = true),
        }
    }
    uses
}

/// Numbers that rows in FP8 are a multiple of.
const GROUP: usize = 32;

/// Layouts by tensor.
pub(crate) struct Layouts(Vec<Layout>);

impl Layouts {
    /// Of `model`; with `fp8`, its matrices of floats are made into FP8.
    pub(crate) fn new(model: &Model, fp8: bool) -> Self {
        let uses = uses(&model.program);
        let layout = |(i, uses): (usize, &Uses)| {
            let view = model.weights.get(TensorId(i as u32));
            let stored = Layout::of(view.ty);
            // Tables stay, also those that are the output's matrix too, and so does what chooses experts, and they.
            let plain = uses.matrix && !(uses.table || uses.vector || uses.mixture);
            let floats = matches!(stored, Layout::F32 | Layout::F16 | Layout::Bf16);
            if fp8 && plain && floats && view.cols.is_multiple_of(GROUP) {
                Layout::Fp8
            } else {
                stored
            }
        };
        Self(uses.iter().enumerate().map(layout).collect())
    }

    /// Of a tensor.
    pub(crate) fn of(&self, id: TensorId) -> Layout {
        self.0[id.index()]
    }
}

/// The type of a matrix of `model` that is quantized already, if there is one: it cannot become FP8.
pub(crate) fn quantized_type(model: &Model) -> Option<GgmlType> {
    let uses = uses(&model.program);
    let types = uses.iter().enumerate().filter(|(_, uses)| uses.matrix);
    let mut types = types.map(|(i, _)| model.weights.get(TensorId(i as u32)).ty);
    types.find(|ty| Layout::of(*ty).is_quantized())
}
