//! Quantized weights as the world of Hugging Face stores them, and the rows of ggml's types that
//! hold the same numbers.
//!
//! | file | formats |
//! |---|---|
//! | `gptq.rs` | GPTQ, 2, 3, 4 and 8 bits |
//! | `awq.rs` | AWQ, 4 bits |
//! | `mlx.rs` | MLX's affine groups, 2, 3, 4, 5, 6 and 8 bits |
//! | `compressed.rs` | compressed-tensors' `pack-quantized`, 4 and 8 bits |
//! | `int8.rs` | a signed byte a weight: compressed-tensors' `int-quantized`, bitsandbytes' LLM.int8 |
//! | `codebook.rs` | bitsandbytes' NF4 and FP4 |
//! | `method.rs`, `announced.rs` | what `config.json` says of them |
//!
//! All but NF4 and FP4 are affine: a weight is `scale * code + min`, where a group of a row's weights
//! shares scale and minimum. If 32 weights in a row never span groups, ggml's blocks of 32 hold
//! them with the very codes:
//!
//! | codes | type |
//! |---|---|
//! | up to 4 bits, around a fixed middle | Q4_0 |
//! | up to 4 bits | Q4_1 |
//! | 5 bits | Q5_1 |
//! | 8 bits, around a fixed middle | Q8_0 |
//!
//! There scale and minimum are in half precision: exact where the format has F16 or BF16 (but for
//! BF16 below 2^-14, which lose what half precision lacks of them), and a minimum that is a
//! product of scale and zero point is rounded by at most 1/256 of a step, which is no more than
//! the format's own arithmetic in half precision rounds. Everything else (order of activation,
//! codebooks, 6 and 8 bits with a minimum) becomes floats of the type of the scales, as the
//! formats' own libraries compute them.

mod affine;
mod announced;
mod awq;
mod codebook;
mod compressed;
mod gptq;
mod int8;
mod method;
mod mlx;
mod numbers;

use std::ops::Range;

use zse_quant::GgmlType;

use super::weights::Raw;
use affine::Affine;
use codebook::Codebook;
pub(super) use method::Method;

/// A matrix in a quantized format, checked: writing it cannot fail.
#[derive(Debug)]
pub(crate) enum Quantized {
    Affine(Affine),
    Codebook(Box<Codebook>),
}

impl Quantized {
    /// The type that [`write`](Self::write) writes.
    pub(super) fn ty(&self) -> GgmlType {
        match self {
            Self::Affine(affine) => affine.ty(),
            Self::Codebook(codebook) => codebook.ty(),
        }
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> [u64; 2] {
        match self {
            Self::Affine(affine) => affine.shape(),
            Self::Codebook(codebook) => codebook.shape(),
        }
    }

    /// Writes these rows to `out`, which is as long as they are.
    pub(super) fn write(&self, rows: Range<usize>, out: &mut [u8]) {
        match self {
            Self::Affine(affine) => affine.write(rows, out),
            Self::Codebook(codebook) => codebook.write(rows, out),
        }
    }

    /// The tensors of files that it is made of.
    pub(super) fn sources(&self) -> Vec<&Raw> {
        match self {
            Self::Affine(affine) => affine.sources(),
            Self::Codebook(codebook) => codebook.sources(),
        }
    }
}
