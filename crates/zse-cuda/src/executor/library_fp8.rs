//! Products of FP8 matrices by many columns, which become FP8 as well: each with a scale of its own, found when it is
//! made.

use zse_model::program::{Act, ValueId};

use super::run::Run;
use crate::device::Ptr;
use crate::error::CudaError;
use crate::ops::fp8::{At, Halves, TOGETHER};
use crate::ops::gemv::{Job, Weight};
use crate::ops::quantize::Form;

impl<'a> Run<'a> {
    /// Brings `x` to FP8 rows, unless it is there.
    fn fp8(&mut self, x: ValueId, job: &Job) -> Result<At<'a>, CudaError> {
        Ok(At {
            device: self.device,
            cublas: self.cublas.expect("no form of its columns without it"),
            x: self.narrow(x, Form::RowsFp8, job)?,
            workspace: self.at(self.scratch().shared),
        })
    }

    /// Runs products of `x` that are not gated.
    pub(super) fn fp8_by_library(&mut self, x: ValueId, jobs: &[Job]) -> Result<(), CudaError> {
        let at = self.fp8(x, &jobs[0])?;
        if let [job] = jobs {
            return at.one(job);
        }
        jobs.chunks(TOGETHER).try_for_each(|jobs| at.several(jobs))
    }

    /// Runs a gated product of `x`. Both halves lie as bf16 in the place of the f32 result; the product that reads it puts
    /// them together.
    pub(super) fn gated_fp8_by_library(
        &mut self,
        x: ValueId,
        job: &Job,
        (act, up): (Act, Weight),
        out: ValueId,
    ) -> Result<(), CudaError> {
        let at = self.fp8(x, job)?;
        let (rows, n) = (job.weight.matrix.rows(), job.n);
        let (weights, halves) = ([job.weight, up], [job.y, job.y.offset(2 * rows * n)]);
        let half = |i: usize| Job {
            weight: weights[i],
            gated: None,
            y: halves[i],
            add: Ptr::NULL,
            ..*job
        };
        at.halves([&half(0), &half(1)])?;
        let columns = if at.scales(n) { Ptr::NULL } else { at.x.scale };
        let halves = Halves {
            act,
            weights,
            at: halves,
            columns,
        };
        self.halves = Some((out, halves));
        Ok(())
    }
}
