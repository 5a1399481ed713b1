//! F32, F16 and BF16: one float a weight.

use half::slice::HalfFloatSliceExt;

/// A plain float type of a tensor.
pub(crate) trait Float {
    /// Bytes a value.
    const BYTES: usize;

    /// Values of little-endian bytes, `dst.len() * BYTES` of them.
    fn decode(src: &[u8], dst: &mut [f32]);
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    fn decode(src: &[u8], dst: &mut [f32]) {
        for (x, bytes) in dst.iter_mut().zip(src.as_chunks().0) {
            *x = f32::from_le_bytes(*bytes);
        }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    fn decode(src: &[u8], dst: &mut [f32]) {
        // By chunks, so that `half` may convert 8 at a time where the CPU can.
        let mut halves = [half::f16::ZERO; CHUNK];
        for (x, bytes) in dst.chunks_mut(CHUNK).zip(src.chunks(2 * CHUNK)) {
            let halves = &mut halves[..x.len()];
            for (h, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
                *h = half::f16::from_le_bytes(*bytes);
            }
            halves.convert_to_f32_slice(x);
        }
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    fn decode(src: &[u8], dst: &mut [f32]) {
        for (x, bytes) in dst.iter_mut().zip(src.as_chunks().0) {
            *x = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }
}

/// Values decoded at a time.
const CHUNK: usize = 64;

pub(crate) fn decode_floats<T: Float>(src: &[u8], dst: &mut [f32]) {
    T::decode(src, dst);
}

/// `acc = fma(w_k, x_k, acc)` in order of k.
pub(crate) fn dot_floats<T: Float>(row: &[u8], x: &[f32]) -> f32 {
    let mut weights = [0.0; CHUNK];
    let mut acc = 0.0f32;
    for (x, bytes) in x.chunks(CHUNK).zip(row.chunks(CHUNK * T::BYTES)) {
        let weights = &mut weights[..x.len()];
        T::decode(bytes, weights);
        for (w, x) in weights.iter().zip(x) {
            acc = w.mul_add(*x, acc);
        }
    }
    acc
}
