//! compressed-tensors' `pack-quantized` (<https://github.com/vllm-project/compressed-tensors>): codes
//! of 4 or 8 bits. Of a matrix of `rows` and `cols`:
//!
//! - `weight_packed` i32 `[rows, cols * bits / 32]` (the last word of a row may be unfinished): along
//!   each row a stream of codes, least significant first. A code is a signed number plus 2^(bits-1).
//! - `weight_scale` `[rows, groups]`; one group a row where a channel has one scale.
//! - `weight_zero_point` i32 `[rows * bits / 32, groups]`: down each column a stream of `rows` codes;
//!   absent where all are 0. A weight is `scale * (number - zero_point)`.
//! - `weight_g_idx` i32 `[cols]`: the group of each column; absent, or -1 throughout, where they
//!   follow one another.
//! - `weight_shape` i64 or i32 `[2]`: rows and columns.

use super::Quantized;
use super::affine::{Affine, Codes, Description, GroupOf, Groups};
use super::numbers::{check_dtype, check_floats, check_shape, floats, matrix, unpack};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// The tensors of a layer.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) packed: Raw,
    pub(super) scales: Raw,
    pub(super) zero_points: Option<Raw>,
    pub(super) g_idx: Option<Raw>,
    pub(super) shape: Raw,
}

#[derive(Debug)]
struct Stored {
    tensors: Packed,
    bits: u32,
    groups: usize,
}

impl Packed {
    /// # Errors
    /// What is wrong with the tensors.
    pub(super) fn read(self) -> Result<Quantized, String> {
        check_dtype("weight_packed", &self.packed, &[Dtype::I32])?;
        let [rows, words] = matrix("weight_packed", &self.packed)?;
        let cols = self.cols(rows)?;
        let bits = match words {
            n if n == cols.div_ceil(8) => 4,
            n if n == cols.div_ceil(4) => 8,
            _ => {
                return Err(format!(
                    "has weight_packed of shape {:?} for {cols} columns; 4 and 8 bits are supported",
                    self.packed.shape
                ));
            }
        };
        let groups = matrix("weight_scale", &self.scales)?[1];
        if !cols.is_multiple_of(groups) {
            return Err(format!(
                "has {groups} groups, which do not divide {cols} columns"
            ));
        }
        let float = check_floats("weight_scale", &self.scales, &[rows as u64, groups as u64])?;
        if let Some(zeros) = &self.zero_points {
            check_dtype("weight_zero_point", zeros, &[Dtype::I32])?;
            let words = rows.div_ceil(32 / bits as usize);
            check_shape("weight_zero_point", zeros, &[words as u64, groups as u64])?;
        }
        let size = cols / groups;
        let group_of = match &self.g_idx {
            Some(g_idx) => GroupOf::read("weight_g_idx", g_idx, cols, groups, size)?,
            None => GroupOf::Even(size),
        };
        let description = Description {
            rows,
            cols,
            group_of,
            groups,
            bits,
            middle: self.zero_points.is_none().then_some(1 << (bits - 1)),
            float,
        };
        let stored = Stored {
            tensors: self,
            bits,
            groups,
        };
        Ok(Quantized::Affine(Affine::new(
            Box::new(stored),
            description,
        )))
    }

    /// The columns that `weight_shape` gives, whose rows must be `rows`.
    fn cols(&self, rows: usize) -> Result<usize, String> {
        check_shape("weight_shape", &self.shape, &[2])?;
        let bytes = self.shape.bytes();
        let sizes: Vec<i64> = match self.shape.dtype {
            Dtype::I64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| i64::from_le_bytes(b))
                .collect(),
            Dtype::I32 => {
                let sizes = bytes.as_chunks().0.iter();
                sizes.map(|&b| i64::from(i32::from_le_bytes(b))).collect()
            }
            dtype => return Err(format!("has weight_shape of dtype {}", dtype.name())),
        };
        // Far more than any matrix has, and far from an overflow.
        match (sizes[0] == rows as i64, sizes[1]) {
            (true, cols @ 1..0x1_0000_0000) => Ok(cols as usize),
            _ => Err(format!("has weight_shape {sizes:?} and {rows} rows")),
        }
    }
}

impl Stored {
    /// The code of the zero point of a row's group.
    fn zero(&self, row: usize, group: usize) -> u8 {
        let Some(zeros) = &self.tensors.zero_points else {
            return 1 << (self.bits - 1);
        };
        let bit = row * self.bits as usize;
        let word = bit / 32 * self.groups + group;
        let byte = zeros.bytes()[4 * word + bit % 32 / 8];
        byte >> (bit % 8) & (u8::MAX >> (8 - self.bits))
    }
}

impl Codes for Stored {
    fn codes(&self, row: usize, first: usize, codes: &mut [u8]) {
        let stride = 4 * self.tensors.packed.shape[1] as usize;
        let start = row * stride + first * self.bits as usize / 8;
        unpack(
            &self.tensors.packed.bytes()[start..(row + 1) * stride],
            self.bits,
            codes,
        );
    }

    fn groups(&self) -> Groups {
        let scales = floats(&self.tensors.scales);
        let mins = scales.iter().enumerate().map(|(i, scale)| {
            let zero = self.zero(i / self.groups, i % self.groups);
            -scale * f32::from(zero)
        });
        Groups {
            mins: mins.collect(),
            scales,
        }
    }

    fn sources(&self) -> Vec<&Raw> {
        let Packed {
            packed,
            scales,
            zero_points,
            g_idx,
            shape,
        } = &self.tensors;
        let all = [packed, scales, shape];
        all.into_iter().chain(zero_points).chain(g_idx).collect()
    }
}
