//! The engine over a real, if small, decoder, the reference executor and the CPU's.

use std::sync::Arc;

use crate::common::ids;
use zse_cpu::CpuBackend;
use zse_engine::{Engine, EngineConfig, Generate, Request};
use zse_model::Model;
use zse_model::conformance::{DecoderSpec, decoder};
use zse_model::executor::{
    Backend, Batch, Budget, KvType, Masks, Output, OutputRow, SeqSpan, TokenSource, Want,
};
use zse_model::reference::Reference;
use zse_model::sampler::{LogProbs, SampleParams};
use zse_quant::GgmlType;

fn model() -> Arc<Model> {
    let spec = DecoderSpec {
        layers: 1,
        width: 64,
        ff: 96,
        ..DecoderSpec::small(GgmlType::F32)
    };
    decoder(&spec, 11).unwrap()
}

fn budget(blocks: usize, max_tokens: usize) -> Budget {
    Budget {
        kv_blocks: blocks,
        block_len: 8,
        kv_type: KvType::F16,
        ..Budget::for_context(8, 1, max_tokens)
    }
}

fn engine(blocks: usize, max_tokens: usize) -> Engine {
    engine_of(&Reference, blocks, max_tokens)
}

fn engine_of(backend: &dyn Backend, blocks: usize, max_tokens: usize) -> Engine {
    let budget = budget(blocks, max_tokens);
    Engine::load(backend, model(), None, &budget, EngineConfig::default()).unwrap()
}

/// Every executor that the engine must be exact with.
fn backends() -> [Box<dyn Backend>; 2] {
    [Box::new(Reference), Box::new(CpuBackend::default())]
}

fn tokens(engine: &mut Engine, requests: &[(Vec<u32>, Generate)]) -> Vec<Vec<u32>> {
    let streams: Vec<_> = requests
        .iter()
        .map(|(prompt, g)| {
            engine
                .submit(Request::generate(prompt.clone(), g.clone()))
                .unwrap()
        })
        .collect();
    while engine.step() {}
    streams
        .into_iter()
        .map(|s| ids(&s.completions()[0]))
        .collect()
}

#[test]
fn batches_chunks_and_restarts_give_the_same_tokens() {
    let requests: Vec<(Vec<u32>, Generate)> = (0..5u32)
        .map(|i| {
            let prompt = (0..3 + 5 * i).map(|j| (i * 31 + j * 17) % 97).collect();
            let params = if i % 2 == 0 {
                SampleParams::greedy()
            } else {
                SampleParams {
                    seed: i.into(),
                    temperature: 1.5,
                    ..SampleParams::default()
                }
            };
            (
                prompt,
                Generate {
                    params,
                    max_tokens: Some(16),
                    ..Generate::default()
                },
            )
        })
        .collect();
    let alone: Vec<_> = requests
        .iter()
        .map(|r| tokens(&mut engine(32, 64), std::slice::from_ref(r)).remove(0))
        .collect();
    assert_eq!(
        tokens(&mut engine(64, 64), &requests),
        alone,
        "in one batch"
    );
    assert_eq!(tokens(&mut engine(64, 5), &requests), alone, "in chunks");
    assert_eq!(
        tokens(&mut engine(6, 64), &requests),
        alone,
        "with too few blocks"
    );
}

/// Requests that begin alike after `turn` turns: a conversation, and others beside it.
fn turns(conversation: &[u32], turn: u32) -> Vec<(Vec<u32>, Generate)> {
    (0..3)
        .map(|i| {
            let mut prompt = conversation.to_vec();
            prompt.extend((0..3 + i * 4).map(|j| (turn * 41 + i * 13 + j * 5) % 97));
            let params = SampleParams {
                seed: (turn + i).into(),
                temperature: 1.2,
                ..SampleParams::default()
            };
            let generate = Generate {
                params,
                max_tokens: Some(9),
                ..Generate::default()
            };
            (prompt, generate)
        })
        .collect()
}

#[test]
fn what_is_found_in_the_cache_gives_the_same_tokens() {
    for backend in backends() {
        let mut cached = engine_of(&*backend, 64, 32);
        let mut crowded = engine_of(&*backend, 18, 32);
        let mut conversation: Vec<u32> = (0..21).map(|i| i * 11 % 97).collect();
        for turn in 0..4 {
            let requests = turns(&conversation, turn);
            let alone: Vec<_> = requests
                .iter()
                .map(|r| {
                    let mut fresh = engine_of(&*backend, 32, 64);
                    tokens(&mut fresh, std::slice::from_ref(r)).remove(0)
                })
                .collect();
            assert_eq!(tokens(&mut cached, &requests), alone);
            assert_eq!(tokens(&mut crowded, &requests), alone, "blocks lack");
            let (prompt, generate) = requests[0].clone();
            let again = Request::generate(prompt.clone(), generate);
            let stream = cached.submit(again).unwrap();
            while cached.step() {}
            let completion = stream.completions().remove(0);
            assert_eq!(ids(&completion), alone[0]);
            let found = completion.finished.usage.shared_tokens;
            assert_eq!(found, (prompt.len() - 1) / 8 * 8, "all whole blocks");
            conversation = prompt;
            conversation.extend(&alone[0]);
        }
    }
}

#[test]
fn greedy_tokens_and_scores_are_those_of_whole_sequence_logits() {
    let prompt: Vec<u32> = (0..20).map(|i| i * 7 % 97).collect();
    let greedy = Generate {
        params: SampleParams::greedy(),
        max_tokens: Some(10),
        ..Generate::default()
    };
    let drawn = tokens(&mut engine(32, 7), &[(prompt.clone(), greedy)]).remove(0);
    let all: Vec<u32> = prompt.iter().chain(&drawn).copied().collect();

    // The same tokens in a single batch, with all logits.
    let mut executor = Reference.compile(model(), &budget(32, 64)).unwrap();
    let batch = Batch {
        tokens: all.iter().map(|&id| TokenSource::Id(id)).collect(),
        positions: (0..all.len() as u32).collect(),
        seqs: vec![SeqSpan {
            tokens: 0..all.len(),
            first: 0,
            tables: vec![(0..4).collect()],
            adapters: Vec::new(),
        }],
        outputs: (0..all.len())
            .map(|token| OutputRow {
                token,
                want: Want::Logits,
            })
            .collect(),
        ..Batch::default()
    };
    let ticket = executor.submit(&batch).unwrap();
    executor.sample(ticket, &Masks::default()).unwrap();
    let rows = executor.wait(ticket).unwrap().rows;
    let logits = |i: usize| match &rows[i] {
        Output::Logits(l) => l.clone(),
        other => panic!("{other:?}"),
    };
    for (i, &token) in all.iter().enumerate().skip(prompt.len()) {
        let best = LogProbs::new(&logits(i - 1)).unwrap().top(1)[0].0;
        assert_eq!(token, best, "token {i}");
    }
    let scores = engine(32, 7)
        .start()
        .unwrap()
        .score(all.clone(), 1, "")
        .unwrap();
    assert_eq!(scores.len(), all.len() - 1);
    for (i, score) in (1..).zip(&scores) {
        let expected = LogProbs::new(&logits(i - 1)).unwrap().of(all[i]);
        assert!(
            (score - expected).abs() < 1e-5,
            "token {i}: {score}, not {expected}"
        );
    }
}
