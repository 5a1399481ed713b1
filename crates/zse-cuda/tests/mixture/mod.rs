//! A model of one mixture of experts, and nothing else.

use std::sync::Arc;

use zse_model::conformance::{Fill, Synth};
use zse_model::program::{Act, EmbedIndex, ProgramOutput};
use zse_model::{Builder, Model, ModelInfo, TOP};
use zse_quant::GgmlType;

use crate::model::model;

pub(crate) struct Mixture {
    /// Of gate, up and down.
    pub(crate) types: [GgmlType; 3],
    pub(crate) experts: usize,
    pub(crate) top_k: usize,
    pub(crate) cols: usize,
    pub(crate) ff: usize,
    /// Tokens that have a row; logits are as many as there are columns.
    pub(crate) vocab: usize,
}

impl Mixture {
    pub(crate) fn model(&self, seed: u64, context: usize) -> Arc<Model> {
        let &Self {
            types,
            experts,
            top_k,
            cols,
            ff,
            vocab,
        } = self;
        let [gate, up, down] = types;
        let names = types.map(GgmlType::name);
        let name = format!("{names:?} {experts}x[{ff}, {cols}] top {top_k}");
        let mut synth = Synth::new(seed);
        for (tensor, ty, shape, deviation) in [
            ("x.weight", GgmlType::F32, &[cols, vocab][..], 1.0),
            ("router.weight", GgmlType::F32, &[cols, experts], 0.2),
            ("gate.weight", gate, &[cols, ff, experts], 0.1),
            ("up.weight", up, &[cols, ff, experts], 0.1),
            ("down.weight", down, &[ff, cols, experts], 0.1),
        ] {
            synth
                .tensor(tensor, ty, shape, Fill::Normal(deviation))
                .expect("a good tensor");
        }
        let info = ModelInfo {
            architecture: "mixture".to_owned(),
            name,
            layers: 1,
            width: cols,
            vocab,
            context,
            trained_context: context,
        };
        model(info, synth, |b| self.describe(b))
    }

    fn describe(&self, b: &mut Builder) -> ProgramOutput {
        let &Self {
            experts,
            top_k,
            cols,
            ff,
            vocab,
            ..
        } = self;
        let table = b.weight(TOP, "x", vocab, cols);
        let x = b.embed(table, EmbedIndex::Token);
        let scores = b.linear(x, TOP, "router", experts);
        let route = b.moe_route(scores, top_k, true, 1.0);
        let [gate, up] = ["gate", "up"].map(|name| b.experts(TOP, name, experts, [ff, cols]));
        let down = b.experts(TOP, "down", experts, [cols, ff]);
        let y = b.moe_ffn(x, route, [gate, up, down], Act::Silu);
        ProgramOutput::Logits(b.gather_rows(y))
    }
}
