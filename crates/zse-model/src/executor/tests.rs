//! Batches and budgets that executors refuse.

use super::{
    Backend, Budget, Caps, ExecError, KvType, LoadError, Masks, OutputRow, TokenSource, Want,
};
use crate::conformance::{DecoderSpec, batch, decoder, op_cases};
use crate::program::{ProgramOutput, StateKind};
use crate::reference::Reference;
use zse_quant::GgmlType;

#[test]
fn each_index_out_of_range_is_refused_by_name() {
    let spec = DecoderSpec::small(GgmlType::F32);
    let model = decoder(&spec, 1).unwrap();
    let budget = Budget::for_context(64, 1, 16);
    let good = batch(&model, &budget, &[(&[1, 2, 3], 0)]);
    good.check(&model.program, &budget).unwrap();
    type Break = fn(&mut super::Batch);
    let breaks: [(&str, Break); 10] = [
        ("row 97 of 'token_embd.weight'", |b| {
            b.tokens[1] = TokenSource::Id(97)
        }),
        ("2 positions", |b| b.positions.truncate(2)),
        ("belong to no sequence", |b| b.seqs[0].tokens.end = 2),
        ("expected to begin at 0", |b| b.seqs[0].tokens.start = 1),
        ("block 2 of 2", |b| b.seqs[0].tables[0][0] = 2),
        ("tables of 3 blocks", |b| b.seqs[0].first = 64),
        ("tokens before it", |b| b.seqs[0].first = usize::MAX - 1),
        ("output 2 of token 3", |b| b.outputs[2].token = 3),
        ("rising order", |b| b.outputs[0].token = 1),
        ("wants token 97", |b| {
            b.outputs[0] = OutputRow {
                token: 0,
                want: Want::LogProb(97),
            }
        }),
    ];
    for (message, change) in breaks {
        let mut bad = good.clone();
        change(&mut bad);
        match bad.check(&model.program, &budget) {
            Err(ExecError::BadBatch(e)) => assert!(e.contains(message), "{e} for {message}"),
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[test]
fn an_output_beyond_the_budget_is_refused_whether_it_is_pooled_or_not() {
    for case in op_cases(1).unwrap() {
        let batch = &case.batches[0];
        let n = match case.model.program.output {
            ProgramOutput::Logits(_) => batch.outputs.len(),
            ProgramOutput::Pooled(_) => batch.seqs.len(),
            ProgramOutput::Hidden(_) => 0,
        };
        let within = |max_outputs| {
            let budget = Budget {
                max_outputs,
                ..case.budget.clone()
            };
            batch.check(&case.model.program, &budget)
        };
        within(n).unwrap();
        let error = within(n - 1).unwrap_err().to_string();
        let expected = format!("malformed batch: {n} outputs, at most {}", n - 1);
        assert_eq!(error, expected, "{}", case.name);
    }
}

#[test]
fn a_cache_beyond_memory_is_an_error_of_its_own() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
    // Whose rounded type can still be counted, but not the reference's f32.
    for (kv_blocks, kv_type) in [(1 << 45, KvType::F16), (1 << 49, KvType::Q4_0)] {
        let budget = Budget {
            kv_blocks,
            kv_type,
            ..Budget::for_context(64, 1, 16)
        };
        let error = Reference.compile(model.clone(), &budget).err().unwrap();
        assert!(matches!(error, LoadError::OutOfMemory { .. }), "{error}");
    }
}

#[test]
fn a_cache_beyond_counting_is_refused() {
    let mut program = decoder(&DecoderSpec::small(GgmlType::F32), 1)
        .unwrap()
        .program
        .clone();
    let budget = Budget::for_context(usize::MAX, usize::MAX, 16);
    let error = budget.check(&program).unwrap_err().to_string();
    assert!(error.contains("too many to address"), "{error}");

    let budget = Budget::for_context(64, 1, 16);
    let StateKind::Paged(state) = &mut program.states[0].kind;
    state.kv_heads = usize::MAX;
    assert_eq!(budget.kv_bytes(&program), None);
}

#[test]
fn more_rows_than_can_be_numbered_are_refused() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
    let most = u32::MAX as usize;
    let check = |max_tokens, max_outputs| {
        let budget = Budget {
            max_outputs,
            ..Budget::for_context(64, 1, max_tokens)
        };
        budget.check(&model.program).map_err(|e| e.to_string())
    };
    assert_eq!(check(most, most), Ok(()));
    let refused = |name| {
        Err(format!(
            "{name} is 4294967296, but columns are numbered in 32 bits"
        ))
    };
    assert_eq!(check(most + 1, 1), refused("max_tokens"));
    assert_eq!(check(1, most + 1), refused("max_outputs"));
}

#[test]
fn more_threads_than_any_machine_has_are_refused() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
    let budget = Budget {
        threads: Some(100_000),
        ..Budget::for_context(64, 1, 16)
    };
    let error = budget.check(&model.program).unwrap_err().to_string();
    assert_eq!(error, "100000 threads, at most 1024");
}

#[test]
fn a_program_that_needs_whole_sequences_is_given_no_parts() {
    let cases = op_cases(1).unwrap().into_iter();
    let whole: Vec<_> = cases
        .filter(|c| c.name.contains("pool") || c.name.contains("Bidirectional"))
        .collect();
    assert!(whole.len() > 3);
    for case in whole {
        let mut part = case.batches[0].clone();
        part.seqs[1].first = 1;
        match part.check(&case.model.program, &case.budget) {
            Err(ExecError::BadBatch(e)) => assert!(e.contains("must be whole"), "{e}"),
            other => panic!("{}: {other:?}", case.name),
        }
    }
}

#[test]
fn a_step_is_sampled_before_it_is_waited_for_and_once() {
    let model = decoder(&DecoderSpec::small(GgmlType::F32), 1).unwrap();
    let budget = Budget::for_context(64, 1, 16);
    let mut executor = Reference.compile(model.clone(), &budget).unwrap();
    let masks = Masks::default();
    let batch = batch(&model, &budget, &[(&[1, 2, 3], 0)]);
    let first = executor.submit(&batch).unwrap();
    assert!(matches!(
        executor.wait(first),
        Err(ExecError::NotSampled(_))
    ));
    // Dropped for the next, which writes the same keys and values again.
    let ticket = executor.submit(&batch).unwrap();
    assert!(matches!(
        executor.sample(first, &masks),
        Err(ExecError::BadTicket(_))
    ));
    executor.sample(ticket, &masks).unwrap();
    assert_eq!(executor.wait(ticket).unwrap().rows.len(), 3);
    assert!(matches!(
        executor.wait(ticket),
        Err(ExecError::BadTicket(_))
    ));
    assert!(matches!(
        executor.sample(ticket, &masks),
        Err(ExecError::BadTicket(_))
    ));
}

#[test]
fn a_kv_type_that_a_backend_does_not_keep_is_refused() {
    let caps = Caps {
        name: "abacus".to_owned(),
        kv_types: vec![KvType::F32],
    };
    let budget = Budget::for_context(64, 1, 16);
    let error = caps.check(&budget).unwrap_err().to_string();
    assert_eq!(
        error,
        "abacus cannot run this model: keys and values cannot be f16"
    );
}

#[test]
fn a_kv_type_that_cannot_hold_a_head_is_refused() {
    let spec = DecoderSpec {
        heads: 16,
        kv_heads: 2,
        ..DecoderSpec::small(GgmlType::F32)
    };
    let model = decoder(&spec, 1).unwrap();
    let budget = Budget {
        kv_type: KvType::Q8_0,
        ..Budget::for_context(64, 1, 16)
    };
    let error = budget.check(&model.program).unwrap_err().to_string();
    assert!(error.contains("a head has 16"), "{error}");
}
