//! `kernels/rope.cu`.

use zse_model::program::RopeStyle;

use crate::device::{Device, Ptr, Shape, launch};
use crate::error::CudaError;

/// A rotary embedding as kernels take it (`Rotation` of `kernels/rope.cuh`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Rotation {
    frequencies: Ptr,
    pairs: i32,
    halves: i32,
    magnitude: f32,
}

impl Rotation {
    /// `pairs` frequencies on the device.
    pub(crate) fn new(style: RopeStyle, frequencies: Ptr, pairs: usize, magnitude: f32) -> Self {
        Self {
            frequencies,
            pairs: pairs as i32,
            halves: i32::from(style == RopeStyle::Halves),
            magnitude,
        }
    }
}

/// Rotates heads of `head` numbers in `n` rows of `cols`.
pub(crate) fn rope(
    device: &Device,
    rotation: &Rotation,
    x: Ptr,
    y: Ptr,
    positions: Ptr,
    [n, cols, head]: [usize; 3],
) -> Result<(), CudaError> {
    let shape = Shape::plane(cols.div_ceil(128), n, 128);
    let (cols, head) = (cols as i32, head as i32);
    // SAFETY: n * cols numbers behind x and y, n positions; a head has at least 2 * pairs numbers
    // (`Program::check`).
    unsafe { launch!(device, "rope", shape; x, y, positions, *rotation, cols, head) }
}
