//! The memory that a model needs, known before it is loaded.

use zse_model::executor::{Budget, LoadError, MemoryReport};
use zse_model::passes::{BufferPlan, schedule};
use zse_model::program::{Op, Rows, TensorId, ValueId};
use zse_model::{Model, WeightView};

use super::claim;
use super::load::{Form, Place, forms};
use crate::ops::activations::Activations;
use crate::ops::moe::MoeSize;
use crate::ops::rope::Rotations;
use crate::weights::packed_len;

/// What an executor of `model` within `budget` uses once it has run the largest batch, where
/// `available` bytes of memory are left before it is loaded (`None`: unknown).
pub(crate) fn plan(
    model: &Model,
    budget: &Budget,
    available: Option<u64>,
) -> Result<MemoryReport, LoadError> {
    budget.check(&model.program)?;
    let kv = budget.kv_bytes(&model.program);
    let (weights, in_place) = weights(model, &forms(model, budget, available)?)?;
    Ok(MemoryReport {
        weights,
        mapped: model.weights.mapped_bytes(in_place),
        kv: kv.expect("the budget was checked"),
        activations: activations(model, budget),
    })
}

/// Bytes of a tensor as a vector of f32.
pub(super) fn vector_bytes(view: &WeightView<'_>) -> u64 {
    4 * (view.experts * view.rows * view.cols) as u64
}

/// Bytes of weights that are held, and that are read in place.
fn weights(model: &Model, forms: &[Form]) -> Result<(u64, u64), LoadError> {
    let (mut held, mut in_place) = (0, 0);
    for (i, form) in forms.iter().enumerate() {
        let view = model.weights.get(TensorId(i as u32));
        match form.matrix {
            Some(Place::Packed) => held += packed_len(&view)? as u64,
            Some(Place::Tiles) => in_place += packed_len(&view)? as u64,
            Some(Place::File) => in_place += view.data.len() as u64,
            None => {}
        }
        if form.vector {
            held += vector_bytes(&view);
        }
    }
    Ok((held, in_place))
}

/// Bytes of what a step works in.
pub(super) fn activations(model: &Model, budget: &Budget) -> u64 {
    let program = &model.program;
    let n_tokens = budget.max_rows(Rows::Tokens);
    let steps = schedule(program, claim(budget.fuse));
    let buffers = BufferPlan::new(program, &steps).buffers;
    let buffers: usize = buffers
        .iter()
        .map(|b| budget.max_rows(b.rows) * b.cols)
        .sum();
    // Inputs are rounded one after another into the same memory.
    let (mut rounded, mut moe) = (0, MoeSize::default());
    let len = |v: ValueId| {
        let value = program.value(v);
        budget.max_rows(value.rows) * value.cols
    };
    let weight = |t: TensorId| model.weights.get(t);
    for node in &program.nodes {
        match node.op {
            Op::Linear { x, weight: w, .. } if weight(w).ty.is_quantized() => {
                rounded = rounded.max(len(x));
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
                let experts = [gate, up, down].map(weight);
                // Fewer than the tokens, where they were gathered before it.
                let rows = budget.max_rows(program.value(x).rows);
                moe = moe.max(MoeSize::new(rows, top_k, experts));
            }
            _ => {}
        }
    }
    let rotations = program.ropes.iter();
    let rotations: usize = rotations
        .map(|rope| Rotations::bytes_of(n_tokens, rope.dims / 2))
        .sum();
    // The columns of a product are numbered, each by 4 bytes.
    let floats = buffers + n_tokens;
    (4 * floats + Activations::bytes_of(rounded) + moe.bytes() + rotations) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zse_model::conformance::{
        Case, DecoderSpec, Golden, Rng, batch, decoder, decoder_cases, op_cases,
    };
    use zse_model::executor::{Backend, Executor, Fuse, KvType};
    use zse_model::program::ProgramOutput;
    use zse_model::reference::Reference;
    use zse_quant::GgmlType;

    use super::*;
    use crate::CpuBackend;
    use crate::executor::CpuExecutor;
    use crate::isa::{Arch, Isa};

    fn executor(model: &Arc<Model>, budget: &Budget, available: Option<u64>) -> CpuExecutor {
        let arch = Arch::of(Isa::available()[0]).expect("an instruction set of this CPU");
        CpuExecutor::new(Arc::clone(model), budget, arch, available).expect("a good model")
    }

    /// For one sequence of `n_tokens` tokens, all of them in a batch and, unless they are pooled,
    /// each with an output.
    fn budget(model: &Model, n_tokens: usize) -> Budget {
        let max_outputs = match model.program.output {
            ProgramOutput::Logits(_) => n_tokens,
            ProgramOutput::Pooled(_) | ProgramOutput::Hidden(_) => 1,
        };
        Budget {
            max_outputs,
            ..Budget::for_context(n_tokens, 1, n_tokens)
        }
    }

    /// Budgets for [`budget`]'s batches: with as many outputs as there are, and with just a few.
    fn budgets(model: &Model, n_tokens: usize) -> [Budget; 2] {
        let all = budget(model, n_tokens);
        let few = Budget {
            max_outputs: all.max_outputs.min(3),
            ..all.clone()
        };
        [all, few]
    }

    /// What `executor` uses after a full batch. Before it come smaller ones: what grows step by
    /// step must not have grown beyond the plan.
    fn used(executor: &mut dyn Executor, model: &Model, budget: &Budget) -> MemoryReport {
        let n = budget.max_tokens;
        let mut rng = Rng::new(n as u64);
        for n in [1, n / 2 + 1, n / 2 + 2, n] {
            let ids = rng.ids(n, model.info.vocab);
            let mut batch = batch(model, budget, &[(&ids, 0)]);
            batch.outputs.truncate(budget.max_outputs);
            executor.submit(&batch).expect("a good batch");
        }
        executor.memory()
    }

    /// Holds the plan of `model` to what an executor uses, packed and in place.
    fn check(model: &Arc<Model>, budget: &Budget, name: &str) {
        for (fuse, available) in [(Fuse::All, None), (Fuse::None, None), (Fuse::All, Some(0))] {
            let budget = Budget {
                fuse,
                ..budget.clone()
            };
            let planned = plan(model, &budget, available).expect("a good model");
            let mut executor = executor(model, &budget, available);
            let used = used(&mut executor, model, &budget);
            assert_eq!(used, planned, "{name}, {fuse:?}, {available:?}");
        }
    }

    #[test]
    fn decoders_of_every_type_use_what_is_planned() {
        for &ty in GgmlType::WEIGHTS {
            let model = decoder(&DecoderSpec::small(ty), 3).expect("the suite builds its models");
            check(&model, &budget(&model, 45), ty.name());
        }
        let model = decoder(&DecoderSpec::small(GgmlType::Q4K), 3).expect("as above");
        for kv_type in KvType::ALL {
            let budget = Budget {
                kv_type,
                ..budget(&model, 33)
            };
            check(&model, &budget, kv_type.name());
        }
    }

    #[test]
    fn architectures_use_what_is_planned() {
        // Mapped files; tied, mixtures, windows and pooling among them.
        for path in Golden::files().expect("the fixtures are there") {
            let golden = Golden::open(&path).expect("a good fixture");
            for budget in budgets(&golden.model, 24) {
                check(&golden.model, &budget, &golden.name);
            }
        }
    }

    #[test]
    fn operations_use_what_is_planned() {
        for Case { name, model, .. } in op_cases(5).expect("the suite builds its cases") {
            for budget in budgets(&model, 60) {
                check(&model, &budget, &name);
            }
        }
    }

    #[test]
    fn a_mixture_works_in_parts() {
        let cases = op_cases(6).expect("the suite builds its cases");
        let mixtures: Vec<_> = cases
            .iter()
            .filter(|c| c.name.starts_with("moe ") && c.name.ends_with("top 2"))
            .take(3)
            .collect();
        assert_eq!(mixtures.len(), 3);
        for Case { name, model, .. } in mixtures {
            check(model, &budget(model, 2100), name);
        }
    }

    #[test]
    fn the_reference_uses_what_is_planned() {
        let mut cases = op_cases(7).expect("the suite builds its cases");
        cases.extend(decoder_cases(7).expect("the suite builds its cases"));
        for Case { name, model, .. } in cases.iter().step_by(19) {
            for budget in budgets(model, 40) {
                let planned = Reference.plan(model, &budget).expect("a good model");
                let mut executor = Reference
                    .compile(Arc::clone(model), &budget)
                    .expect("a good model");
                assert_eq!(used(&mut *executor, model, &budget), planned, "{name}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_stays_in_the_file() {
        let model = decoder(&DecoderSpec::small(GgmlType::Q8_0), 3).expect("a good model");
        let budget = budget(&model, 64);
        let packed = plan(&model, &budget, None).expect("a good model");
        let in_place = plan(&model, &budget, Some(packed.kv)).expect("a good model");
        assert!(in_place.weights < packed.weights / 10);
        let enough = Some(packed.weights + packed.kv + packed.activations);
        assert_eq!(plan(&model, &budget, enough).expect("as above"), packed);
    }

    #[test]
    fn a_kv_type_that_divides_no_head_is_an_error() {
        let spec = DecoderSpec {
            heads: 16,
            ..DecoderSpec::small(GgmlType::F16)
        };
        let model = decoder(&spec, 1).expect("a good model");
        let budget = Budget {
            kv_type: KvType::Q8_0,
            ..budget(&model, 64)
        };
        for backend in [&CpuBackend::default() as &dyn Backend, &Reference] {
            let refused = backend.plan(&model, &budget);
            assert!(matches!(refused, Err(LoadError::Budget(_))), "{refused:?}");
        }
    }
}
