//! Plans for the built-in model in F16, 26 MB.

use zse_model::executor::KvType;

use super::*;
use crate::{Engine, ModelSource};

const MIB: u64 = 1 << 20;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../models/builtin/zse-builtin-f16.gguf"
);

fn source() -> ModelSource {
    ModelSource::Path(FILE.into())
}

/// The plan for so many bytes besides the program.
fn planned(mode: Mode, bytes: u64, options: &LoadOptions) -> Result<Plan, Error> {
    let goal = Goal {
        mode,
        program: 0,
        ..Goal::for_memory(bytes)
    };
    plan(source().open().unwrap(), options, &goal)
}

fn chosen(plan: &Plan) -> (Option<&str>, usize, KvType) {
    let options = &plan.options;
    let context = options.context.expect("plans set the context");
    (plan.mixture.map(|m| m.name), context, options.kv_type)
}

#[test]
fn what_is_planned_fits_whatever_the_mode() {
    for mode in Mode::ALL {
        let mut last = 0;
        for bytes in (1..=12).map(|i| i * 8 * MIB) {
            let Ok(plan) = planned(mode, bytes, &LoadOptions::default()) else {
                assert_eq!(
                    last, 0,
                    "{mode}: less memory was enough, {bytes} bytes are not"
                );
                continue;
            };
            assert!(
                plan.needed() <= bytes,
                "{mode}: {} of {bytes}",
                plan.needed()
            );
            assert!(!plan.why.is_empty());
            last = bytes;
        }
        assert!(last > 0, "{mode}: nothing fits");
    }
}

#[test]
fn with_room_for_all_the_best_is_taken_or_the_smallest_or_the_fastest() {
    let of = |mode| planned(mode, 1 << 30, &LoadOptions::default()).unwrap();
    let [small, best, fast] = Mode::ALL.map(of);
    assert_eq!(chosen(&best).0, None);
    assert_eq!(chosen(&best).2, KvType::F16);
    assert_eq!(chosen(&small).0, Some("Q4_K_M"));
    assert_eq!(chosen(&small).2, KvType::Q8_0);
    assert_eq!(chosen(&fast).0, Some("Q4_K_M"));
    assert!(small.needed() < fast.needed() && fast.needed() < best.needed());
    assert!(fast.token_bytes < best.token_bytes / 2);
    assert!(fast.speed(1e10) > best.speed(1e10));
}

#[test]
fn what_is_asked_for_is_kept() {
    let options = LoadOptions {
        context: Some(300),
        kv_type: KvType::F32,
        ..LoadOptions::default()
    };
    for mode in Mode::ALL {
        let plan = planned(mode, 1 << 30, &options).unwrap();
        assert_eq!(chosen(&plan).1, 300);
        assert_eq!(chosen(&plan).2, KvType::F32);
    }
}

#[test]
fn weights_that_may_not_be_converted_stay_in_the_file_if_need_be() {
    let goal = |memory| Goal {
        program: 0,
        may_convert: false,
        ..Goal::for_memory(memory)
    };
    let source = source();
    let options = LoadOptions::default();
    let whole = plan(source.open().unwrap(), &options, &goal(1 << 30)).unwrap();
    assert_eq!((whole.mixture, whole.resident), (None, whole.layers));

    let tight = whole.memory.total() - whole.memory.weights / 2;
    let part = plan(source.open().unwrap(), &options, &goal(tight)).unwrap();
    assert_eq!(part.mixture, None);
    assert!(part.resident < part.layers);
    assert!(part.needed() <= tight);
    assert_eq!(part.speed(1e10), None);
    // The engine does as planned.
    let engine = Engine::load(&source, &part.options).unwrap();
    assert!(engine.memory().weights < whole.memory.weights / 2);

    let error = plan(source.open().unwrap(), &options, &goal(MIB)).unwrap_err();
    assert!(matches!(error, Error::NoFit { memory: MIB, needed, .. } if needed > MIB));
}

#[test]
fn more_memory_never_does_worse() {
    let mut options = LoadOptions::default();
    options.swap.memory = 4 * MIB;
    let mut last = None;
    for bytes in (1..=160).map(|i| i * MIB / 2) {
        let goal = Goal {
            program: 0,
            may_convert: false,
            ..Goal::for_memory(bytes)
        };
        let found = plan(source().open().unwrap(), &options, &goal).ok();
        let found = found.map(|plan| {
            let memory = plan.options.resident(&plan.memory);
            assert!(memory <= bytes, "{memory} of {bytes}");
            plan.resident
        });
        assert!(
            last <= found,
            "{bytes} bytes: {last:?} layers before, {found:?} now"
        );
        last = found;
    }
    assert!(last.is_some());
}

#[test]
fn a_converted_file_takes_what_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let plan = planned(Mode::MaxSpeed, 1 << 30, &LoadOptions::default()).unwrap();
    let path = dir.path().join("model.gguf");
    let options = crate::quantize::QuantizeOptions {
        allow_requantize: true,
        ..crate::quantize::QuantizeOptions::new(plan.mixture.unwrap())
    };
    let go_on = |_: crate::quantize::QuantizeProgress<'_>| std::ops::ControlFlow::Continue(());
    crate::quantize::quantize(&source().open().unwrap(), &path, &options, go_on).unwrap();
    let engine = Engine::load(&ModelSource::Path(path), &plan.options).unwrap();
    let (planned, real) = (plan.memory.total() as f64, engine.memory().total() as f64);
    assert!((planned / real - 1.0).abs() < 0.1, "{planned} {real}");
}

#[test]
fn modes_are_named_as_they_are_asked_for() {
    for mode in Mode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
    }
    assert_eq!("max-speed".parse(), Ok(Mode::MaxSpeed));
    assert!("fast".parse::<Mode>().unwrap_err().contains("balanced"));
}

#[test]
fn nine_tenths_of_a_devices_memory_are_planned_with() {
    let cpu = Goal::for_available(1000 * MIB, Device::Cpu);
    assert_eq!(cpu, Goal::for_memory(900 * MIB));
    // What a GPU's driver has taken is the program's, and no part of what is left.
    let gpu = Goal::for_available(1000 * MIB, Device::Cuda(0));
    assert_eq!(Device::Cuda(0).own_memory(), Some(gpu.program));
    assert_eq!(gpu.memory - gpu.program, 900 * MIB);
    assert!(Goal::auto(Device::Cpu).is_some_and(|goal| goal.memory > 0));
}
