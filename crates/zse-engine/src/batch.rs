//! From a plan to the batch that an executor gets.

use zse_model::executor::{Batch, KvOp, OutputRow, SeqSpan, TokenSource};

use crate::scheduler::{Plan, Scheduler};

/// The batch of `plan`, over sequences that run, behind `kv_ops`.
pub(crate) fn build(plan: &Plan, scheduler: &Scheduler, kv_ops: Vec<KvOp>) -> Batch {
    let mut batch = Batch {
        kv_ops,
        ..Batch::default()
    };
    for part in &plan.parts {
        let Some(seq) = scheduler.get(part.id) else {
            continue;
        };
        let row = batch.tokens.len();
        let ids = &seq.tokens()[part.tokens.clone()];
        batch
            .tokens
            .extend(ids.iter().map(|&id| TokenSource::Id(id)));
        batch
            .positions
            .extend(part.tokens.clone().map(|p| p as u32));
        batch.seqs.push(SeqSpan {
            tokens: row..batch.tokens.len(),
            first: part.tokens.start,
            tables: vec![seq.table.as_slice().to_vec(); scheduler.kv_groups()],
            adapters: seq.adapters().to_vec(),
        });
        let wants = seq.wants(&part.tokens).into_iter();
        batch.outputs.extend(wants.map(|(i, want)| OutputRow {
            token: row + i - part.tokens.start,
            want,
        }));
    }
    batch
}
