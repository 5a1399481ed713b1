//! Mixtures of experts whose pairs of a token and an expert are grouped by expert, on Hopper: each expert
//! multiplies all columns that want it at once.

use zse_model::program::Act;

use super::run::Run;
use crate::device::Ptr;
use crate::error::CudaError;
use crate::ops::gemm_hopper::{self, Grouping, Groups, Tiles};
use crate::ops::gemv::{Job, MOST, Weight};
use crate::ops::quantize::{self, Columns, Form, Narrowed, Sources};
use crate::ops::{elementwise, moe};
use crate::weights::Layout;

/// What of a mixture some tokens go through.
pub(super) struct Grouped {
    /// f32 rows of the tokens.
    pub(super) x: Ptr,
    pub(super) route: Ptr,
    /// Takes their rows.
    pub(super) out: Ptr,
    pub(super) tokens: usize,
    pub(super) top_k: usize,
    pub(super) experts: usize,
}

impl Run<'_> {
    /// Whether pairs of so many tokens are grouped: as long as each expert is wanted by about one, they gain
    /// nothing.
    pub(super) fn groups_experts(&self, tokens: usize, weights: &[Weight; 3]) -> bool {
        let has_kernels = |w: &Weight| w.matrix.layout != Layout::F32;
        let may = self.device.is_hopper && !self.plan.deterministic;
        may && tokens > MOST && weights.iter().all(has_kernels)
    }

    /// The experts' sums for some tokens.
    pub(super) fn grouped_experts(
        &mut self,
        part: &Grouped,
        [gate, up, down]: [Weight; 3],
        act: Act,
    ) -> Result<(), CudaError> {
        let &Grouped {
            x,
            route,
            out,
            tokens,
            top_k,
            experts,
        } = part;
        let grouping = Grouping {
            pairs: tokens * top_k,
            experts,
        };
        let [counts, sources, slots, tiles] = self.scratch().groups.map(|offset| self.at(offset));
        let groups = Groups {
            counts,
            sources,
            slots,
            tiles,
            wide: grouping.wide() as i32,
        };
        moe::group(self.device, route, top_k, &groups, grouping)?;
        let [inner, _, _, said] = self.scratch().mixture.map(|offset| self.at(offset));
        let by = (&groups, grouping);
        let job = |weight, gated, y| Job {
            weight,
            gated,
            x: Ptr::NULL,
            rounded: Columns::default(),
            add: Ptr::NULL,
            y,
            n: grouping.slots(),
        };
        let of_tokens = Sources {
            pairs: sources,
            share: top_k as i32,
        };
        if gate.matrix.layout == up.matrix.layout {
            self.expert_product(x, of_tokens, &job(gate, Some((act, up)), inner), by)?;
        } else {
            let other = self.at(self.scratch().apart);
            self.expert_product(x, of_tokens, &job(gate, None, inner), by)?;
            self.expert_product(x, of_tokens, &job(up, None, other), by)?;
            let len = grouping.slots() * gate.matrix.rows();
            elementwise::glu(self.device, act, [inner, other], inner, len)?;
        }
        let of_columns = Sources {
            pairs: sources,
            share: 0,
        };
        self.expert_product(inner, of_columns, &job(down, None, said), by)?;
        let size = [top_k, down.matrix.rows()];
        moe::sum(self.device, [said, route, slots], out, tokens, size)
    }

    /// Narrows the rows of `x` that `sources` names and multiplies them with their experts.
    fn expert_product(
        &mut self,
        x: Ptr,
        sources: Sources,
        job: &Job,
        (groups, grouping): (&Groups, Grouping),
    ) -> Result<(), CudaError> {
        let matrix = &job.weight.matrix;
        let form = Form::of(matrix.layout).unwrap_or(Form::Bf16);
        let [narrow, scale] = self.scratch().narrow.map(|offset| self.at(offset));
        let scale = if form == Form::F16 { scale } else { Ptr::NULL };
        let tiles = Tiles::grouped(narrow, form, grouping);
        let (n, cols) = (grouping.slots(), matrix.cols());
        self.narrowed = None;
        quantize::tiles_of(self.device, form, x, sources, (tiles, scale), n, cols)?;
        let x = Narrowed { x: narrow, scale };
        gemm_hopper::experts(self.device, job, x, (groups, grouping), self.shared())
    }
}
