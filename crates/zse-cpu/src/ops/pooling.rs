//! One row for each sequence.

use std::ops::Range;

use zse_model::program::PoolKind;

/// Pools rows `seqs[i]` of `x`, `[n, cols]`, to row `i` of `out`.
pub(crate) fn pool(
    x: &[f32],
    cols: usize,
    kind: PoolKind,
    seqs: impl Iterator<Item = Range<usize>>,
    out: &mut [f32],
) {
    for (rows, out) in seqs.zip(out.chunks_exact_mut(cols)) {
        let row = |i: usize| &x[i * cols..][..cols];
        match kind {
            PoolKind::Cls => out.copy_from_slice(row(rows.start)),
            PoolKind::Last => out.copy_from_slice(row(rows.end - 1)),
            PoolKind::Mean => {
                let n = rows.len() as f32;
                out.fill(0.0);
                for i in rows {
                    out.iter_mut().zip(row(i)).for_each(|(sum, x)| *sum += x);
                }
                out.iter_mut().for_each(|sum| *sum /= n);
            }
        }
    }
}
