//! F32, F16 and BF16: each weight rounded by itself, ties to even.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

pub(super) fn f32(row: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
    for (bytes, x) in dst.as_chunks_mut().0.iter_mut().zip(row) {
        *bytes = x.to_le_bytes();
    }
}

pub(super) fn f16(row: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
    // By chunks, so that `half` may convert 8 at a time where the CPU can.
    let mut halves = [f16::ZERO; 64];
    for (x, bytes) in row.chunks(64).zip(dst.chunks_mut(128)) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(x);
        for (bytes, h) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
            *bytes = h.to_le_bytes();
        }
    }
}

pub(super) fn bf16(row: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
    for (bytes, x) in dst.as_chunks_mut().0.iter_mut().zip(row) {
        *bytes = bf16::from_f32(*x).to_le_bytes();
    }
}
