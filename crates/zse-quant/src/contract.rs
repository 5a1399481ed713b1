//! The numeric contract of a quantized dot product: the one definition that the reference and
//! every SIMD kernel share, bit for bit.
//!
//! **Activations** are rounded to 8 bits by blocks of 32 consecutive k ([`quantize_activations`]):
//! `amax = max |x|`, `a = amax / 127`, `q = round_ties_even(x * (127 / amax))`, and the sums
//! `s0`, `s1` of q over each half of 16.
//!
//! **Weights** of every quantized type unpack, for 32 consecutive k of a row, to [`Block32`]:
//! `weight = q * w + m`, with one `w` and `m` for each half of 16.
//!
//! **The dot product** takes blocks in increasing k, with `P0`, `P1` the exact integer dot
//! products of the halves and one f32 accumulator that starts at 0:
//!
//! ```text
//! halves alike:  t = f32(P0 + P1) * w            and with minima  t = fma(f32(s0 + s1), m, t)
//! halves apart:  t = fma(f32(P1), w1, f32(P0) * w0)
//!                     and with minima  t = fma(f32(s0), m0, t), then  t = fma(f32(s1), m1, t)
//! acc = fma(t, a, acc)
//! ```
//!
//! F32, F16 and BF16 weights meet unrounded activations: `acc = fma(w_k, x_k, acc)` in order of
//! k. Nothing depends on other rows or columns, so any split of the work gives the same bits.

use crate::block::{Layout, blocks};
use crate::error::check_len;
use crate::format::Codec;
use crate::{GgmlType, QuantError};

/// Activations (and the weights that meet them) are taken 32 at a time.
pub const GROUP: usize = 32;

/// 32 consecutive weights of a row: `weight[i] = q[i] * w[i / 16] + m[i / 16]`.
///
/// `w` is one f32 rounding of the block's scale times its integer scale; powers of two are
/// folded in exactly. `m` likewise, zero for types without minima.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block32 {
    /// Small integers (-128 in Q8_0 and Q8_K alone).
    pub q: [i8; 32],
    /// Scale of each half.
    pub w: [f32; 2],
    /// What is added in each half (ggml subtracts; the sign is in here).
    pub m: [f32; 2],
}

/// Whether the two halves of 32 weights share their scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halves {
    /// One scale for 32 weights or more: `w[0] == w[1]`.
    Uniform,
    /// A scale for each 16.
    Split,
}

/// Which of the contract's formulas a type uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// Whether the halves share their scale.
    pub halves: Halves,
    /// Whether the type has minima.
    pub has_min: bool,
}

impl Contract {
    pub(crate) const UNIFORM: Self = Self {
        halves: Halves::Uniform,
        has_min: false,
    };
    pub(crate) const UNIFORM_MIN: Self = Self {
        halves: Halves::Uniform,
        has_min: true,
    };
    pub(crate) const SPLIT: Self = Self {
        halves: Halves::Split,
        has_min: false,
    };
    pub(crate) const SPLIT_MIN: Self = Self {
        halves: Halves::Split,
        has_min: true,
    };
}

/// A block format of small integers: all that decode and dot products need.
pub(crate) trait Unpack: Layout {
    const CONTRACT: Contract;

    /// Weights `32 * group ..` of the block; `group < LEN / 32`.
    fn unpack(&self, group: usize) -> Block32;
}

impl Block32 {
    /// One scale, no minimum.
    #[inline]
    pub(crate) fn uniform(q: [i8; 32], w: f32) -> Self {
        Self {
            q,
            w: [w; 2],
            m: [0.0; 2],
        }
    }

    /// One scale and one addend.
    #[inline]
    pub(crate) fn uniform_min(q: [i8; 32], w: f32, m: f32) -> Self {
        Self {
            q,
            w: [w; 2],
            m: [m; 2],
        }
    }

    /// A scale for each half, no minimum.
    #[inline]
    pub(crate) fn split(q: [i8; 32], w: [f32; 2]) -> Self {
        Self { q, w, m: [0.0; 2] }
    }
}

/// Which formulas a type uses; `None` for types that are not quantized.
pub fn contract_of(ty: GgmlType) -> Option<Contract> {
    match &ty.format().codec {
        Codec::Quantized(codec) => Some(codec.contract),
        _ => None,
    }
}

/// Weights `32 * group ..` of a row of blocks; `None` past its end, or if the type is not
/// quantized.
pub fn unpack32(ty: GgmlType, row: &[u8], group: usize) -> Option<Block32> {
    match &ty.format().codec {
        Codec::Quantized(codec) => (codec.unpack)(row, group),
        _ => None,
    }
}

/// A column of activations as the contract rounds it; k is a multiple of 32.
#[derive(Debug, Clone, Copy)]
pub struct ActivationBlocks<'a> {
    /// `[k]`, each within -127..=127.
    pub q: &'a [i8],
    /// `[k / 32]`: `x` is about `q * scale`.
    pub scale: &'a [f32],
    /// `[k / 32, 2]`: the sums of q over each half of 16.
    pub sums: &'a [i32],
}

/// An owned column of activations as the contract rounds it.
#[derive(Debug, Clone, Default)]
pub struct QuantizedColumn {
    q: Vec<i8>,
    scale: Vec<f32>,
    sums: Vec<i32>,
}

impl QuantizedColumn {
    /// Rounds `x`, `[k]` with k a multiple of 32; up to 31 values more are left out.
    pub fn new(x: &[f32]) -> Self {
        let groups = x.len() / GROUP;
        let mut column = Self {
            q: vec![0; groups * GROUP],
            scale: vec![0.0; groups],
            sums: vec![0; 2 * groups],
        };
        quantize_activations(x, &mut column.q, &mut column.scale, &mut column.sums);
        column
    }

    /// The blocks.
    pub fn blocks(&self) -> ActivationBlocks<'_> {
        ActivationBlocks {
            q: &self.q,
            scale: &self.scale,
            sums: &self.sums,
        }
    }
}

/// Rounds activations to 8 bits: `x`, `q` are `[k]`, `scale` is `[k / 32]`, `sums` is
/// `[k / 32, 2]`. Stops at the shortest slice.
///
/// A block with a NaN or an infinity gets scale NaN and zeros, so that the fault reaches the
/// output. A block so small that `127 / amax` overflows becomes zeros with scale 0.
pub fn quantize_activations(x: &[f32], q: &mut [i8], scale: &mut [f32], sums: &mut [i32]) {
    let x = x.as_chunks::<GROUP>().0.iter();
    let q = q.as_chunks_mut::<GROUP>().0.iter_mut();
    let sums = sums.as_chunks_mut::<2>().0.iter_mut();
    for (((x, q), scale), sums) in x.zip(q).zip(scale).zip(sums) {
        *scale = quantize_group(x, q);
        for (sum, q) in sums.iter_mut().zip(q.as_chunks::<16>().0) {
            *sum = q.iter().map(|&q| i32::from(q)).sum();
        }
    }
}

/// 1.5 * 2^23: adding it rounds a small number to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Rounds 32 activations and returns their scale.
fn quantize_group(x: &[f32; GROUP], q: &mut [i8; GROUP]) -> f32 {
    // As bit patterns: NaN and infinity are the greatest.
    let amax = x
        .iter()
        .map(|x| x.to_bits() & 0x7fff_ffff)
        .fold(0, u32::max);
    let amax = f32::from_bits(amax);
    let inv = 127.0 / amax;
    if !amax.is_finite() || !inv.is_finite() {
        q.fill(0);
        return if amax.is_finite() { 0.0 } else { f32::NAN };
    }
    for (q, x) in q.iter_mut().zip(x) {
        // Ties to even without a call: the sum has no bits below 1, and its low byte is q.
        *q = (x * inv + ROUND).to_bits() as i8;
    }
    amax / 127.0
}

/// The dot product of a row of quantized weights with a column, by the contract.
///
/// # Errors
/// The type is not quantized (see [`dot_float`]), or the lengths do not fit each other.
pub fn dot(ty: GgmlType, row: &[u8], x: &ActivationBlocks<'_>) -> Result<f32, QuantError> {
    let Codec::Quantized(codec) = &ty.format().codec else {
        return Err(QuantError::Unsupported {
            ty,
            action: "multiplied by rounded activations",
        });
    };
    let cols = x.q.len();
    check_row(ty, row, cols)?;
    check_len(ty, "activation scales", cols / GROUP, x.scale.len())?;
    check_len(ty, "activation sums", cols / 16, x.sums.len())?;
    Ok((codec.dot)(row, x))
}

/// The dot product of a row of F32, F16 or BF16 weights with a column `[k]`.
///
/// # Errors
/// The type is not a float type (see [`dot`]), or the lengths do not fit each other.
pub fn dot_float(ty: GgmlType, row: &[u8], x: &[f32]) -> Result<f32, QuantError> {
    let Codec::Float(codec) = &ty.format().codec else {
        return Err(QuantError::Unsupported {
            ty,
            action: "multiplied by f32 activations",
        });
    };
    check_row(ty, row, x.len())?;
    Ok((codec.dot)(row, x))
}

fn check_row(ty: GgmlType, row: &[u8], cols: usize) -> Result<(), QuantError> {
    let expected = ty.row_bytes(cols).ok_or(QuantError::Cols { ty, cols })?;
    check_len(ty, "row bytes", expected, row.len())
}

/// [`dot`] for one format.
pub(crate) fn dot_blocks<B: Unpack>(row: &[u8], x: &ActivationBlocks<'_>) -> f32 {
    let groups = B::LEN / GROUP;
    let q = x.q.as_chunks::<GROUP>().0.iter();
    let sums = x.sums.as_chunks::<2>().0;
    let mut x = q.zip(sums).zip(x.scale);
    let mut acc = 0.0f32;
    for block in blocks::<B>(row) {
        // The groups of the block first: `zip` asks its left side first, and would drop an
        // activation group when the block ends.
        for (group, ((q, sums), scale)) in (0..groups).zip(&mut x) {
            let t = dot_group(B::CONTRACT, &block.unpack(group), q, sums);
            acc = t.mul_add(*scale, acc);
        }
    }
    acc
}

/// `t` of the contract.
#[inline]
fn dot_group(contract: Contract, weights: &Block32, q: &[i8; GROUP], sums: &[i32; 2]) -> f32 {
    let [w0, w1] = weights.w;
    let [m0, m1] = weights.m;
    let half = |h: usize| -> i32 {
        let range = 16 * h..16 * h + 16;
        let pairs = weights.q[range.clone()].iter().zip(&q[range]);
        pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
    };
    let (p0, p1) = (half(0), half(1));
    let [s0, s1] = *sums;
    match (contract.halves, contract.has_min) {
        (Halves::Uniform, false) => (p0 + p1) as f32 * w0,
        (Halves::Uniform, true) => (s0.wrapping_add(s1) as f32).mul_add(m0, (p0 + p1) as f32 * w0),
        (Halves::Split, has_min) => {
            let t = (p1 as f32).mul_add(w1, p0 as f32 * w0);
            if !has_min {
                return t;
            }
            (s1 as f32).mul_add(m1, (s0 as f32).mul_add(m0, t))
        }
    }
}
