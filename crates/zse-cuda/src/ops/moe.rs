//! `kernels/moe.cu`: routing, and the sum over the routed experts.

use super::gemm_hopper::{Grouping, Groups};
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// How tokens choose experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Router {
    pub(crate) experts: usize,
    pub(crate) top_k: usize,
    pub(crate) normalize: bool,
    pub(crate) scale: f32,
}

/// The routes of `n` tokens.
pub(crate) fn route(
    device: &Device,
    router: &Router,
    logits: Ptr,
    y: Ptr,
    n: usize,
) -> Result<(), CudaError> {
    let (experts, top_k) = (router.experts as i32, router.top_k as i32);
    let (normalize, rows) = (i32::from(router.normalize), n as i32);
    let shape = Shape::line(n.div_ceil(4), 128);
    // SAFETY: n rows of logits and of routes.
    unsafe {
        launch!(device, "moe_route", shape; logits, y, experts, top_k, normalize, router.scale, rows)
    }
}

/// Groups the pairs of a route by expert.
pub(crate) fn group(
    device: &Device,
    route: Ptr,
    top_k: usize,
    to: &Groups,
    grouping: Grouping,
) -> Result<(), CudaError> {
    let (shape, counts) = (Shape::line(grouping.experts, 256), to.counts);
    let [top_k, pairs, slots] = [top_k, grouping.pairs, grouping.slots()].map(|n| n as i32);
    // SAFETY: `pairs` pairs behind the route, of experts that exist; `Grouping::bytes` behind `to`.
    unsafe {
        launch!(device, "moe_count", shape; route, counts, top_k, pairs)?;
        launch!(device, "moe_place", shape; route, *to, top_k, pairs, slots)
    }
}

/// Sums the results `x` of all pairs of `n` tokens by the weights of their routes; `slots`: the row of each pair,
/// null: in their order.
pub(crate) fn sum(
    device: &Device,
    [x, route, slots]: [Ptr; 3],
    y: Ptr,
    n: usize,
    [top_k, cols]: [usize; 2],
) -> Result<(), CudaError> {
    let shape = Shape::plane(cols.div_ceil(128), n, 128);
    let (top_k, cols) = (top_k as i32, cols as i32);
    // SAFETY: n * top_k rows behind x, n behind route and y.
    unsafe { launch!(device, "moe_sum", shape; x, route, slots, y, top_k, cols) }
}
