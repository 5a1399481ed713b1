//! `kernels/kv.cu`.

use zse_model::executor::KvType;

use super::rope::Rotation;
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;
use crate::kv::Plane;

/// The number of a type in `kernels/kv.cuh`.
fn type_number(ty: KvType) -> i32 {
    match ty {
        KvType::F32 => 0,
        KvType::F16 => 1,
        KvType::Bf16 => 2,
        KvType::Q8_0 => 3,
        KvType::Q4_0 => 4,
    }
}

/// `KvWrite` of the kernel.
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

/// Writes one side of a state, `x` `[n, heads * dim]`, rotated by `rotation` if it has pairs.
pub(crate) fn kv_write(
    device: &Device,
    ty: KvType,
    x: Ptr,
    slots: Slots,
    rotation: Rotation,
    to: Plane,
) -> Result<(), CudaError> {
    let warps = slots.n * to.heads as usize;
    let write = KvWrite {
        x,
        positions: slots.positions,
        slots: slots.slots,
        rotation,
        to,
        ty: type_number(ty),
    };
    let n = slots.n as i32;
    // SAFETY: rows behind x; slots are in blocks that exist (`Batch::check`).
    unsafe { launch!(device, "kv_write", Shape::line(warps.div_ceil(4), 128); write, n) }
}
