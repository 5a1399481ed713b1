//! MLX's affine quantization (`mlx.core.quantize`,
//! <https://ml-explore.github.io/mlx/build/html/python/_autosummary/mlx.core.quantize.html>). Of a
//! matrix of `rows` and `cols`:
//!
//! - `weight` u32 `[rows, cols * bits / 32]`: along each row a stream of codes of `bits` bits, least
//!   significant first.
//! - `scales` and `biases` `[rows, cols / group_size]`; a weight is `scale * code + bias`.

use super::Quantized;
use super::affine::{Affine, Codes, Description, GroupOf, Groups};
use super::numbers::{check_dtype, check_floats, floats, matrix, unpack};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// The tensors of a layer.
#[derive(Debug)]
pub(super) struct Mlx {
    pub(super) weight: Raw,
    pub(super) scales: Raw,
    pub(super) biases: Raw,
}

#[derive(Debug)]
struct Stored {
    tensors: Mlx,
    bits: u32,
}

impl Mlx {
    /// # Errors
    /// What is wrong with the tensors.
    pub(super) fn read(self, bits: u32, group_size: usize) -> Result<Quantized, String> {
        check_dtype("weight", &self.weight, &[Dtype::U32])?;
        let [rows, words] = matrix("weight", &self.weight)?;
        let groups = matrix("scales", &self.scales)?[1];
        let columns = groups.checked_mul(group_size).filter(|columns| {
            let bits = columns.checked_mul(bits as usize);
            bits.is_some() && bits == words.checked_mul(32)
        });
        let cols = columns.ok_or_else(|| {
            format!(
                "has weight of shape {:?} and {groups} groups, which {bits} bits and group size \
                 {group_size} do not explain",
                self.weight.shape
            )
        })?;
        let shape = [rows as u64, groups as u64];
        let float = check_floats("scales", &self.scales, &shape)?;
        check_floats("biases", &self.biases, &shape)?;
        let stored = Stored {
            tensors: self,
            bits,
        };
        let description = Description {
            rows,
            cols,
            group_of: GroupOf::Even(group_size),
            groups,
            bits,
            middle: None,
            float,
        };
        Ok(Quantized::Affine(Affine::new(
            Box::new(stored),
            description,
        )))
    }
}

impl Codes for Stored {
    fn codes(&self, row: usize, first: usize, codes: &mut [u8]) {
        let stride = 4 * self.tensors.weight.shape[1] as usize;
        let start = row * stride + first * self.bits as usize / 8;
        unpack(
            &self.tensors.weight.bytes()[start..(row + 1) * stride],
            self.bits,
            codes,
        );
    }

    fn groups(&self) -> Groups {
        Groups {
            scales: floats(&self.tensors.scales),
            mins: floats(&self.tensors.biases),
        }
    }

    fn sources(&self) -> Vec<&Raw> {
        vec![
            &self.tensors.weight,
            &self.tensors.scales,
            &self.tensors.biases,
        ]
    }
}
