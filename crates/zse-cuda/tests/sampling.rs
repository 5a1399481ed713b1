//! Draws on the device against those of the reference: the same tokens from the same logits. Needs a GPU:
//! `just gpu-check`.
#![cfg(feature = "cuda")]

use std::sync::Arc;

use zse_cuda::{CudaBackend, Kernels};
use zse_model::conformance::{Fill, Rng, Synth, batch};
use zse_model::executor::{
    Backend, Batch, Budget, Executor, Masks, Output, OutputRow, SampleJob, Sampled, Want,
};
use zse_model::program::{EmbedIndex, ProgramOutput};
use zse_model::reference::Reference;
use zse_model::sampler::SampleParams;
use zse_model::{Builder, Model, ModelInfo, TOP, Weights};
use zse_quant::GgmlType;

/// Rows of logits of each kind.
const ROWS: usize = 6;

/// Logits of a row; no whole number of words of a mask.
const VOCAB: usize = 40_003;

/// A model whose logits are rows of a table, with this deviation.
fn table(deviation: f32) -> Arc<Model> {
    let mut synth = Synth::new(3);
    synth
        .tensor(
            "x.weight",
            GgmlType::F32,
            &[VOCAB, ROWS],
            Fill::Normal(deviation),
        )
        .expect("a good tensor");
    let checkpoint = synth.finish().expect("a good checkpoint");
    let mut b = Builder::new("table", Arc::clone(&checkpoint));
    let table = b.weight(TOP, "x", ROWS, VOCAB);
    let x = b.embed(table, EmbedIndex::Token);
    let logits = b.gather_rows(x);
    let program = b
        .finish(ProgramOutput::Logits(logits))
        .expect("a good program");
    let weights = Weights::new(checkpoint, &program).expect("its weights");
    let info = ModelInfo {
        architecture: "table".to_owned(),
        name: "table".to_owned(),
        layers: 1,
        width: VOCAB,
        vocab: ROWS,
        context: 64,
        trained_context: 64,
    };
    Arc::new(Model {
        info,
        program,
        weights,
    })
}

fn settings() -> Vec<SampleParams> {
    let base = SampleParams {
        seed: 7,
        ..SampleParams::default()
    };
    let with = |change: fn(&mut SampleParams)| {
        let mut p = base.clone();
        change(&mut p);
        p
    };
    vec![
        base.clone(),
        with(|p| p.temperature = 0.3),
        with(|p| p.top_k = 1),
        with(|p| p.top_k = 40),
        with(|p| p.top_k = 5000),
        with(|p| p.top_p = 0.5),
        with(|p| p.top_p = 0.0),
        with(|p| p.top_p = 0.999),
        with(|p| p.min_p = 0.1),
        with(|p| {
            p.temperature = 0.8;
            p.top_k = 40;
            p.top_p = 0.95;
            p.min_p = 0.05;
        }),
        with(|p| {
            p.top_k = 20;
            p.top_p = 0.8;
            p.repetition_penalty = 1.5;
            p.presence_penalty = 0.5;
            p.frequency_penalty = 0.25;
        }),
        with(|p| {
            p.temperature = 0.0;
            p.repetition_penalty = 3.0;
            p.penalty_last_n = None;
        }),
        with(|p| p.logit_bias = vec![(17, 30.0), (18, f32::NEG_INFINITY), (19, 29.0)]),
        with(|p| p.logit_bias = vec![(17, 20.0), (17, 20.0)]),
        with(|p| p.top_logprobs = 3),
        with(|p| p.typical_p = 0.7),
    ]
}

/// Every row of the table with `params`, drawn for `position`.
fn draws(
    model: &Model,
    budget: &Budget,
    params: &Arc<SampleParams>,
    position: u64,
    rng: &mut Rng,
) -> Batch {
    let ids: Vec<u32> = (0..ROWS as u32).collect();
    let mut batch = batch(model, budget, &[(&ids[..], 0)]);
    batch.outputs = (0..ROWS)
        .map(|token| OutputRow {
            token,
            want: Want::Sample(Box::new(SampleJob {
                params: Arc::clone(params),
                history: rng.ids(100, if token % 2 == 0 { 30 } else { VOCAB }),
                choice: token as u32,
                position,
                mu: 0.0,
            })),
        })
        .collect();
    batch
}

fn run(executor: &mut dyn Executor, batch: &Batch, masks: &Masks) -> Vec<Sampled> {
    let ticket = executor.submit(batch).expect("a good batch");
    executor.sample(ticket, masks).expect("tokens are drawn");
    let outputs = executor.wait(ticket).expect("outputs are there");
    let sampled = outputs.rows.into_iter().map(|output| match output {
        Output::Sampled(sampled) => sampled,
        other => panic!("{other:?} is no draw"),
    });
    sampled.collect()
}

#[test]
#[ignore = "needs a GPU"]
fn draws_are_those_of_the_reference() {
    let mut failures = Vec::new();
    for deviation in [0.01, 1.0, 4.0] {
        let model = table(deviation);
        let budget = Budget::for_context(64, 1, 64);
        let mut reference = Reference
            .compile(Arc::clone(&model), &budget)
            .expect("the reference runs everything");
        let mut rng = Rng::new(23);
        // A few tokens alone; every third; and fewer words than the vocabulary has.
        let masks = Masks {
            rows: vec![
                (1, vec![0b1011_0000, 0, 1 << 63]),
                (2, vec![0x9249_2492_4924_9249; VOCAB.div_ceil(64)]),
                (4, vec![u64::MAX; 100]),
            ],
        };
        for portable in [false, true] {
            let backend = CudaBackend::with(
                0,
                Kernels {
                    portable,
                    ..Kernels::default()
                },
            )
            .expect("a GPU");
            let mut executor = backend
                .compile(Arc::clone(&model), &budget)
                .expect("it compiles");
            for (i, params) in settings().into_iter().enumerate() {
                let params = Arc::new(params);
                for position in 0..4 {
                    let batch = draws(&model, &budget, &params, position, &mut rng);
                    for masks in [&Masks::default(), &masks] {
                        let expected = run(&mut *reference, &batch, masks);
                        let got = run(&mut *executor, &batch, masks);
                        for (row, (e, g)) in expected.iter().zip(&got).enumerate() {
                            let same = e.token == g.token
                                && (e.logprob - g.logprob).abs() < 1e-4
                                && e.top.len() == g.top.len();
                            if !same {
                                failures.push(format!(
                                    "{deviation} {i} {position} {row}: {g:?}, not {e:?}"
                                ));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
#[ignore = "needs a GPU"]
fn rows_that_allow_nothing_say_so() {
    let model = table(1.0);
    let budget = Budget::for_context(64, 1, 64);
    let backend = CudaBackend::open(0).expect("a GPU");
    let mut executor = backend
        .compile(Arc::clone(&model), &budget)
        .expect("it compiles");
    let params = Arc::new(SampleParams::default());
    let batch = draws(&model, &budget, &params, 0, &mut Rng::new(1));
    let masks = Masks {
        rows: vec![(3, vec![0; 8])],
    };
    let ticket = executor.submit(&batch).expect("a good batch");
    let error = executor
        .sample(ticket, &masks)
        .expect_err("row 3 allows nothing");
    assert!(error.to_string().contains("no token is allowed"), "{error}");
    // The same step under other masks.
    executor
        .sample(ticket, &Masks::default())
        .expect("tokens are drawn");
    assert_eq!(
        executor.wait(ticket).expect("outputs are there").rows.len(),
        ROWS
    );
}
