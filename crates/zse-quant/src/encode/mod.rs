//! f32 weights to blocks, type by type.

use crate::{GgmlType, QuantError};

/// Encodes one row: `(weights [cols], importance [cols], blocks)`, lengths checked by [`encode`].
type RowEncoder = fn(&[f32], Option<&[f32]>, &mut [u8]);

/// The one place that lists which types can be written.
fn encoder(ty: GgmlType) -> Option<RowEncoder> {
    match ty {
        GgmlType::F32 => Some(f32_row),
        _ => None,
    }
}

fn f32_row(src: &[f32], _importance: Option<&[f32]>, dst: &mut [u8]) {
    for (bytes, x) in dst.as_chunks_mut().0.iter_mut().zip(src) {
        *bytes = x.to_le_bytes();
    }
}

/// Whether [`encode`] writes this type.
pub fn can_encode(ty: GgmlType) -> bool {
    encoder(ty).is_some()
}

/// Encodes rows of `cols` weights.
///
/// `src` is `[rows, cols]`, `dst` is `rows * ty.row_bytes(cols)` bytes, and `importance`, where
/// given, is one non-negative weight a column (the mean square of the activations that meet it):
/// errors in important columns count more.
///
/// # Errors
/// The type cannot be encoded, `cols` is not a whole number of blocks, or a slice has the wrong
/// length.
pub fn encode(
    ty: GgmlType,
    src: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), QuantError> {
    let row = encoder(ty).ok_or(QuantError::Unsupported {
        ty,
        action: "encoded",
    })?;
    let row_bytes = match ty.row_bytes(cols) {
        Some(bytes) if bytes > 0 && src.len().is_multiple_of(cols) => bytes,
        _ => return Err(QuantError::Cols { ty, cols }),
    };
    let length = |what, expected, found| match expected == found {
        true => Ok(()),
        false => Err(QuantError::Length {
            ty,
            what,
            expected,
            found,
        }),
    };
    length("destination bytes", src.len() / cols * row_bytes, dst.len())?;
    if let Some(importance) = importance {
        length("importance", cols, importance.len())?;
    }
    for (x, bytes) in src.chunks_exact(cols).zip(dst.chunks_exact_mut(row_bytes)) {
        row(x, importance, bytes);
    }
    Ok(())
}
