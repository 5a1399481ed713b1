//! Rows of tables, and rows of intermediate results.

use super::Ctx;
use crate::weights::Matrix;

/// Rows `ids` of `table`, decoded: `[ids.len(), cols]`.
pub(crate) fn embed(ctx: &Ctx<'_>, table: &Matrix, ids: &[u32], out: &mut [f32]) {
    let cols = table.cols();
    ctx.rows(out, cols, |first, out| {
        for (id, out) in ids[first..].iter().zip(out.chunks_exact_mut(cols)) {
            table
                .decode_row(*id as usize, out)
                .expect("a checked weight decodes, row by row");
        }
    });
}

/// Rows `rows` of `x`, `[n, cols]`.
pub(crate) fn gather_rows(
    x: &[f32],
    cols: usize,
    rows: impl Iterator<Item = usize>,
    out: &mut [f32],
) {
    for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
        out.copy_from_slice(&x[row * cols..][..cols]);
    }
}
