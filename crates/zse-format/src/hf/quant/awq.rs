//! AWQ (Lin et al. 2023, <https://arxiv.org/abs/2306.00978>) in AutoAWQ's layout `gemm`: 4 bits. Of
//! a linear layer with `in` inputs and `out` outputs:
//!
//! - `qweight` i32 `[in, out / 8]`: nibble n (from the least significant) of word w in a row is the
//!   code of output `8 * w + ORDER[n]`.
//! - `qzeros` i32 `[in / group_size, out / 8]`: zero points, in the same order.
//! - `scales` `[in / group_size, out]`; a weight is `scale * (code - zero)`.

use super::Quantized;
use super::affine::{Affine, Codes, Description, GroupOf, Groups};
use super::numbers::{check_dtype, check_floats, check_shape, floats, matrix};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// The output of each nibble among the eight of a word.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
/// The nibble of each output: the inverse of [`ORDER`].
const NIBBLE: [usize; 8] = {
    let (mut nibble, mut n) = ([0; 8], 0);
    while n < 8 {
        nibble[ORDER[n]] = n;
        n += 1;
    }
    nibble
};

/// The tensors of a layer.
#[derive(Debug)]
pub(super) struct Awq {
    pub(super) qweight: Raw,
    pub(super) qzeros: Raw,
    pub(super) scales: Raw,
}

impl Awq {
    /// `group_size` is that of `quantization_config`, `None` where all inputs are one group.
    ///
    /// # Errors
    /// What is wrong with the tensors.
    pub(super) fn read(self, group_size: Option<usize>) -> Result<Quantized, String> {
        check_dtype("qweight", &self.qweight, &[Dtype::I32])?;
        check_dtype("qzeros", &self.qzeros, &[Dtype::I32])?;
        let [cols, words] = matrix("qweight", &self.qweight)?;
        let rows = 8 * words;
        let size = group_size.unwrap_or(cols);
        let groups = cols.div_ceil(size);
        let float = check_floats("scales", &self.scales, &[groups as u64, rows as u64])?;
        check_shape("qzeros", &self.qzeros, &[groups as u64, words as u64])?;
        let description = Description {
            rows,
            cols,
            group_of: GroupOf::Even(size),
            groups,
            bits: 4,
            middle: None,
            float,
        };
        Ok(Quantized::Affine(Affine::new(Box::new(self), description)))
    }
}

/// The nibble of `output` in row `row` of a packed tensor.
fn nibble(packed: &Raw, row: usize, output: usize) -> u8 {
    let word = row * packed.shape[1] as usize + output / 8;
    let n = NIBBLE[output % 8];
    packed.bytes()[4 * word + n / 2] >> (4 * (n % 2)) & 15
}

impl Codes for Awq {
    fn codes(&self, row: usize, first: usize, codes: &mut [u8]) {
        for (col, code) in (first..).zip(codes) {
            *code = nibble(&self.qweight, col, row);
        }
    }

    fn groups(&self) -> Groups {
        let by_group = floats(&self.scales);
        let rows = self.scales.shape[1] as usize;
        let count = by_group.len() / rows;
        let mut groups = Groups {
            scales: vec![0.0; by_group.len()],
            mins: vec![0.0; by_group.len()],
        };
        for (g, scales) in by_group.chunks_exact(rows).enumerate() {
            for (row, scale) in scales.iter().enumerate() {
                groups.scales[row * count + g] = *scale;
                groups.mins[row * count + g] = -scale * f32::from(nibble(&self.qzeros, g, row));
            }
        }
        groups
    }

    fn sources(&self) -> Vec<&Raw> {
        vec![&self.qweight, &self.qzeros, &self.scales]
    }
}
