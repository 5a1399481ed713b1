//! What a table row holds: sizes, fields, and the functions that follow from a block's layout.

use crate::block::{Field, Layout, blocks};
use crate::contract::{ActivationBlocks, Block32, Contract, Unpack, dot_blocks};
use crate::decode::decode_blocks;
use crate::float::{Float, decode_floats, dot_floats};

/// Everything the crate knows about a type.
pub(crate) struct Format {
    pub(crate) block_len: usize,
    pub(crate) block_bytes: usize,
    /// Fields of `pack_blocks` blocks taken together.
    pub(crate) fields: &'static [Field],
    /// Blocks of a row that pack as one: 2 for 16-bit floats, else 1.
    pub(crate) pack_blocks: usize,
    pub(crate) codec: Codec,
}

/// How the bytes become numbers.
pub(crate) enum Codec {
    /// Small integers with scales.
    Quantized(Quantized),
    /// One float a value.
    Float(FloatCodec),
    /// Not a weight.
    Stored,
}

/// Functions over rows of quantized blocks; callers have checked all lengths.
pub(crate) struct Quantized {
    pub(crate) contract: Contract,
    pub(crate) decode: fn(&[u8], &mut [f32]),
    pub(crate) unpack: fn(&[u8], usize) -> Option<Block32>,
    pub(crate) dot: fn(&[u8], &ActivationBlocks<'_>) -> f32,
}

/// Functions over rows of floats; callers have checked all lengths.
pub(crate) struct FloatCodec {
    pub(crate) decode: fn(&[u8], &mut [f32]),
    pub(crate) dot: fn(&[u8], &[f32]) -> f32,
}

impl Format {
    pub(crate) const fn quantized<B: Unpack>() -> Self {
        Self {
            block_len: B::LEN,
            block_bytes: size_of::<B>(),
            fields: B::FIELDS,
            pack_blocks: 1,
            codec: Codec::Quantized(Quantized {
                contract: B::CONTRACT,
                decode: decode_blocks::<B>,
                unpack: unpack_group::<B>,
                dot: dot_blocks::<B>,
            }),
        }
    }

    pub(crate) const fn float<T: Float>() -> Self {
        Self {
            block_len: 1,
            block_bytes: T::BYTES,
            fields: &[Field {
                offset: 0,
                len: 4,
                unit: 4,
            }],
            pack_blocks: 4 / T::BYTES,
            codec: Codec::Float(FloatCodec {
                decode: decode_floats::<T>,
                dot: dot_floats::<T>,
            }),
        }
    }

    pub(crate) const fn stored(bytes: usize) -> Self {
        Self {
            block_len: 1,
            block_bytes: bytes,
            fields: &[],
            pack_blocks: 1,
            codec: Codec::Stored,
        }
    }
}

/// Group `g` of 32 of a row; `None` past its end.
fn unpack_group<B: Unpack + Layout>(row: &[u8], g: usize) -> Option<Block32> {
    let groups = B::LEN / 32;
    blocks::<B>(row)
        .get(g / groups)
        .map(|block| block.unpack(g % groups))
}
