//! A context that a fault has broken, and the models in it: steps fail, and a backend that is opened then serves
//! again, or says that the driver gives this process no other context. One test alone: it breaks the context of all others in its process. Needs a GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

use std::ffi::{CStr, CString};
use std::sync::Arc;

use cudarc::driver::{result, sys};
use zse_cuda::{CudaBackend, Kernels, Watch};
use zse_engine::{Engine, EngineConfig, FinishReason, Generate, ModelShape, Rebuild, Request};
use zse_model::Model;
use zse_model::conformance::{DecoderSpec, decoder};
use zse_model::executor::{Backend, Budget, Executor, LoadError};
use zse_model::sampler::SampleParams;
use zse_quant::GgmlType;

/// What the kernels of a product do not do.
const FAULTS: &CStr = c"
.version 7.0
.target sm_80
.address_size 64
.visible .entry far_away() { .reg .b64 %a; .reg .b32 %b; mov.b64 %a, 64; mov.b32 %b, 1; st.global.b32 [%a], %b; ret; }
.visible .entry stops() { trap; }
";

/// Runs a kernel that breaks the context that all of this process share.
fn break_context(kernel: &str) {
    let name = CString::new(kernel).unwrap();
    let device = result::device::get(0).unwrap();
    // SAFETY: the kernels take no arguments; what they break is the point. The context was retained before by whoever
    // opened a backend, and is let go of below.
    unsafe {
        let context = result::primary_ctx::retain(device).unwrap();
        result::ctx::set_current(context).unwrap();
        let module = result::module::load_data(FAULTS.as_ptr().cast()).unwrap();
        let function = result::module::get_function(module, name).unwrap();
        let (one, stream) = ((1, 1, 1), std::ptr::null_mut::<sys::CUstream_st>());
        result::launch_kernel(function, one, one, 0, stream, &mut []).unwrap();
        let broken = result::ctx::synchronize().expect_err("it breaks");
        println!("{kernel}: {broken:?}");
        let _ = result::primary_ctx::release(device);
    }
}

struct Again {
    kernels: Kernels,
    watch: Watch,
    model: Arc<Model>,
    budget: Budget,
}

impl Again {
    fn compile(&mut self) -> Result<Box<dyn Executor>, LoadError> {
        let backend = CudaBackend::with(0, self.kernels)?;
        self.watch = backend.watch();
        backend.compile(Arc::clone(&self.model), &self.budget)
    }
}

impl Rebuild for Again {
    fn is_lost(&self) -> bool {
        self.watch.is_lost()
    }

    fn rebuild(&mut self) -> Result<Box<dyn Executor>, LoadError> {
        self.compile()
    }
}

fn engine(kernels: Kernels, ty: GgmlType) -> Engine {
    let spec = DecoderSpec {
        width: 512,
        ff: 2304,
        ..DecoderSpec::small(ty)
    };
    let model = decoder(&spec, 5).expect("a model");
    let (budget, shape) = (Budget::for_context(128, 4, 128), ModelShape::of(&model));
    let watch = CudaBackend::with(0, kernels).expect("a GPU").watch();
    let mut again = Again {
        kernels,
        watch,
        model,
        budget: budget.clone(),
    };
    let executor = again.compile().expect("it has room");
    let engine = Engine::new(executor, shape, None, &budget, EngineConfig::default());
    engine.with_rebuild(Box::new(again))
}

/// Eight tokens behind a prompt of forty, which goes through products of many columns.
fn request() -> Request {
    let generate = Generate {
        params: SampleParams {
            temperature: 0.0,
            ..SampleParams::default()
        },
        max_tokens: Some(8),
        ..Generate::default()
    };
    Request::generate((1..41).collect(), generate)
}

fn answer(engine: &mut Engine) -> Result<Vec<u32>, String> {
    let stream = engine.submit(request()).expect("it fits");
    while engine.step() {}
    let completion = stream.completions().remove(0);
    match &completion.finished.reason {
        FinishReason::Failed(what) => Err(what.clone()),
        _ => Ok(completion.tokens.iter().map(|token| token.id).collect()),
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_lost_context_is_opened_again() {
    let cublas = zse_cuda::cublas().is_some();
    for kernels in Kernels::ALL.into_iter().filter(|k| cublas || !k.cublas) {
        for ty in [GgmlType::Bf16, GgmlType::Q4K] {
            let (mut one, mut other) = (engine(kernels, ty), engine(kernels, ty));
            let idle = engine(kernels, ty);
            let expected = answer(&mut one).expect("a GPU that works");
            for fault in ["far_away", "stops"] {
                let beside = other.submit(request()).expect("it fits");
                (0..3).for_each(|_| assert!(other.step()));
                break_context(fault);
                let failed = answer(&mut one).expect_err("the context is broken");
                println!("{kernels:?} {} {fault}: {failed}", ty.name());
                let again = answer(&mut one);
                if let Err(what) = &again {
                    // What is left is dropped, and each call says what helps.
                    println!("not opened again: {what}");
                    assert!(what.contains("start the program again"), "{what}");
                    assert_eq!(answer(&mut one), again);
                    let what = answer(&mut other).expect_err("it shares the context");
                    assert!(what.contains("start the program again"), "{what}");
                    assert_eq!(one.metrics().rebuilds, 0);
                    return;
                }
                assert_eq!(again.as_ref(), Ok(&expected), "{fault}");
                // One that did not run the step that broke it loses no request.
                while other.step() {}
                let completion = beside.completions().remove(0);
                let tokens: Vec<u32> = completion.tokens.iter().map(|t| t.id).collect();
                assert_eq!(tokens, expected, "{:?}", completion.finished.reason);
            }
            assert_eq!((one.metrics().rebuilds, other.metrics().rebuilds), (2, 2));
            // What is left of the first context harms nobody.
            drop(idle);
            assert_eq!(answer(&mut one).as_ref(), Ok(&expected));
        }
    }
}
