//! A signed byte a weight.
//!
//! - compressed-tensors' `int-quantized` (<https://github.com/vllm-project/compressed-tensors>):
//!   `weight` i8 `[rows, cols]`, `weight_scale` `[rows, groups]`, `[rows, 1]` or `[1]`, and
//!   perhaps `weight_zero_point` of the same shape; a weight is `scale * (number - zero_point)`.
//! - bitsandbytes' LLM.int8 (Dettmers et al. 2022, <https://arxiv.org/abs/2208.07339>): `weight` i8
//!   `[rows, cols]` and `SCB` f32 `[rows]`, the largest magnitude of each row; a weight is
//!   `SCB * number / 127`.

use super::Quantized;
use super::affine::{Affine, Codes, Description, GroupOf, Groups};
use super::numbers::{check_dtype, check_floats, check_shape, floats, matrix};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// The middle of a byte: codes are numbers plus this.
const MIDDLE: u8 = 128;

/// The tensors of a layer.
#[derive(Debug)]
pub(super) struct Int8 {
    pub(super) weight: Raw,
    pub(super) scales: Raw,
    pub(super) zero_points: Option<Raw>,
    /// What scales are divided by.
    pub(super) divisor: f32,
}

impl Int8 {
    /// # Errors
    /// What is wrong with the tensors.
    pub(super) fn read(self) -> Result<Quantized, String> {
        check_dtype("weight", &self.weight, &[Dtype::I8])?;
        let [rows, cols] = matrix("weight", &self.weight)?;
        let count = self.scales.shape.iter().product::<u64>() as usize;
        if count == 0 || count != 1 && !count.is_multiple_of(rows) {
            return Err(format!(
                "has scales of shape {:?}, which do not cover {rows} rows",
                self.scales.shape
            ));
        }
        let groups = count.div_ceil(rows);
        let float = check_floats("scales", &self.scales, &self.scales.shape)?;
        if !cols.is_multiple_of(groups) {
            return Err(format!(
                "has {groups} groups, which do not divide {cols} columns"
            ));
        }
        if let Some(zero_points) = &self.zero_points {
            check_dtype("zero points", zero_points, &[Dtype::I8])?;
            check_shape("zero points", zero_points, &self.scales.shape)?;
        }
        let zero_points = self.zero_points.as_ref();
        let symmetric = zero_points.is_none_or(|zeros| zeros.bytes().iter().all(|&z| z == 0));
        let description = Description {
            rows,
            cols,
            group_of: GroupOf::Even(cols / groups),
            groups,
            bits: 8,
            middle: symmetric.then_some(MIDDLE),
            float,
        };
        Ok(Quantized::Affine(Affine::new(Box::new(self), description)))
    }
}

impl Codes for Int8 {
    fn codes(&self, row: usize, first: usize, codes: &mut [u8]) {
        let start = row * self.weight.shape[1] as usize + first;
        for (code, number) in codes.iter_mut().zip(&self.weight.bytes()[start..]) {
            *code = number.wrapping_add(MIDDLE);
        }
    }

    fn groups(&self) -> Groups {
        let mut scales = floats(&self.scales);
        scales.iter_mut().for_each(|scale| *scale /= self.divisor);
        let zero = |i: usize| match &self.zero_points {
            Some(zeros) => f32::from(zeros.bytes()[i] as i8),
            None => 0.0,
        };
        let mut mins: Vec<f32> = (0..)
            .zip(&scales)
            .map(|(i, scale)| -scale * (f32::from(MIDDLE) + zero(i)))
            .collect();
        // One scale for all rows.
        if let ([scale], [min]) = (&scales[..], &mins[..]) {
            let rows = self.weight.shape[0] as usize;
            (scales, mins) = (vec![*scale; rows], vec![*min; rows]);
        }
        Groups { scales, mins }
    }

    fn sources(&self) -> Vec<&Raw> {
        let all = [&self.weight, &self.scales];
        all.into_iter().chain(&self.zero_points).collect()
    }
}
