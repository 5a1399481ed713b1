//! f32 weights to blocks, type by type.

mod affine;
mod block32;
mod blocks;
mod fit;
mod float;
mod groups;
mod iq4;
mod kquants;
mod lanes;
mod legacy;
mod levels;
mod mx;
mod search;
mod superblock;
mod symmetric;

pub use self::groups::encode_groups;
use self::search::search_blocks;
use crate::error::check_len;
use crate::iq4::{Iq4Nl, Iq4Xs};
use crate::kquants::{Q2K, Q3K, Q4K, Q5K, Q6K};
use crate::{GgmlType, QuantError};

/// How a type is written.
struct Encoder {
    /// Encodes one row: `(weights [cols], importance [cols], blocks)`, checked by [`encode`].
    row: fn(&[f32], Option<&[f32]>, &mut [u8]),
    /// The largest magnitude that a weight may have.
    limit: f32,
}

/// The greatest f16.
const F16_MAX: f32 = 65504.0;

/// The one place that lists which types can be written.
fn encoder(ty: GgmlType) -> Option<Encoder> {
    type Row = fn(&[f32], Option<&[f32]>, &mut [u8]);
    let (row, limit): (Row, f32) = match ty {
        GgmlType::F32 => (float::f32, f32::MAX),
        GgmlType::F16 => (float::f16, F16_MAX),
        GgmlType::Bf16 => (float::bf16, half::bf16::MAX.to_f32()),
        GgmlType::Q4_0 => (legacy::q4_0, F16_MAX * 8.0),
        GgmlType::Q4_1 => (legacy::q4_1, F16_MAX),
        GgmlType::Q5_0 => (legacy::q5_0, F16_MAX * 16.0),
        GgmlType::Q5_1 => (legacy::q5_1, F16_MAX),
        GgmlType::Q8_0 => (legacy::q8_0, F16_MAX * 127.0),
        GgmlType::Q2K => (search_blocks::<Q2K, _>, F16_MAX * 15.0),
        GgmlType::Q3K => (search_blocks::<Q3K, _>, F16_MAX * 96.0),
        GgmlType::Q4K => (search_blocks::<Q4K, _>, F16_MAX * 63.0),
        GgmlType::Q5K => (search_blocks::<Q5K, _>, F16_MAX * 63.0),
        GgmlType::Q6K => (search_blocks::<Q6K, _>, F16_MAX * 3968.0),
        GgmlType::Iq4Nl => (search_blocks::<Iq4Nl, _>, F16_MAX * 113.0),
        GgmlType::Iq4Xs => (search_blocks::<Iq4Xs, _>, F16_MAX * 3616.0),
        GgmlType::Mxfp4 => (mx::mxfp4, f32::MAX),
        _ => return None,
    };
    Some(Encoder { row, limit })
}

/// Whether [`encode`] writes this type.
pub fn can_encode(ty: GgmlType) -> bool {
    encoder(ty).is_some()
}

/// Encodes rows of `cols` weights.
///
/// `src` is `[rows, cols]`, `dst` is `rows * ty.row_bytes(cols)` bytes, and `importance`, where
/// given, is one non-negative weight a column (the mean square of the activations that meet it):
/// errors in important columns count more. A block whose columns have none is encoded as if all
/// had the same.
///
/// F16, BF16, Q8_0, and without importance Q4_0, Q4_1, Q5_0 and Q5_1 have the very bytes of
/// ggml's encoders. The others search for the scales that minimise
/// `sum of importance * (weight - decoded weight)^2`. The same input gives the same bytes on
/// every machine.
///
/// # Errors
/// The type cannot be encoded, `cols` is not a whole number of blocks, a slice has the wrong
/// length, a weight is not finite or larger than the type can carry, or an importance is
/// negative or not finite. `dst` may then be partly written.
pub fn encode(
    ty: GgmlType,
    src: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), QuantError> {
    let encoder = check(ty, src, cols, importance, dst)?;
    for row in rows_of(ty, &encoder, src, cols, dst) {
        let (x, bytes) = row?;
        (encoder.row)(x, importance, bytes);
    }
    Ok(())
}

/// Checks all but the weights.
fn check(
    ty: GgmlType,
    src: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    dst: &[u8],
) -> Result<Encoder, QuantError> {
    let encoder = encoder(ty).ok_or(QuantError::Unsupported {
        ty,
        action: "encoded",
    })?;
    let row_bytes = match ty.row_bytes(cols) {
        Some(bytes) if bytes > 0 && src.len().is_multiple_of(cols) => bytes,
        _ => return Err(QuantError::Cols { ty, cols }),
    };
    let dst_len = src.len() / cols * row_bytes;
    check_len(ty, "destination bytes", dst_len, dst.len())?;
    if let Some(importance) = importance {
        check_len(ty, "importance", cols, importance.len())?;
        let allowed = 0.0..=f32::MAX;
        if let Some(col) = importance.iter().position(|i| !allowed.contains(i)) {
            return Err(QuantError::Importance {
                col,
                value: importance[col],
            });
        }
    }
    Ok(encoder)
}

/// Rows and their places, for arguments that were checked; an error for weights that cannot be encoded.
fn rows_of<'a>(
    ty: GgmlType,
    encoder: &Encoder,
    src: &'a [f32],
    cols: usize,
    dst: &'a mut [u8],
) -> impl Iterator<Item = Result<(&'a [f32], &'a mut [u8]), QuantError>> {
    let row_bytes = ty.row_bytes(cols).unwrap_or(1);
    let rows = src.chunks_exact(cols).zip(dst.chunks_exact_mut(row_bytes));
    // NaN is in no range.
    let limit = encoder.limit;
    let is_allowed = move |x: &f32| (0.0..=limit).contains(&x.abs());
    rows.enumerate().map(move |(row, (x, bytes))| {
        let Some(col) = x.iter().position(|x| !is_allowed(x)) else {
            return Ok((x, bytes));
        };
        Err(QuantError::Weight {
            ty,
            row,
            col,
            value: x[col],
            limit,
        })
    })
}
