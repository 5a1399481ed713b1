//! What lies between an unpacker and a multiplier: 16 rows by 32 k of weights, unpacked.

use zse_quant::GgmlType;

use crate::simd::Simd;

/// 16 rows by 32 k of quantized weights.
#[derive(Clone, Copy)]
pub(crate) struct Tile<S: Simd> {
    /// `q[j]` holds weights `4 j .. 4 j + 4` of 16 rows, a row to a lane, in the type's
    /// [`Form`].
    pub(crate) q: [S::I; 8],
    /// Scale of each half of 16 k; the second is not read unless [`Unpack::SPLIT`].
    pub(crate) w: [S::F; 2],
    /// Addend of each half; read if [`Unpack::MIN`], the second if also [`Unpack::SPLIT`].
    pub(crate) m: [S::F; 2],
}

impl<S: Simd> Tile<S> {
    /// One scale, no minimum.
    #[inline(always)]
    pub(crate) fn uniform(s: S, q: [S::I; 8], w: S::F) -> Self {
        Self::split(s, q, [w; 2])
    }

    /// One scale and one addend.
    #[inline(always)]
    pub(crate) fn uniform_min(q: [S::I; 8], w: S::F, m: S::F) -> Self {
        Self {
            q,
            w: [w; 2],
            m: [m; 2],
        }
    }

    /// A scale for each half, no minimum.
    #[inline(always)]
    pub(crate) fn split(s: S, q: [S::I; 8], w: [S::F; 2]) -> Self {
        Self {
            q,
            w,
            m: [s.zero(); 2],
        }
    }
}

/// How the bytes of [`Tile::q`] stand for the contract's small integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With `offset` added: without sign, of `bits` bits, at most 7.
    Narrow { offset: i32, bits: u32 },
    /// All values of a signed byte, through [`Simd::wide`].
    Wide,
}

impl Form {
    /// What is added to the contract's integers.
    #[inline(always)]
    pub(crate) fn offset<S: Simd>(self) -> i32 {
        match self {
            Self::Narrow { offset, .. } => offset,
            Self::Wide => S::WIDE_OFFSET,
        }
    }
}

/// Takes the tiles of a column of cells, in increasing k.
pub(crate) trait Sink<S: Simd> {
    /// Takes the next tile. Implementations are `#[inline(always)]`.
    fn take(&mut self, tile: Tile<S>);
}

/// Unpacks the weights of one quantized type from its packed layout ([`zse_quant::pack`]).
///
/// A fast one is a unit struct in [`unpack`](super::unpack) and an entry in
/// [`with_unpacker`](super::with_unpacker); until a type has one it goes through
/// [`Generic`](super::generic::Generic).
pub(crate) trait Unpack: Copy + Sync {
    /// The type's integers as tiles hold them.
    const FORM: Form;
    /// Whether the halves of 32 have scales of their own
    /// ([`Halves::Split`](zse_quant::contract::Halves::Split)).
    const SPLIT: bool = false;
    /// Whether the type has minima.
    const MIN: bool = false;

    /// The type.
    fn ty(self) -> GgmlType;

    /// Unpacks one column of cells: `16 * cell_bytes` bytes, which give `cell_len / 32` tiles.
    /// Implementations are `#[inline(always)]`.
    fn unpack<S: Simd>(self, s: S, cells: &[u8], sink: &mut impl Sink<S>);
}
