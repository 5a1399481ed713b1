//! The executor against the reference: every operation, type and whole decoders, with the kernels for
//! this card and with the portable ones. Needs a GPU: `just gpu-check` runs it.
#![cfg(feature = "cuda")]

mod agree;

use zse_cuda::CudaBackend;
use zse_model::conformance::{
    Case, DecoderSpec, Rng, batch, decoder, decoder_cases, nmse, op_cases, tolerance,
};
use zse_model::executor::{Backend, Budget, KvType};
use zse_model::reference::Reference;
use zse_quant::GgmlType;

use agree::compare;

#[test]
#[ignore = "needs a GPU"]
fn operations_agree_with_the_reference() {
    for seed in 0..2 {
        compare(&op_cases(seed).expect("the suite builds its cases"));
    }
}

#[test]
#[ignore = "needs a GPU"]
fn decoders_agree_with_the_reference() {
    compare(&decoder_cases(7).expect("the suite builds its cases"));
}

/// From two columns to more than integer tensor cores take, of all types that they know and one that they do not;
/// `ff` so long that blocks share tiles.
#[test]
#[ignore = "needs a GPU"]
fn few_columns_agree_with_the_reference() {
    let types = [
        GgmlType::Q4_0,
        GgmlType::Q5_0,
        GgmlType::Q8_0,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
        GgmlType::Iq4Xs,
    ];
    let mut rng = Rng::new(12);
    let mut cases = Vec::new();
    for ty in types {
        // Rows that are no whole tiles, and more steps along k than blocks take.
        let spec = DecoderSpec {
            layers: 1,
            width: 768,
            heads: 6,
            ff: 5376,
            ..DecoderSpec::small(ty)
        };
        let model = decoder(&spec, rng.bits()).expect("a model");
        let budget = Budget {
            kv_type: KvType::F32,
            ..Budget::for_context(64, 2, 80)
        };
        let batches = [[1, 1], [2, 1], [4, 4], [8, 1], [7, 9], [9, 8], [16, 16]].map(|lens| {
            let ids = lens.map(|n| rng.ids(n, spec.vocab));
            batch(&model, &budget, &ids.each_ref().map(|ids| (&**ids, 0)))
        });
        cases.push(Case {
            name: format!("few columns {}", ty.name()),
            model,
            budget,
            adapters: Vec::new(),
            batches: batches.into(),
            tolerance: tolerance(ty),
        });
    }
    compare(&cases);
}

/// Prompts that fill tiles of every size, the largest twice, of weights in every form that products read;
/// `ff` so long that blocks share tiles.
#[test]
#[ignore = "needs a GPU"]
fn prompts_agree_with_the_reference() {
    let types = [
        GgmlType::F16,
        GgmlType::Bf16,
        GgmlType::Q8_0,
        GgmlType::Q4K,
        GgmlType::Q6K,
    ];
    let mut rng = Rng::new(11);
    let mut cases = Vec::new();
    for ty in types {
        let spec = DecoderSpec {
            layers: 1,
            width: 512,
            ff: 2304,
            ..DecoderSpec::small(ty)
        };
        let model = decoder(&spec, rng.bits()).expect("a model");
        let budget = Budget {
            kv_type: KvType::F32,
            ..Budget::for_context(200, 2, 300)
        };
        let batches = [[6, 5], [13, 14], [40, 20], [90, 37], [180, 120]].map(|lens| {
            let ids = lens.map(|n| rng.ids(n, spec.vocab));
            batch(&model, &budget, &ids.each_ref().map(|ids| (&**ids, 0)))
        });
        cases.push(Case {
            name: format!("prompts {}", ty.name()),
            model,
            budget,
            adapters: Vec::new(),
            batches: batches.into(),
            tolerance: tolerance(ty),
        });
    }
    compare(&cases);
}

/// Decoders whose matrices become FP8, whole and with rows that cuBLASLt does not take: as near as FP8 is, whichever way
/// products go. What is exact is held to more beside the kernels (`ops/fp8_tests.rs`).
#[test]
#[ignore = "needs a GPU"]
fn fp8_weights_come_near_the_reference() {
    let mut rng = Rng::new(13);
    for (ty, vocab) in [
        (GgmlType::Bf16, 128),
        (GgmlType::F16, 97),
        (GgmlType::F32, 128),
    ] {
        let spec = DecoderSpec {
            width: 512,
            ff: 2304,
            vocab,
            ..DecoderSpec::small(ty)
        };
        let model = decoder(&spec, rng.bits()).expect("a model");
        let budget = Budget {
            kv_type: KvType::F32,
            ..Budget::for_context(200, 2, 300)
        };
        let batches = [
            [1, 0],
            [1, 1],
            [2, 1],
            [6, 5],
            [13, 14],
            [90, 37],
            [180, 120],
        ]
        .map(|lens| {
            let ids = lens.map(|n| rng.ids(n, spec.vocab));
            let parts = ids.each_ref().map(|ids| (&**ids, 0));
            let some = parts.iter().filter(|(ids, _)| !ids.is_empty());
            batch(&model, &budget, &some.copied().collect::<Vec<_>>())
        });
        let case = Case {
            name: format!("FP8 of {}", ty.name()),
            model,
            budget,
            adapters: Vec::new(),
            batches: batches.into(),
            tolerance: 3e-2,
        };
        let (expected, _) = case.run(&Reference).expect("the reference runs everything");
        for kernels in agree::kernels() {
            let backend = CudaBackend::with(0, kernels).expect("a GPU");
            let (got, _) = case.run(&backend.with_fp8_weights()).expect("it runs");
            let error = nmse(&got, &expected);
            println!("{} {kernels:?}: {error:.1e}", case.name);
            assert!(
                error <= case.tolerance,
                "{} {kernels:?}: {error}",
                case.name
            );
        }
    }
}

/// What is quantized already is refused, with its type.
#[test]
#[ignore = "needs a GPU"]
fn fp8_weights_are_made_of_floats_alone() {
    let model = decoder(&DecoderSpec::small(GgmlType::Q4K), 3).expect("a model");
    let backend = CudaBackend::open(0).expect("a GPU").with_fp8_weights();
    let budget = Budget::for_context(64, 1, 64);
    let error = backend.plan(&model, &budget).expect_err("it is refused");
    assert!(error.to_string().contains("q4_K"), "{error}");
}
