//! `kernels/elementwise.cu`.

use zse_model::program::Act;

use super::act_number;
use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// Threads of a block.
const BLOCK: u32 = 256;

fn shape(device: &Device, len: usize) -> Shape {
    let blocks = len.div_ceil(BLOCK as usize);
    Shape::line(blocks.min(8 * device.multiprocessors), BLOCK)
}

/// `y = act(gate) * up`, `len` numbers.
pub(crate) fn glu(
    device: &Device,
    act: Act,
    [gate, up]: [Ptr; 2],
    y: Ptr,
    len: usize,
) -> Result<(), CudaError> {
    let act = act_number(act);
    // SAFETY: `len` numbers behind each.
    unsafe { launch!(device, "glu", shape(device, len); gate, up, y, act, len) }
}

/// The same in bf16, rows of `cols` numbers, a multiple of 8, in all `len`; biases of the two are added first, if not
/// null. `y` may be `gate`.
pub(crate) fn glu_bf16(
    device: &Device,
    act: Act,
    [gate, up]: [Ptr; 2],
    [gate_bias, up_bias]: [Ptr; 2],
    y: Ptr,
    (len, cols): (usize, usize),
) -> Result<(), CudaError> {
    let act = act_number(act);
    let shape = Shape::line((len / 8).div_ceil(BLOCK as usize), BLOCK);
    let cols = cols as i32;
    // SAFETY: `len` numbers behind each, `cols` behind a bias.
    unsafe { launch!(device, "glu_bf16", shape; gate, up, y, gate_bias, up_bias, act, cols, len) }
}

/// `y = act(x)`.
pub(crate) fn activation(
    device: &Device,
    act: Act,
    x: Ptr,
    y: Ptr,
    len: usize,
) -> Result<(), CudaError> {
    let act = act_number(act);
    // SAFETY: `len` numbers behind each.
    unsafe { launch!(device, "activation", shape(device, len); x, y, act, len) }
}

/// `y = a + b`.
pub(crate) fn add(device: &Device, [a, b]: [Ptr; 2], y: Ptr, len: usize) -> Result<(), CudaError> {
    // SAFETY: `len` numbers behind each.
    unsafe { launch!(device, "add", shape(device, len); a, b, y, len) }
}

/// `y = x * by`.
pub(crate) fn scale(device: &Device, x: Ptr, y: Ptr, by: f32, len: usize) -> Result<(), CudaError> {
    // SAFETY: `len` numbers behind each.
    unsafe { launch!(device, "scale", shape(device, len); x, y, by, len) }
}

/// `y = cap * tanh(x / cap)`.
pub(crate) fn soft_cap(
    device: &Device,
    x: Ptr,
    y: Ptr,
    cap: f32,
    len: usize,
) -> Result<(), CudaError> {
    // SAFETY: `len` numbers behind each.
    unsafe { launch!(device, "soft_cap", shape(device, len); x, y, cap, len) }
}
