//! A model on two executors gives the bits that it gives on one.

use std::sync::Arc;

use zse_cpu::CpuBackend;
use zse_model::conformance::{Case, Golden, adapter_cases, decoder_cases};
use zse_model::executor::{Backend, Budget, Caps, Executor, LoadError, MemoryReport, Staged};
use zse_model::program::ProgramOutput;
use zse_model::{Model, reference::Reference};

fn cpu() -> Box<CpuBackend> {
    Box::new(CpuBackend::default())
}

/// A CPU with so much memory of its own.
struct Small(u64);

impl Backend for Small {
    fn caps(&self) -> Caps {
        Caps {
            name: "small".to_owned(),
            ..cpu().caps()
        }
    }

    fn plan(&self, model: &Model, budget: &Budget) -> Result<MemoryReport, LoadError> {
        cpu().plan(model, budget)
    }

    fn available(&self) -> Result<Option<u64>, LoadError> {
        Ok(Some(self.0))
    }

    fn compile(&self, model: Arc<Model>, budget: &Budget) -> Result<Box<dyn Executor>, LoadError> {
        cpu().compile(model, budget)
    }
}

fn bits(case: &Case, backend: &dyn Backend) -> Vec<u32> {
    let (numbers, _) = case.run(backend).expect(&case.name);
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn two_executors_give_the_bits_of_one() {
    // Among them blocks that are swapped out and in, and adapters.
    let cases = decoder_cases(3).unwrap().into_iter();
    for case in cases.chain(adapter_cases(4).unwrap()) {
        let layers = case.model.info.layers;
        let whole = bits(&case, &*cpu());
        for n in 1..layers {
            let staged = Staged::new(cpu(), cpu(), Some(n));
            assert!(
                whole == bits(&case, &staged),
                "{}, {n} of {layers}",
                case.name
            );
        }
    }
}

#[test]
fn executors_of_two_kinds_work_together() {
    for case in decoder_cases(5).unwrap().into_iter().take(4) {
        let (expected, _) = case.run(&Reference).unwrap();
        let staged = Staged::new(Box::new(Reference), cpu(), Some(1));
        let (got, _) = case.run(&staged).unwrap();
        let error = zse_model::conformance::nmse(&got, &expected);
        assert!(error <= case.tolerance, "{}: {error}", case.name);
    }
}

/// Models with windows too, whose layers are of several groups: a part may have one of them only.
#[test]
fn recorded_models_are_cut_at_every_layer() {
    for file in Golden::files().unwrap() {
        let golden = Golden::open(&file).unwrap();
        if !matches!(golden.model.program.output, ProgramOutput::Logits(_)) {
            // What pools, one executor computes.
            if golden.model.info.layers > 1 {
                assert!(golden.compare(&Staged::new(cpu(), cpu(), Some(1))).is_err());
            }
            continue;
        }
        let whole = golden.compare(&*cpu()).unwrap();
        for n in 1..golden.model.info.layers {
            let staged = Staged::new(cpu(), cpu(), Some(n));
            let report = golden.compare(&staged).unwrap();
            assert_eq!(
                report.error.to_bits(),
                whole.error.to_bits(),
                "{} {n}",
                golden.name
            );
            assert_eq!(report.diverged, whole.diverged, "{} {n}", golden.name);
        }
    }
}

#[test]
fn as_many_layers_go_to_a_device_as_it_has_room_for() {
    let case = decoder_cases(6).unwrap().swap_remove(0);
    let (model, budget) = (&case.model, &case.budget);
    let whole = cpu().plan(model, budget).unwrap();
    let held = whole.total() - whole.mapped;
    for (room, expected) in [
        (held, "small"),
        (held - 1, "small, 1 of 2 layers; before these cpu"),
        (held / 100, "cpu"),
    ] {
        let staged = Staged::new(cpu(), Box::new(Small(room)), None);
        let place = staged.place(model, budget).unwrap();
        assert!(place.starts_with(expected), "{place}, not {expected}");
        let plan = staged.plan(model, budget).unwrap();
        assert_eq!(plan.kv, whole.kv, "{place}");
        let executor = staged.compile(Arc::clone(model), budget).unwrap();
        assert_eq!(executor.memory().weights, plan.weights, "{place}");
    }
}
