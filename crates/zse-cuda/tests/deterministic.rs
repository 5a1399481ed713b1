//! With deterministic kernels a request's logits are the same bits alone and among others, whole and in chunks. Needs a
//! GPU: `just gpu-check`.
#![cfg(feature = "cuda")]

mod mixture;
mod model;

use std::sync::Arc;

use mixture::Mixture;
use zse_cuda::{CudaBackend, Kernels};
use zse_engine::{Engine, EngineConfig, EventStream, Generate, Request};
use zse_model::Model;
use zse_model::conformance::{DecoderSpec, Rng, decoder};
use zse_model::executor::{Budget, KvType};
use zse_model::sampler::SampleParams;
use zse_quant::GgmlType;

const VOCAB: usize = 97;

fn engine(backend: &CudaBackend, model: &Arc<Model>, kv_type: KvType, max_tokens: usize) -> Engine {
    let budget = Budget {
        kv_type,
        ..Budget::for_context(512, 24, max_tokens)
    };
    let config = EngineConfig {
        max_sequences: 24,
        channel_capacity: 1000,
        ..EngineConfig::default()
    };
    Engine::load(backend, Arc::clone(model), None, &budget, config).expect("it has room")
}

fn generate(prompt: &[u32], max_tokens: usize) -> Request {
    let generate = Generate {
        params: SampleParams {
            temperature: 0.0,
            ..SampleParams::default()
        },
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..Generate::default()
    };
    Request::generate(prompt.to_vec(), generate)
}

/// The tokens with their log-probabilities, as bits.
fn tokens(stream: EventStream) -> Vec<(u32, u32)> {
    let completion = stream.completions().remove(0);
    let tokens = completion.tokens.iter();
    tokens.map(|t| (t.id, t.logprob.to_bits())).collect()
}

/// The scores of a prompt and the tokens behind it: alone, or where 20 others come and go.
fn bits(engine: &mut Engine, prompt: &[u32], others: bool) -> (Vec<u32>, Vec<(u32, u32)>) {
    let mut rng = Rng::new(3);
    let mut beside = Vec::new();
    if others {
        for i in 0..20 {
            let ids = rng.ids(3 + 11 * i, VOCAB);
            beside.push(engine.submit(generate(&ids, 5 + 3 * i)).expect("it fits"));
            engine.step();
        }
    }
    let scores = engine
        .submit(Request::score(prompt.to_vec(), 1))
        .expect("it fits");
    let stream = engine.submit(generate(prompt, 24)).expect("it fits");
    while engine.step() {}
    let scores = scores.values(None).expect("it is scored");
    (scores.iter().map(|s| s.to_bits()).collect(), tokens(stream))
}

#[test]
#[ignore = "needs a GPU"]
fn logits_do_not_depend_on_the_batch() {
    let spec = |ty, kv_heads| DecoderSpec {
        width: 512,
        ff: 8448,
        kv_heads,
        vocab: VOCAB,
        ..DecoderSpec::small(ty)
    };
    let prompt = Rng::new(8).ids(150, VOCAB);
    let mut differ = 0;
    for (ty, kv_type, fp8) in [
        (GgmlType::Q4K, KvType::F16, false),
        (GgmlType::Q6K, KvType::Bf16, false),
        (GgmlType::Q8_0, KvType::Q8_0, false),
        (GgmlType::Q5_0, KvType::F32, false),
        (GgmlType::Bf16, KvType::F16, false),
        (GgmlType::F16, KvType::F16, false),
        (GgmlType::F32, KvType::F16, false),
        (GgmlType::Bf16, KvType::F16, true),
    ] {
        let model = decoder(&spec(ty, 2), 4).expect("a model");
        for portable in [false, true] {
            let kernels = Kernels {
                portable,
                ..Kernels::default()
            };
            let mut plain = CudaBackend::with(0, kernels).expect("a GPU");
            if fp8 {
                plain = plain.with_fp8_weights();
            }
            let backend = plain.clone().deterministic();
            let expected = bits(&mut engine(&backend, &model, kv_type, 512), &prompt, false);
            assert_eq!((expected.0.len(), expected.1.len()), (149, 24));
            for (max_tokens, others) in [(24, false), (40, true), (512, true)] {
                let got = bits(
                    &mut engine(&backend, &model, kv_type, max_tokens),
                    &prompt,
                    others,
                );
                assert!(
                    got == expected,
                    "{} {kv_type} portable {portable} fp8 {fp8}: {max_tokens} tokens at a time, others {others}",
                    ty.name()
                );
            }
            let alone = bits(&mut engine(&plain, &model, kv_type, 512), &prompt, false);
            let among = bits(&mut engine(&plain, &model, kv_type, 40), &prompt, true);
            differ += usize::from(alone != among);
        }
    }
    println!("without, {differ} of 16 depend on the batch");
    assert!(differ > 0, "the test would see it");
}

/// Mixtures alike, of which each token chooses its experts: many tokens are not grouped by them.
#[test]
#[ignore = "needs a GPU"]
fn logits_of_mixtures_do_not_depend_on_the_batch() {
    use GgmlType as T;
    let prompt = Rng::new(8).ids(150, VOCAB);
    let mut differ = 0;
    let types = [[T::Q4K, T::Q4K, T::Q6K], [T::Q8_0; 3], [T::Bf16; 3]];
    for types in types {
        let mixture = Mixture {
            types,
            experts: 12,
            top_k: 3,
            cols: 512,
            ff: 768,
            vocab: 512,
        };
        let model = mixture.model(4, 512);
        for portable in [false, true] {
            let kernels = Kernels {
                portable,
                ..Kernels::default()
            };
            let plain = CudaBackend::with(0, kernels).expect("a GPU");
            let backend = plain.clone().deterministic();
            let run = |backend: &CudaBackend, max_tokens, others| {
                bits(
                    &mut engine(backend, &model, KvType::F16, max_tokens),
                    &prompt,
                    others,
                )
            };
            let expected = run(&backend, 512, false);
            for (max_tokens, others) in [(24, false), (40, true), (512, true)] {
                assert!(
                    run(&backend, max_tokens, others) == expected,
                    "{types:?} portable {portable}: {max_tokens} tokens at a time, others {others}"
                );
            }
            differ += usize::from(run(&plain, 512, false) != run(&plain, 40, true));
        }
    }
    println!("without, {differ} of 6 mixtures depend on the batch");
    assert!(differ > 0, "the test would see it");
}
