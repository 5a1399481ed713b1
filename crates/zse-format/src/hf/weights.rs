//! Weights in the forms of a directory, and how GGUF's are made of them.

use std::ops::Range;
use std::sync::Arc;

use zse_quant::GgmlType;

use super::fp8::Fp8;
use super::quant::Quantized;
use super::rules::Change;
use crate::data::{Make, rows_of};
use crate::safetensors::{Dtype, SafetensorsView};
use crate::source::Source;

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    source: Arc<Source>,
    /// The number of the source among the directory's.
    pub(crate) number: u32,
    /// Where its bytes start in the file.
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) dtype: Dtype,
    /// Slowest dimension first.
    pub(crate) shape: Box<[u64]>,
}

impl Raw {
    /// Of `view`, a tensor of `source`, which is number `number`.
    pub(crate) fn new(source: &Arc<Source>, number: u32, view: &SafetensorsView<'_>) -> Self {
        let start = view.data.as_ptr().addr() - source.bytes().as_ptr().addr();
        Self {
            source: Arc::clone(source),
            number,
            start,
            len: view.data.len(),
            dtype: view.dtype,
            shape: view.shape.into(),
        }
    }

    /// The rows from `first` on; `None` if it is no matrix with more.
    pub(crate) fn rows_from(&self, first: u64) -> Option<Self> {
        let [rows, cols] = *self.shape else {
            return None;
        };
        let left = rows.checked_sub(first).filter(|left| *left > 0)?;
        let len = self.len / rows as usize * left as usize;
        Some(Self {
            start: self.start + self.len - len,
            len,
            shape: [left, cols].into(),
            source: Arc::clone(&self.source),
            ..*self
        })
    }

    /// Number `e` of the `n` parts that it is a stack of; `None` if it is no such stack.
    pub(crate) fn of_stack(&self, e: usize, n: usize) -> Option<Self> {
        let (count, shape) = self.shape.split_first()?;
        if *count != n as u64 || shape.is_empty() || e >= n {
            return None;
        }
        let len = self.len / n;
        Some(Self {
            start: self.start + e * len,
            len,
            shape: shape.into(),
            source: Arc::clone(&self.source),
            ..*self
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.source.bytes()[self.start..self.start + self.len]
    }

    /// Lets go of the file's pages.
    fn release(&self) {
        self.source.release(self.start..self.start + self.len);
    }

    /// As [`release`](Self::release), for `rows` of `total`.
    fn release_rows(&self, rows: &Range<usize>, total: usize) {
        let row = self.len / total;
        let bytes = self.start + rows.start * row..self.start + rows.end * row;
        self.source.release(bytes);
    }

    /// The ggml type with the same encoding.
    pub(crate) fn float(&self) -> Option<GgmlType> {
        Some(match self.dtype {
            Dtype::F32 => GgmlType::F32,
            Dtype::F16 => GgmlType::F16,
            Dtype::Bf16 => GgmlType::Bf16,
            _ => return None,
        })
    }
}

/// A matrix, or a vector as its only row, in a form that was checked: writing it cannot fail.
#[derive(Debug)]
pub(crate) enum Matrix {
    /// Floats, row after row.
    Plain(Raw, GgmlType),
    /// FP8 with scales.
    Fp8(Fp8),
    /// Integers with scales.
    Quantized(Quantized),
    /// Numbers that are in no file.
    Numbers(Vec<f32>),
}

impl Matrix {
    /// The type that [`write`](Self::write) writes.
    pub(crate) fn ty(&self) -> GgmlType {
        match self {
            Self::Plain(_, ty) => *ty,
            Self::Fp8(_) => GgmlType::Bf16,
            Self::Quantized(quantized) => quantized.ty(),
            Self::Numbers(_) => GgmlType::F32,
        }
    }

    /// Dimensions, slowest first: `[rows, cols]`, or `[cols]` of a vector.
    pub(crate) fn shape(&self) -> Vec<u64> {
        match self {
            Self::Plain(raw, _) => raw.shape.to_vec(),
            Self::Fp8(fp8) => fp8.shape().to_vec(),
            Self::Quantized(quantized) => quantized.shape().to_vec(),
            Self::Numbers(numbers) => vec![numbers.len() as u64],
        }
    }

    /// Writes these rows of all `total` to `out`, which is as long as they are.
    fn write(&self, rows: Range<usize>, total: usize, out: &mut [u8]) {
        match self {
            Self::Plain(raw, _) => {
                let row = raw.len / total;
                out.copy_from_slice(&raw.bytes()[rows.start * row..rows.end * row]);
            }
            Self::Fp8(fp8) => fp8.write(rows, out),
            Self::Quantized(quantized) => quantized.write(rows, out),
            // A vector has one row.
            Self::Numbers(numbers) => put_f32s(numbers, out),
        }
    }

    /// Lets go of the pages that these rows of all `total` are made of. Where a format runs along
    /// columns that is when the last rows were made.
    fn release(&self, rows: &Range<usize>, total: usize) {
        let is_end = rows.end == total;
        match self {
            Self::Plain(raw, _) => raw.release_rows(rows, total),
            Self::Fp8(fp8) => {
                let [numbers, scales] = fp8.sources();
                numbers.release_rows(rows, total);
                if is_end {
                    scales.release();
                }
            }
            Self::Quantized(quantized) if is_end => {
                quantized.sources().into_iter().for_each(Raw::release);
            }
            Self::Quantized(_) | Self::Numbers(_) => {}
        }
    }
}

/// How a tensor is made: parts of one shape and type behind one another, changed.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(super) parts: Vec<Matrix>,
    /// Rows of a part; `None` of a vector.
    pub(super) rows: Option<usize>,
    /// Numbers of a row; whole blocks of `from` and `to`.
    pub(super) cols: usize,
    /// The type of the parts.
    pub(super) from: GgmlType,
    /// `from`, or F32 of a type that can be decoded.
    pub(super) to: GgmlType,
    pub(super) change: Change,
    /// Heads of a part, which divide its rows (or a vector's numbers) evenly.
    pub(super) heads: usize,
}

impl Recipe {
    /// Where the result is what a file has: that.
    pub(super) fn in_place(&self) -> Option<&Raw> {
        match &self.parts[..] {
            [Matrix::Plain(raw, _)] if self.is_unchanged() => Some(raw),
            _ => None,
        }
    }

    fn is_unchanged(&self) -> bool {
        self.from == self.to && self.change == Change::None
    }

    /// Rows of a part; a vector is one.
    fn rows(&self) -> usize {
        self.rows.unwrap_or(1)
    }

    fn row_bytes(&self, ty: GgmlType) -> usize {
        ty.row_bytes(self.cols).expect("rows are whole blocks")
    }

    fn write_changed(&self, part: &Matrix, rows: Range<usize>, out: &mut [u8]) {
        let is_rotated = matches!(self.change, Change::RotatedQueries | Change::RotatedKeys);
        // Heads of a matrix are changed as wholes.
        let step = match self.rows {
            Some(total) if is_rotated => total / self.heads,
            _ => 1,
        };
        let whole = rows.start / step * step..rows.end.next_multiple_of(step);
        let mut bytes = vec![0; whole.len() * self.row_bytes(self.from)];
        part.write(whole.clone(), self.rows(), &mut bytes);
        if self.to != self.from || self.change == Change::PlusOne {
            let mut numbers = vec![0.0; whole.len() * self.cols];
            zse_quant::decode(self.from, &bytes, &mut numbers).expect("a type that can be decoded");
            if self.change == Change::PlusOne {
                numbers.iter_mut().for_each(|x| *x += 1.0);
            }
            bytes = vec![0; whole.len() * self.row_bytes(self.to)];
            put_f32s(&numbers, &mut bytes);
        }
        if !is_rotated {
            return out.copy_from_slice(&bytes);
        }
        let row = self.row_bytes(self.to);
        // What is moved: rows, or a vector's numbers.
        let (heads, unit) = match self.rows {
            Some(_) => (whole.len() / step, row),
            None => (self.heads, row / self.cols),
        };
        if whole == rows {
            return interleave(&bytes, out, heads, unit);
        }
        let mut changed = vec![0; bytes.len()];
        interleave(&bytes, &mut changed, heads, unit);
        let first = (rows.start - whole.start) * row;
        out.copy_from_slice(&changed[first..first + out.len()]);
    }
}

impl Make for Recipe {
    fn len(&self) -> usize {
        self.parts.len() * self.rows() * self.row_bytes(self.to)
    }

    fn make(&self, range: Range<usize>) -> Vec<u8> {
        let row = self.row_bytes(self.to);
        let mut out = vec![0; range.len()];
        let mut left = &mut out[..];
        for (part, rows) in rows_of(range, row, self.rows()) {
            let (to, rest) = left.split_at_mut(rows.len() * row);
            let part = &self.parts[part];
            match self.is_unchanged() {
                true => part.write(rows, self.rows(), to),
                false => self.write_changed(part, rows, to),
            }
            left = rest;
        }
        out
    }

    fn release(&self, range: Range<usize>) {
        for (part, rows) in rows_of(range, self.row_bytes(self.to), self.rows()) {
            self.parts[part].release(&rows, self.rows());
        }
    }
}

/// Copies rows of `row` bytes: those of each head come from its two halves in turn.
pub(crate) fn interleave(from: &[u8], to: &mut [u8], heads: usize, row: usize) {
    let head = from.len() / heads;
    for (from, to) in from.chunks_exact(head).zip(to.chunks_exact_mut(head)) {
        let (first, second) = from.split_at(head / 2);
        let pairs = first.chunks_exact(row).zip(second.chunks_exact(row));
        for (to, (a, b)) in to.chunks_exact_mut(2 * row).zip(pairs) {
            to[..row].copy_from_slice(a);
            to[row..].copy_from_slice(b);
        }
    }
}

fn put_f32s(numbers: &[f32], out: &mut [u8]) {
    for (to, x) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
        *to = x.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_heads_become_neighbours() {
        // Two heads of four rows of two bytes.
        let from: Vec<u8> = (0..16).collect();
        let mut to = [0; 16];
        interleave(&from, &mut to, 2, 2);
        assert_eq!(to, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
    }
}
