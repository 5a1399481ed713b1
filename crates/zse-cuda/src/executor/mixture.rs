//! Mixtures of experts, and gated products whose matrices differ in layout.

use zse_model::program::{Act, TensorId, ValueId};

use super::experts::Grouped;
use super::run::Run;
use super::scratch::tokens_at_once;
use crate::device::Ptr;
use crate::error::CudaError;
use crate::ops::gemv::{Job, Pairs, Weight, gemv_experts};
use crate::ops::quantize::{Columns, quantize_q8};
use crate::ops::{elementwise, moe};

impl Run<'_> {
    /// The experts' sum for each row of `x`, some tokens at a time.
    pub(super) fn mixture(
        &mut self,
        [x, route]: [ValueId; 2],
        weights: [TensorId; 3],
        act: Act,
        out: ValueId,
    ) -> Result<(), CudaError> {
        let matrices = weights.map(|t| Weight {
            matrix: *self.weights.matrix(t),
            bias: Ptr::NULL,
        });
        let [gate, up, down] = matrices;
        let (cols, ff, cols_out) = (self.cols(x), gate.matrix.rows(), self.cols(out));
        let top_k = self.cols(route) / 2;
        let [inner, q, s, said] = self.scratch().mixture.map(|offset| self.at(offset));
        let inner_rounded = Columns { q, s };
        let n = self.rows(x);
        let experts = self.program.tensor(weights[0]).experts;
        self.rounded = None;
        for first in (0..n).step_by(tokens_at_once(top_k)) {
            let tokens = tokens_at_once(top_k).min(n - first);
            let at = |v: ValueId, cols: usize| self.value(v).offset(4 * first * cols);
            let route = at(route, 2 * top_k);
            if self.groups_experts(tokens, &matrices) {
                let part = Grouped {
                    x: at(x, cols),
                    route,
                    out: at(out, cols_out),
                    tokens,
                    top_k,
                    experts,
                };
                self.grouped_experts(&part, matrices, act)?;
                continue;
            }
            let mut pairs = Pairs {
                route,
                top_k,
                pairs: tokens * top_k,
                x_per_pair: false,
            };
            let mut job = Job {
                weight: gate,
                gated: None,
                x: at(x, cols),
                rounded: self.columns(),
                add: Ptr::NULL,
                y: inner,
                n: tokens,
            };
            if gate.matrix.layout.is_quantized() || up.matrix.layout.is_quantized() {
                quantize_q8(self.device, job.x, job.rounded, tokens, cols)?;
            }
            self.gated_experts(&job, [gate, up], act, &pairs)?;
            pairs.x_per_pair = true;
            job = Job {
                weight: down,
                gated: None,
                x: inner,
                rounded: inner_rounded,
                y: said,
                ..job
            };
            if down.matrix.layout.is_quantized() {
                quantize_q8(self.device, inner, inner_rounded, pairs.pairs, ff)?;
            }
            gemv_experts(self.device, &job, &pairs)?;
            moe::sum(
                self.device,
                [said, route, Ptr::NULL],
                at(out, cols_out),
                tokens,
                [top_k, cols_out],
            )?;
        }
        Ok(())
    }

    /// What the gates of all pairs let through.
    fn gated_experts(
        &self,
        job: &Job,
        [gate, up]: [Weight; 2],
        act: Act,
        pairs: &Pairs,
    ) -> Result<(), CudaError> {
        if gate.matrix.layout == up.matrix.layout {
            let gated = Some((act, up));
            return gemv_experts(self.device, &Job { gated, ..*job }, pairs);
        }
        let y = self.at(self.scratch().apart);
        gemv_experts(self.device, job, pairs)?;
        gemv_experts(
            self.device,
            &Job {
                weight: up,
                y,
                ..*job
            },
            pairs,
        )?;
        elementwise::glu(
            self.device,
            act,
            [job.y, y],
            job.y,
            pairs.pairs * gate.matrix.rows(),
        )
    }

    /// A gated product of matrices that differ in layout.
    pub(super) fn gated_apart(
        &mut self,
        x: ValueId,
        [gate, up]: [Weight; 2],
        act: Act,
        out: ValueId,
    ) -> Result<(), CudaError> {
        let (y, other) = (self.value(out), self.at(self.scratch().apart));
        let jobs = [self.job(x, gate, None, y), self.job(x, up, None, other)];
        jobs.iter().try_for_each(|job| self.product(x, job))?;
        elementwise::glu(
            self.device,
            act,
            [y, other],
            y,
            self.rows(x) * gate.matrix.rows(),
        )
    }
}
