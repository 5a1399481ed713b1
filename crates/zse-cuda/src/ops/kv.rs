//! `kernels/kv.cu`.

use zse_model::executor::KvType;

use super::rope::Rotation;
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::kv::{Plane, State};

/// Heads of a block.
const HEADS: usize = 4;

/// The number of a type in `kernels/kv.cuh`.
fn type_number(ty: KvType) -> i32 {
    match ty {
        KvType::F32 => 0,
        KvType::F16 => 1,
        KvType::Bf16 => 2,
        KvType::Q8_0 => 3,
        KvType::Q4_0 => 4,
        KvType::Fp8 => 5,
    }
}

/// `KvWrite` of the kernel.
#[derive(Clone, Copy)]
#[repr(C)]
struct KvWrite {
    x: Ptr,
    positions: Ptr,
    slots: Ptr,
    rotation: Rotation,
    to: Plane,
    ty: i32,
}

/// Where the batch's tokens go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub(crate) positions: Ptr,
    pub(crate) slots: Ptr,
    pub(crate) n: usize,
}

/// Queries to be rotated beside keys: `x` into `y`, in heads of `dim`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queries {
    pub(crate) x: Ptr,
    pub(crate) y: Ptr,
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    pub(crate) rotation: Rotation,
}

/// Writes keys and values, `[n, heads * dim]` each, the keys rotated by `rotation` if it has pairs; and
/// rotates queries.
pub(crate) fn kv_write(
    device: &Device,
    ty: KvType,
    [k, v]: [Ptr; 2],
    slots: Slots,
    rotation: Rotation,
    state: &State,
    queries: Option<Queries>,
) -> Result<(), CudaError> {
    let side = |x: Ptr, rotation: Rotation, to: Plane| KvWrite {
        x,
        positions: slots.positions,
        slots: slots.slots,
        rotation,
        to,
        ty: type_number(ty),
    };
    let keys = side(k, rotation, state.keys);
    let queries = queries.map(|q| KvWrite {
        slots: Ptr::NULL,
        ty: type_number(KvType::F32),
        ..side(q.x, q.rotation, Plane::rows(q.y, q.heads, q.dim))
    });
    let count = if queries.is_some() { 3 } else { 2 };
    let values = side(v, Rotation::default(), state.values);
    let sides = [keys, values, queries.unwrap_or(keys)];
    let heads = sides.iter().map(|side| side.to.heads as usize).max();
    let blocks = slots.n * heads.unwrap_or(0).div_ceil(HEADS);
    let n = slots.n as i32;
    // SAFETY: rows behind all inputs and y; slots are in blocks that exist (`Batch::check`).
    unsafe { launch!(device, "kv_write", Shape::plane(blocks, count, 128); sides, n) }
}
