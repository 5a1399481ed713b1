//! bitsandbytes' 4 bits, NF4 and FP4 (Dettmers et al. 2023, QLoRA,
//! <https://arxiv.org/abs/2305.14314>). Of a matrix of `n` weights, which stand row after row:
//!
//! - `weight` u8 `[n / 2, 1]`: two indices a byte, the first in the high nibble.
//! - `weight.quant_map` f32 `[16]`: the number of each index.
//! - `weight.absmax` f32 `[n / blocksize]`: the scale of each block; or, quantized in turn, u8 with
//!   - `weight.nested_quant_map` f32 `[256]`,
//!   - `weight.nested_absmax` f32 `[n / blocksize / nested_blocksize]`, and `nested_offset`: the scale
//!     is `nested_quant_map[absmax] * nested_absmax + nested_offset`.
//! - `weight.quant_state.bitsandbytes__nf4` (or `__fp4`) u8: a JSON object with `shape`, `dtype`,
//!   `blocksize`, `nested_blocksize`, `nested_offset`.
//!
//! The numbers are no multiples of a step, so a weight becomes a float of type `dtype`, as
//! bitsandbytes makes it.

use std::ops::Range;

use serde::Deserialize;
use zse_quant::GgmlType;

use super::Quantized;
use super::affine::put;
use super::numbers::{check_dtype, check_floats, check_shape, floats};
use crate::hf::weights::Raw;
use crate::safetensors::Dtype;

/// The tensors of a layer.
#[derive(Debug)]
pub(super) struct Tensors {
    pub(super) weight: Raw,
    pub(super) quant_map: Raw,
    pub(super) absmax: Raw,
    /// `nested_quant_map` and `nested_absmax`.
    pub(super) nested: Option<[Raw; 2]>,
    pub(super) state: Raw,
}

#[derive(Debug, Deserialize)]
struct State {
    shape: [u32; 2],
    dtype: String,
    blocksize: u32,
    #[serde(default)]
    nested_blocksize: Option<u32>,
    #[serde(default)]
    nested_offset: Option<f32>,
}

/// A matrix of indices into a table of numbers.
#[derive(Debug)]
pub(crate) struct Codebook {
    tensors: Tensors,
    rows: usize,
    cols: usize,
    block: usize,
    nested_block: usize,
    nested_offset: f32,
    ty: GgmlType,
}

/// Largest JSON of a state.
const MAX_STATE: usize = 1 << 16;

impl Tensors {
    /// # Errors
    /// What is wrong with the tensors.
    pub(super) fn read(self) -> Result<Quantized, String> {
        let json = self.state.bytes();
        if json.len() > MAX_STATE {
            return Err(format!("has a quant_state of {} bytes", json.len()));
        }
        let state: State = serde_json::from_slice(json)
            .map_err(|e| format!("has a quant_state that is wrong: {e}"))?;
        let [rows, cols] = state.shape.map(|n| n as usize);
        let (n, block) = (rows as u64 * cols as u64, u64::from(state.blocksize));
        if n == 0 || n % 2 == 1 || block < 2 || block % 2 == 1 {
            let shape = state.shape;
            return Err(format!(
                "has shape {shape:?} in blocks of {block}, which is not supported"
            ));
        }
        let ty = match &*state.dtype {
            "float16" => GgmlType::F16,
            "bfloat16" => GgmlType::Bf16,
            "float32" => GgmlType::F32,
            dtype => return Err(format!("has a quant_state with dtype {dtype:?}")),
        };
        check_dtype("weight", &self.weight, &[Dtype::U8])?;
        if self.weight.bytes().len() as u64 != n / 2 {
            return Err(format!(
                "has weight of shape {:?} for {n} weights",
                self.weight.shape
            ));
        }
        check_table("quant_map", &self.quant_map, 16)?;
        let blocks = n.div_ceil(block);
        check_shape("absmax", &self.absmax, &[blocks])?;
        let nested_block = u64::from(state.nested_blocksize.unwrap_or(1)).max(1);
        match &self.nested {
            Some([map, absmax]) => {
                check_dtype("absmax", &self.absmax, &[Dtype::U8])?;
                check_table("nested_quant_map", map, 256)?;
                check_table("nested_absmax", absmax, blocks.div_ceil(nested_block))?;
            }
            None => check_table("absmax", &self.absmax, blocks)?,
        }
        Ok(Quantized::Codebook(Box::new(Codebook {
            tensors: self,
            rows,
            cols,
            block: block as usize,
            nested_block: nested_block as usize,
            nested_offset: state.nested_offset.unwrap_or(0.0),
            ty,
        })))
    }
}

fn check_table(what: &str, raw: &Raw, len: u64) -> Result<(), String> {
    check_floats(what, raw, &[len]).map(drop)
}

impl Codebook {
    pub(super) fn ty(&self) -> GgmlType {
        self.ty
    }

    pub(super) fn shape(&self) -> [u64; 2] {
        [self.rows as u64, self.cols as u64]
    }

    pub(super) fn sources(&self) -> Vec<&Raw> {
        let Tensors {
            weight,
            quant_map,
            absmax,
            nested,
            state,
        } = &self.tensors;
        let all = [weight, quant_map, absmax, state];
        all.into_iter().chain(nested.iter().flatten()).collect()
    }

    /// Writes these rows of [`ty`](Self::ty).
    pub(super) fn write(&self, rows: Range<usize>, mut out: &mut [u8]) {
        let numbers = floats(&self.tensors.quant_map);
        let width = self.ty.row_bytes(1).expect("a float");
        let bytes = self.tensors.weight.bytes();
        let (mut at, end) = (rows.start * self.cols, rows.end * self.cols);
        let blocks = at / self.block..end.div_ceil(self.block);
        // Rows may begin within a block, and within a byte.
        for (block, scale) in blocks.clone().zip(self.scales(blocks)) {
            let next = end.min((block + 1) * self.block);
            let (written, rest) = out.split_at_mut((next - at) * width);
            let weights = (at..next).map(|i| {
                let index = bytes[i / 2] >> (4 * (1 - i % 2)) & 15;
                numbers[usize::from(index)] * scale
            });
            put(self.ty, weights, written);
            (at, out) = (next, rest);
        }
    }

    /// The scales of these blocks.
    fn scales(&self, blocks: Range<usize>) -> Vec<f32> {
        let Some([map, absmax]) = &self.tensors.nested else {
            return floats(&self.tensors.absmax)[blocks].to_vec();
        };
        let (map, absmax) = (floats(map), floats(absmax));
        let indices = &self.tensors.absmax.bytes()[blocks.clone()];
        let scales = blocks.zip(indices).map(|(i, &index)| {
            map[usize::from(index)] * absmax[i / self.nested_block] + self.nested_offset
        });
        scales.collect()
    }
}
