//! FP8 weights: E4M3 numbers (Micikevicius et al. 2022, arXiv:2209.05433) with a scale for a block
//! of rows and columns (DeepSeek-V3, arXiv:2412.19437), for a row, or for all of them.
//!
//! A weight is the product of number and scale rounded to BF16, as DeepSeek's own conversion has
//! it; where scales are powers of two nothing is rounded.

use std::ops::Range;

use half::{bf16, f16};
use zse_quant::e4m3;

use super::weights::Raw;
use crate::safetensors::Dtype;

/// A matrix in FP8.
#[derive(Debug)]
pub(crate) struct Fp8 {
    /// The numbers, then the scales.
    sources: [Raw; 2],
    rows: usize,
    cols: usize,
    /// Rows and columns that share a scale.
    block: [usize; 2],
}

impl Fp8 {
    /// A matrix of `numbers` with `scales`: one, one for each row, or one for each block of
    /// `block` rows and columns.
    ///
    /// # Errors
    /// What is wrong with their shapes or types.
    pub(super) fn new(
        numbers: Raw,
        scales: Raw,
        block: Option<[usize; 2]>,
    ) -> Result<Self, String> {
        let &[rows, cols] = &*numbers.shape else {
            return Err(format!(
                "has shape {:?}, but FP8 weights are matrices",
                numbers.shape
            ));
        };
        if rows == 0 || cols == 0 {
            return Err("has no numbers".to_owned());
        }
        let (rows, cols) = (rows as usize, cols as usize);
        let count = scales.shape.iter().product::<u64>() as usize;
        let block = match block {
            Some([r, c])
                if scales.shape[..] == [rows.div_ceil(r) as u64, cols.div_ceil(c) as u64] =>
            {
                [r.min(rows), c.min(cols)]
            }
            _ if count == 1 => [rows, cols],
            // Where blocks are announced, as many scales as rows are those of other blocks.
            None if count == rows => [1, cols],
            _ => {
                return Err(format!(
                    "has shape {:?}, which its scales of shape {:?} do not cover",
                    numbers.shape, scales.shape
                ));
            }
        };
        if decode(scales.dtype, &[0; 4]).is_none() {
            return Err(format!("has scales of type {}", scales.dtype.name()));
        }
        Ok(Self {
            sources: [numbers, scales],
            rows,
            cols,
            block,
        })
    }

    pub(super) fn shape(&self) -> [u64; 2] {
        [self.rows as u64, self.cols as u64]
    }

    /// The tensors of files that it is made of.
    pub(super) fn sources(&self) -> &[Raw; 2] {
        &self.sources
    }

    /// Writes these rows in BF16, one after the other.
    pub(super) fn write(&self, rows: Range<usize>, mut out: &mut [u8]) {
        let [numbers, scales] = &self.sources;
        let [block_rows, block_cols] = self.block;
        let (dtype, width) = (scales.dtype, (scales.dtype.bits() / 8) as usize);
        // Those of a band of rows that share scales.
        let band_scales = self.cols.div_ceil(block_cols) * width;
        let mut row = rows.start;
        while row < rows.end {
            let band = row / block_rows;
            let end = rows.end.min((band + 1) * block_rows);
            let numbers = &numbers.bytes()[row * self.cols..end * self.cols];
            let (written, rest) = out.split_at_mut(2 * numbers.len());
            let scales = scales.bytes()[band * band_scales..].chunks_exact(width);
            for (first, scale) in (0..self.cols).step_by(block_cols).zip(scales) {
                let cols = first..self.cols.min(first + block_cols);
                let scale = decode(dtype, scale).expect("a type that was checked");
                let weights = products(scale);
                let rows = numbers.chunks_exact(self.cols);
                for (row, out) in rows.zip(written.chunks_exact_mut(2 * self.cols)) {
                    let out = out.as_chunks_mut().0[cols.clone()].iter_mut();
                    for (to, &from) in out.zip(&row[cols.clone()]) {
                        *to = weights[usize::from(from)];
                    }
                }
            }
            (row, out) = (end, rest);
        }
    }
}

/// Every number times `scale`.
fn products(scale: f32) -> [[u8; 2]; 256] {
    std::array::from_fn(|i| bf16::from_f32(e4m3::widen(i as u8) * scale).to_le_bytes())
}

/// A scale; `None` of a type that no scale has.
fn decode(dtype: Dtype, bytes: &[u8]) -> Option<f32> {
    let half = || u16::from_le_bytes([bytes[0], bytes[1]]);
    Some(match dtype {
        Dtype::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        Dtype::F16 => f16::from_bits(half()).to_f32(),
        Dtype::Bf16 => bf16::from_bits(half()).to_f32(),
        Dtype::F8E8M0 => (f32::from(bytes[0]) - 127.0).exp2(),
        _ => return None,
    })
}
