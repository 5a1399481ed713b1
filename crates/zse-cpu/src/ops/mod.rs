//! The operations, one file or folder each.

pub(crate) mod activations;
pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod linear;
pub(crate) mod moe;
pub(crate) mod norm;
pub(crate) mod pooling;
pub(crate) mod rope;

use crate::isa::Arch;
use crate::par;
use crate::pool::Step;

/// What an operation runs on.
#[derive(Clone, Copy)]
pub(crate) struct Ctx<'a> {
    /// Instruction set.
    pub(crate) arch: Arch,
    /// Threads.
    pub(crate) step: &'a Step<'a>,
}

impl Ctx<'_> {
    /// Calls `run(first_row, rows)` for runs of rows of `out`, `[n, cols]`, in parallel.
    pub(crate) fn rows(
        &self,
        out: &mut [f32],
        cols: usize,
        run: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let rows = out.len() / cols;
        let chunk = par::chunk_len(self.step, rows, cols);
        par::for_parts(self.step, out, chunk * cols, |first, part| {
            run(first / cols, part)
        });
    }
}

/// Makes `vec` hold `len` elements and, if it grows, keeps room for no more: what vectors set aside
/// to grow on is in no plan of the memory.
pub(crate) fn resize<T: Clone>(vec: &mut Vec<T>, len: usize, value: T) {
    vec.reserve_exact(len.saturating_sub(vec.len()));
    vec.resize(len, value);
}
