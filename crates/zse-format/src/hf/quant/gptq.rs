//! GPTQ (Frantar et al. 2022, <https://arxiv.org/abs/2210.17323>), as AutoGPTQ and GPTQModel store
//! it. Of a linear layer with `in` inputs and `out` outputs:
//!
//! - `qweight` i32 `[in * bits / 32, out]`: down each column a stream of `in` codes of `bits` bits,
//!   least significant first, in words one below the other.
//! - `qzeros` i32 `[groups, out * bits / 32]`: along each row a stream of `out` zero points. The
//!   first version stores them less one (modulo 2^bits), `gptq_v2` as they are.
//! - `scales` `[groups, out]`; a weight is `scale * (code - zero)`.
//! - `g_idx` i32 `[in]`: the group of each input; absent where they follow one another. With act
//!   order (`desc_act`) neighbours belong to different groups.

use super::Quantized;
use super::affine::{Affine, BLOCK, Codes, Description, GroupOf, Groups};
use super::numbers::{check_dtype, check_floats, check_shape, floats, matrix, unpack};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// What `quantization_config` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(super) bits: u32,
    /// Inputs of a group; `None` where all are one.
    pub(super) group_size: Option<usize>,
    /// Zero points are stored less one.
    pub(super) less_one: bool,
}

/// The tensors of a layer.
#[derive(Debug)]
pub(super) struct Gptq {
    pub(super) qweight: Raw,
    pub(super) qzeros: Raw,
    pub(super) scales: Raw,
    pub(super) g_idx: Option<Raw>,
}

#[derive(Debug)]
struct Stored {
    tensors: Gptq,
    bits: u32,
    less_one: bool,
    /// Outputs.
    rows: usize,
    groups: usize,
}

impl Gptq {
    /// # Errors
    /// What is wrong with the tensors.
    pub(super) fn read(self, parameters: Parameters) -> Result<Quantized, String> {
        let Parameters {
            bits,
            group_size,
            less_one,
        } = parameters;
        check_dtype("qweight", &self.qweight, &[Dtype::I32])?;
        check_dtype("qzeros", &self.qzeros, &[Dtype::I32])?;
        let [words, rows] = matrix("qweight", &self.qweight)?;
        let cols = words * 32 / bits as usize;
        let groups = matrix("scales", &self.scales)?[0];
        let size = group_size.unwrap_or(cols);
        if !(words * 32).is_multiple_of(bits as usize) || cols.div_ceil(size) != groups {
            return Err(format!(
                "has qweight of shape {:?} and {groups} groups, which {bits} bits and group size \
                 {size} do not explain",
                self.qweight.shape
            ));
        }
        let float = check_floats("scales", &self.scales, &[groups as u64, rows as u64])?;
        let zero_words = (rows * bits as usize).div_ceil(32);
        check_shape("qzeros", &self.qzeros, &[groups as u64, zero_words as u64])?;
        let group_of = match &self.g_idx {
            Some(g_idx) => GroupOf::read("g_idx", g_idx, cols, groups, size)?,
            None => GroupOf::Even(size),
        };
        let stored = Stored {
            tensors: self,
            bits,
            less_one,
            rows,
            groups,
        };
        let middle = 1u8 << (bits - 1);
        let symmetric = (0..groups).all(|g| stored.zeros(g).iter().all(|&zero| zero == middle));
        let description = Description {
            rows,
            cols,
            group_of,
            groups,
            bits,
            middle: symmetric.then_some(middle),
            float,
        };
        Ok(Quantized::Affine(Affine::new(
            Box::new(stored),
            description,
        )))
    }
}

impl Stored {
    /// The zero points of a group, one an output.
    fn zeros(&self, group: usize) -> Vec<u8> {
        let qzeros = &self.tensors.qzeros;
        let stride = 4 * qzeros.shape[1] as usize;
        let mut zeros = vec![0; self.rows];
        unpack(
            &qzeros.bytes()[group * stride..][..stride],
            self.bits,
            &mut zeros,
        );
        if self.less_one {
            let mask = u8::MAX >> (8 - self.bits);
            zeros
                .iter_mut()
                .for_each(|zero| *zero = zero.wrapping_add(1) & mask);
        }
        zeros
    }
}

impl Codes for Stored {
    fn codes(&self, row: usize, first: usize, codes: &mut [u8]) {
        let words = self.tensors.qweight.bytes().as_chunks::<4>().0;
        let bits = self.bits as usize;
        let mut stream = [0; BLOCK];
        let start = first * bits / 32;
        let count = (codes.len() * bits).div_ceil(32);
        for (k, to) in stream
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .take(count)
            .enumerate()
        {
            *to = words[(start + k) * self.rows + row];
        }
        unpack(&stream, self.bits, codes);
    }

    fn groups(&self) -> Groups {
        let (count, rows) = (self.groups, self.rows);
        let by_group = floats(&self.tensors.scales);
        let mut groups = Groups {
            scales: vec![0.0; by_group.len()],
            mins: vec![0.0; by_group.len()],
        };
        for (g, scales) in by_group.chunks_exact(rows).enumerate() {
            for (row, (scale, zero)) in scales.iter().zip(self.zeros(g)).enumerate() {
                groups.scales[row * count + g] = *scale;
                groups.mins[row * count + g] = -scale * f32::from(zero);
            }
        }
        groups
    }

    fn sources(&self) -> Vec<&Raw> {
        let Gptq {
            qweight,
            qzeros,
            scales,
            g_idx,
        } = &self.tensors;
        [qweight, qzeros, scales].into_iter().chain(g_idx).collect()
    }
}
