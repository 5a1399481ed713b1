//! Linears: which kernel runs a product, and in which form it reads its input.

use zse_model::program::{Act, NodeId, Op, ValueId};

use super::plan::form;
use super::run::Run;
use crate::device::Ptr;
use crate::error::CudaError;
use crate::ops::gemm_hopper::Shared;
use crate::ops::gemv::{Job, MOST, Weight};
use crate::ops::quantize::{Form, Narrowed};
use crate::ops::{fp8, gemm, gemm_bytes, gemm_cublas, gemm_hopper, gemv, quantize};
use crate::weights::Layout;

/// Most columns by which FP8 weights are multiplied without tensor cores on Hopper: more read activations for longer than
/// weights.
const FEW_FP8: usize = 2;

impl Run<'_> {
    /// Products of one input.
    pub(super) fn linears(&mut self, nodes: &[NodeId]) -> Result<(), CudaError> {
        let jobs: Vec<(ValueId, Job)> = nodes
            .iter()
            .map(|&node| {
                let (x, weight) = self.weight(node);
                (x, self.job(x, weight, None, self.value(self.out(node))))
            })
            .collect();
        let only: Vec<Job> = jobs.iter().map(|(_, job)| *job).collect();
        if gemv::are_several(&only) {
            if only[0].weight.matrix.layout.is_quantized() {
                self.round(jobs[0].0, &only[0])?;
            }
            return gemv::several(self.device, &only);
        }
        let (x, of) = (jobs[0].0, self.of(only[0].weight.matrix.layout));
        if let Some(form) = of.and_then(|form| self.form(form, only[0].n, self.cols(x)))
            && (self.device.is_hopper || form == Form::RowsFp8)
            && only
                .iter()
                .all(|job| self.of(job.weight.matrix.layout) == of)
        {
            return self.products(x, form, &only);
        }
        jobs.iter().try_for_each(|(x, job)| self.product(*x, job))
    }

    /// Rounds the columns of `x`, unless they are.
    fn round(&mut self, x: ValueId, job: &Job) -> Result<(), CudaError> {
        if self.rounded != Some(x) {
            quantize::quantize_q8(self.device, job.x, job.rounded, job.n, self.cols(x))?;
            self.rounded = Some(x);
        }
        Ok(())
    }

    /// The sum of linear `id` and what `add` adds to it.
    pub(super) fn linear_add(&mut self, id: NodeId, add: NodeId) -> Result<(), CudaError> {
        let (&Op::Add { a, b }, linear) = (self.op(add), self.out(id)) else {
            unreachable!("{add:?} is a sum");
        };
        let other = if a == linear { b } else { a };
        let (x, weight) = self.weight(id);
        let job = Job {
            add: self.value(other),
            ..self.job(x, weight, None, self.value(self.out(add)))
        };
        self.product(x, &job)
    }

    /// The product of node `id`, or with `gated` the product of it as a gate with another.
    pub(super) fn linear(
        &mut self,
        id: NodeId,
        gated: Option<(Act, NodeId)>,
        out: ValueId,
    ) -> Result<(), CudaError> {
        let (x, weight) = self.weight(id);
        let gated = gated.map(|(act, up)| (act, self.weight(up).1));
        if let Some((act, up)) = gated
            && up.matrix.layout != weight.matrix.layout
        {
            return self.gated_apart(x, [weight, up], act, out);
        }
        let job = self.job(x, weight, gated, self.value(out));
        match (gated, self.form_of(x, &job)) {
            (Some(gated), Some(Form::Rows)) => self.gated_by_library(x, &job, gated, out),
            (Some(gated), Some(Form::RowsFp8)) => self.gated_fp8_by_library(x, &job, gated, out),
            _ => self.product(x, &job),
        }
    }

    /// The input and the weight of a linear.
    fn weight(&self, id: NodeId) -> (ValueId, Weight) {
        let &Op::Linear {
            x, weight, bias, ..
        } = self.op(id)
        else {
            unreachable!("{id:?} is a linear");
        };
        let weight = Weight {
            matrix: *self.weights.matrix(weight),
            bias: self.weights.vector_or_null(bias),
        };
        (x, weight)
    }

    pub(super) fn job(
        &self,
        x: ValueId,
        weight: Weight,
        gated: Option<(Act, Weight)>,
        y: Ptr,
    ) -> Job {
        Job {
            weight,
            gated,
            x: self.value(x),
            rounded: self.columns(),
            add: Ptr::NULL,
            y,
            n: self.rows(x),
        }
    }

    /// Runs a product, its input brought into the form that it reads.
    pub(super) fn product(&mut self, x: ValueId, job: &Job) -> Result<(), CudaError> {
        let layout = job.weight.matrix.layout;
        let many = job.n >= gemm::MANY_F32 && !self.plan.deterministic;
        if layout == Layout::F32 && many && job.gated.is_none() {
            return gemm::gemm_f32(self.device, job);
        }
        let Some(form) = self.form_of(x, job) else {
            if layout.is_quantized() {
                self.round(x, job)?;
            }
            return gemv::gemv(self.device, job);
        };
        if !self.device.is_hopper && !matches!(form, Form::Rows | Form::RowsFp8) {
            let narrowed = self.narrow(x, form, job)?;
            return gemm::gemm(self.device, job, narrowed);
        }
        self.products(x, form, std::slice::from_ref(job))
    }

    /// In which form a product reads the columns of `x`; see [`form`](Self::form).
    fn form_of(&self, x: ValueId, job: &Job) -> Option<Form> {
        let of = self.of(job.weight.matrix.layout)?;
        self.form(of, job.n, self.cols(x))
    }

    /// Runs products of `x` on Hopper or by cuBLASLt, none of which reads what another writes, with weights for
    /// columns in `form`.
    fn products(&mut self, x: ValueId, form: Form, jobs: &[Job]) -> Result<(), CudaError> {
        if form == Form::Rows {
            return self.all_by_library(x, jobs);
        }
        if form == Form::RowsFp8 {
            return self.fp8_by_library(x, jobs);
        }
        let narrowed = self.narrow(x, form, &jobs[0])?;
        if form == Form::Bytes {
            return gemm_bytes::gemm(self.device, jobs, narrowed.x, self.shared());
        }
        gemm_hopper::gemm(self.device, jobs, narrowed, self.shared())
    }

    /// In which form products with weights for columns in form `of` read `n` columns of `cols` numbers; none: as they
    /// are, or with quantized weights rounded one by one.
    pub(super) fn form(&self, of: Form, n: usize, cols: usize) -> Option<Form> {
        if self.plan.deterministic {
            return None;
        }
        let bytes = self.device.is_hopper && cols.is_multiple_of(gemm_bytes::STEP);
        match of {
            Form::Bytes if bytes && gemm_bytes::COLUMNS.contains(&n) => Some(of),
            _ if self.is_few(of, n) => None,
            Form::Bf16 if self.cublas.is_some() && n > gemm_cublas::FEW => Some(Form::Rows),
            Form::Fp8 if self.cublas.is_some() && n > gemm_cublas::FEW => Some(Form::RowsFp8),
            Form::Bytes => Some(Form::Groups),
            _ => Some(of),
        }
    }

    /// The columns of `x` in `form`; brings them there, unless they are.
    pub(super) fn narrow(
        &mut self,
        x: ValueId,
        form: Form,
        job: &Job,
    ) -> Result<Narrowed, CudaError> {
        let [narrow, scale] = self.scratch().narrow.map(|offset| self.at(offset));
        let scaled = form.is_scaled(self.device.is_hopper);
        let to = Narrowed {
            x: narrow,
            scale: if scaled { scale } else { Ptr::NULL },
        };
        if self.narrowed != Some((x, form)) {
            match self.halves.filter(|(value, _)| *value == x) {
                Some((_, halves)) => fp8::glu(self.device, &halves, to, job.n)?,
                None => quantize::narrow(self.device, form, job.x, to, job.n, self.cols(x))?,
            }
            self.narrowed = Some((x, form));
        }
        Ok(to)
    }

    /// The form of columns that such weights are for; `None`: as they are.
    pub(super) fn of(&self, weights: Layout) -> Option<Form> {
        form(self.plan.is_small, weights)
    }

    /// Where the blocks of a product put what they share.
    pub(super) fn shared(&self) -> Shared {
        Shared {
            parts: self.at(self.scratch().shared),
            arrived: self.at(self.plan.counters),
        }
    }

    /// Whether so many columns in form `of` are multiplied without tensor cores, unless those of integers pay.
    fn is_few(&self, of: Form, n: usize) -> bool {
        n <= match of {
            _ if !self.device.is_hopper => MOST,
            Form::Fp8 => FEW_FP8,
            _ => MOST / 2,
        }
    }
}
