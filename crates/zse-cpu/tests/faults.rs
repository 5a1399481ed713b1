//! What the executor refuses, and what it reports.

use std::sync::Arc;

use zse_cpu::{CpuBackend, Isa};
use zse_model::conformance::{DecoderSpec, batch, decoder, op_cases};
use zse_model::executor::{
    Backend, Budget, ExecError, Executor, KvType, LoadError, Masks, Output, Ticket,
};
use zse_model::program::ProgramOutput;
use zse_quant::GgmlType;

fn budget() -> Budget {
    Budget {
        kv_blocks: 8,
        ..Budget::for_context(64, 1, 64)
    }
}

#[test]
fn bad_batches_are_refused() {
    let model = decoder(&DecoderSpec::small(GgmlType::Q4_0), 1).unwrap();
    let mut executor = CpuBackend::default()
        .compile(Arc::clone(&model), &budget())
        .unwrap();
    let good = batch(&model, &budget(), &[(&[1, 2, 3], 0)]);

    let mut unknown_token = good.clone();
    unknown_token.tokens[1] = zse_model::executor::TokenSource::Id(97);
    let mut unknown_block = good.clone();
    unknown_block.seqs[0].tables[0][0] = 8;
    let mut no_block = good.clone();
    no_block.seqs[0].first = 64;
    let mut too_long = good.clone();
    too_long.seqs[0].tokens = 0..4;
    for bad in [unknown_token, unknown_block, no_block, too_long] {
        assert!(
            matches!(executor.submit(&bad), Err(ExecError::BadBatch(_))),
            "{bad:?}"
        );
    }
    // And goes on.
    let ticket = executor.submit(&good).unwrap();
    assert!(matches!(
        executor.wait(ticket),
        Err(ExecError::NotSampled(_))
    ));
    executor.sample(ticket, &Masks::default()).unwrap();
    assert_eq!(executor.wait(ticket).unwrap().rows.len(), 3);
    assert!(matches!(
        executor.sample(ticket, &Masks::default()),
        Err(ExecError::BadTicket(_))
    ));
    assert!(matches!(
        executor.wait(ticket),
        Err(ExecError::BadTicket(_))
    ));
    assert!(matches!(
        executor.wait(Ticket(99)),
        Err(ExecError::BadTicket(_))
    ));
}

#[test]
fn two_tokens_in_one_slot_are_no_race() {
    let model = decoder(&DecoderSpec::small(GgmlType::Q4_0), 1).unwrap();
    // Sequences of as many tokens as are written in a chunk, so that each chunk meets all others;
    // the last has one token, which a second thread would be done with before the token before it.
    let ids: Vec<Vec<u32>> = (0..15).map(|i| (5 * i..5 * i + 8).collect()).collect();
    let mut parts: Vec<_> = ids.iter().map(|ids| (ids.as_slice(), 0)).collect();
    parts.push((&[90], 7));
    let mut all = batch(&model, &budget(), &parts);
    let table = all.seqs[0].tables.clone();
    all.seqs
        .iter_mut()
        .for_each(|seq| seq.tables = table.clone());
    let compile = |threads| {
        let budget = Budget {
            threads: Some(threads),
            max_tokens: 128,
            max_outputs: 128,
            ..budget()
        };
        CpuBackend::default()
            .compile(Arc::clone(&model), &budget)
            .unwrap()
    };
    let logits = |executor: &mut dyn Executor| -> Vec<Vec<u32>> {
        let ticket = executor.submit(&all).unwrap();
        executor.sample(ticket, &Masks::default()).unwrap();
        let rows = executor.wait(ticket).unwrap().rows.into_iter();
        rows.map(|row| match row {
            Output::Logits(row) => row.iter().map(|x| x.to_bits()).collect(),
            other => panic!("unexpected {other:?}"),
        })
        .collect()
    };
    let expected = logits(compile(1).as_mut());
    assert_eq!(expected.len(), 121);
    let mut executor = compile(4);
    for _ in 0..50 {
        assert!(logits(executor.as_mut()) == expected);
    }
}

#[test]
fn a_batch_may_want_no_output() {
    for model in op_cases(3).unwrap().into_iter().map(|c| c.model) {
        if !matches!(model.program.output, ProgramOutput::Logits(_)) {
            continue;
        }
        let mut executor = CpuBackend::default()
            .compile(Arc::clone(&model), &budget())
            .unwrap();
        let mut none = batch(&model, &budget(), &[(&[1, 2, 3], 0)]);
        none.outputs.clear();
        let ticket = executor.submit(&none).unwrap();
        executor.sample(ticket, &Masks::default()).unwrap();
        assert_eq!(executor.wait(ticket).unwrap().rows, []);
    }
}

#[test]
fn memory_is_reported() {
    let model = decoder(&DecoderSpec::small(GgmlType::F16), 1).unwrap();
    let budget = budget();
    let mut executor = CpuBackend::default()
        .compile(Arc::clone(&model), &budget)
        .unwrap();
    let before = executor.memory();
    let file = model.weights.checkpoint().file_bytes();
    assert!(before.weights + before.mapped >= file / 2 && before.weights <= 2 * file);
    assert_eq!(before.kv, budget.kv_bytes(&model.program).unwrap());
    let ticket = executor
        .submit(&batch(&model, &budget, &[(&[1, 2, 3], 0)]))
        .unwrap();
    executor.sample(ticket, &Masks::default()).unwrap();
    assert!(executor.memory().activations > before.activations);
}

#[test]
fn what_cannot_be_is_refused_at_compile() {
    let model = decoder(
        &DecoderSpec {
            heads: 16,
            ..DecoderSpec::small(GgmlType::F16)
        },
        1,
    )
    .unwrap();
    // Heads of 16 numbers, KV blocks of 32.
    let budget = Budget {
        kv_type: KvType::Q8_0,
        ..budget()
    };
    let refused = CpuBackend::default().compile(model.clone(), &budget);
    assert!(matches!(refused, Err(LoadError::Budget(_))));
    for (threads, kv_blocks) in [(Some(1_000_000), 8), (None, 1 << 50)] {
        let budget = Budget {
            kv_blocks,
            threads,
            ..self::budget()
        };
        match CpuBackend::default().compile(model.clone(), &budget) {
            Err(LoadError::Budget(_)) => assert!(threads.is_some()),
            Err(LoadError::OutOfMemory { needed, .. }) => {
                assert_eq!(Some(needed), budget.kv_bytes(&model.program));
            }
            other => panic!("{:?}", other.err()),
        }
    }
    let missing = Isa::ALL
        .into_iter()
        .find(|isa| !Isa::available().contains(isa));
    if let Some(isa) = missing {
        let refused = CpuBackend { isa: Some(isa) }.compile(model, &self::budget());
        assert!(matches!(refused, Err(LoadError::Unsupported { .. })));
    }
}
