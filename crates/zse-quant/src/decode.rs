//! Blocks to f32, bit for bit as ggml's `to_float`.

use crate::block::blocks;
use crate::contract::Unpack;
use crate::error::check_len;
use crate::format::Codec;
use crate::{GgmlType, QuantError};

/// Decodes whole blocks to weights, with the very bits of ggml's `to_float` (NaNs aside, whose
/// payload is not defined).
///
/// `dst` is `[n]`, `src` the blocks of those n values: rows may follow each other.
///
/// # Errors
/// The type is not a weight, `dst.len()` is not a whole number of blocks, or `src` does not
/// have the length of those blocks.
pub fn decode(ty: GgmlType, src: &[u8], dst: &mut [f32]) -> Result<(), QuantError> {
    let decode = match &ty.format().codec {
        Codec::Quantized(codec) => codec.decode,
        Codec::Float(codec) => codec.decode,
        Codec::Stored => {
            return Err(QuantError::Unsupported {
                ty,
                action: "decoded",
            });
        }
    };
    let expected = ty.row_bytes(dst.len()).ok_or(QuantError::Cols {
        ty,
        cols: dst.len(),
    })?;
    check_len(ty, "source bytes", expected, src.len())?;
    decode(src, dst);
    Ok(())
}

/// `weight = q * w + m`, group by group.
///
/// ggml rounds in the same places for every format: an integer times a scale has no more than
/// 24 significant bits, or is rounded once here as there.
pub(crate) fn decode_blocks<B: Unpack>(src: &[u8], dst: &mut [f32]) {
    for (block, dst) in blocks::<B>(src).iter().zip(dst.chunks_exact_mut(B::LEN)) {
        for (g, dst) in dst.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let group = block.unpack(g);
            for (h, dst) in dst.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (x, q) in dst.iter_mut().zip(&group.q[16 * h..]) {
                    *x = f32::from(*q) * group.w[h];
                    // Adding a zero minimum would turn -0 into +0.
                    if B::CONTRACT.has_min {
                        *x += group.m[h];
                    }
                }
            }
        }
    }
}
