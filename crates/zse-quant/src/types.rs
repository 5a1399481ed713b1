//! [`GgmlType`]: every tensor type of current GGUF files, one table row each.

use std::fmt;

use crate::format::{Codec, Format};
use crate::{float, iq1, iq2, iq3, iq4, kquants, legacy, lowbit, mx, ternary};

/// Declares the enum and its table: `Variant = ggml's id, ggml's name, format;`.
macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $format:expr;)*) => {
        /// A tensor type, with ggml's ids.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum GgmlType {
            $($(#[$doc])* $variant = $id,)*
        }

        impl GgmlType {
            /// Every type, in the order of their ids.
            pub const ALL: &[GgmlType] = &[$(GgmlType::$variant,)*];

            /// The type with this id in a GGUF file.
            pub fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name as ggml spells it, e.g. `q4_K`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub(crate) const fn format(self) -> &'static Format {
                match self {
                    $(Self::$variant => const { &$format },)*
                }
            }
        }
    };
}

types! {
    /// IEEE single precision.
    F32 = 0, "f32", Format::float::<float::F32>();
    /// IEEE half precision.
    F16 = 1, "f16", Format::float::<float::F16>();
    /// 4 bits, one scale for 32.
    Q4_0 = 2, "q4_0", Format::quantized::<legacy::Q4_0>();
    /// 4 bits, scale and minimum for 32.
    Q4_1 = 3, "q4_1", Format::quantized::<legacy::Q4_1>();
    /// 5 bits, one scale for 32.
    Q5_0 = 6, "q5_0", Format::quantized::<legacy::Q5_0>();
    /// 5 bits, scale and minimum for 32.
    Q5_1 = 7, "q5_1", Format::quantized::<legacy::Q5_1>();
    /// 8 bits, one scale for 32.
    Q8_0 = 8, "q8_0", Format::quantized::<legacy::Q8_0>();
    /// 2 bits, 4-bit scale and minimum for 16.
    Q2K = 10, "q2_K", Format::quantized::<kquants::Q2K>();
    /// 3 bits, 6-bit scale for 16.
    Q3K = 11, "q3_K", Format::quantized::<kquants::Q3K>();
    /// 4 bits, 6-bit scale and minimum for 32.
    Q4K = 12, "q4_K", Format::quantized::<kquants::Q4K>();
    /// 5 bits, 6-bit scale and minimum for 32.
    Q5K = 13, "q5_K", Format::quantized::<kquants::Q5K>();
    /// 6 bits, 8-bit scale for 16.
    Q6K = 14, "q6_K", Format::quantized::<kquants::Q6K>();
    /// 8 bits, one f32 scale for 256.
    Q8K = 15, "q8_K", Format::quantized::<kquants::Q8K>();
    /// 2.06 bits: an E8 lattice grid of 256 entries, signs with parity.
    Iq2Xxs = 16, "iq2_xxs", Format::quantized::<iq2::Iq2Xxs>();
    /// 2.31 bits: a grid of 512 entries, 4-bit scale for 16.
    Iq2Xs = 17, "iq2_xs", Format::quantized::<iq2::Iq2Xs>();
    /// 3.06 bits: a grid of 256 entries of 4 weights, signs with parity.
    Iq3Xxs = 18, "iq3_xxs", Format::quantized::<iq3::Iq3Xxs>();
    /// 1.56 bits: a ternary grid of 2048 entries, shifted by an eighth.
    Iq1S = 19, "iq1_s", Format::quantized::<iq1::Iq1S>();
    /// 4 bits through a non-linear table, one scale for 32.
    Iq4Nl = 20, "iq4_nl", Format::quantized::<iq4::Iq4Nl>();
    /// 3.44 bits: a grid of 512 entries of 4 weights, free signs.
    Iq3S = 21, "iq3_s", Format::quantized::<iq3::Iq3S>();
    /// 2.56 bits: a grid of 1024 entries, free signs.
    Iq2S = 22, "iq2_s", Format::quantized::<iq2::Iq2S>();
    /// 4 bits through a non-linear table, 6-bit scale for 32.
    Iq4Xs = 23, "iq4_xs", Format::quantized::<iq4::Iq4Xs>();
    /// Signed bytes; storable, not weights.
    I8 = 24, "i8", Format::stored(1);
    /// 16-bit integers; storable, not weights.
    I16 = 25, "i16", Format::stored(2);
    /// 32-bit integers; storable, not weights.
    I32 = 26, "i32", Format::stored(4);
    /// 64-bit integers; storable, not weights.
    I64 = 27, "i64", Format::stored(8);
    /// IEEE double precision; storable, not weights.
    F64 = 28, "f64", Format::stored(8);
    /// 1.75 bits: IQ1_S's grid, 3-bit scale for 16, a shift for 8.
    Iq1M = 29, "iq1_m", Format::quantized::<iq1::Iq1M>();
    /// The upper half of an f32.
    Bf16 = 30, "bf16", Format::float::<float::Bf16>();
    /// Ternary, five to a byte.
    Tq1_0 = 34, "tq1_0", Format::quantized::<ternary::Tq1_0>();
    /// Ternary, four to a byte.
    Tq2_0 = 35, "tq2_0", Format::quantized::<ternary::Tq2_0>();
    /// OCP microscaling: 4-bit floats (E2M1), one power of two for 32.
    Mxfp4 = 39, "mxfp4", Format::quantized::<mx::Mxfp4>();
    /// 4-bit floats (E2M1), an 8-bit float (E4M3) for 16.
    Nvfp4 = 40, "nvfp4", Format::quantized::<mx::Nvfp4>();
    /// Signs only, one scale for 128.
    Q1_0 = 41, "q1_0", Format::quantized::<lowbit::Q1_0>();
    /// 2 bits, one scale for 64.
    Q2_0 = 42, "q2_0", Format::quantized::<lowbit::Q2_0>();
}

const fn weight_count() -> usize {
    let (mut i, mut n) = (0, 0);
    while i < GgmlType::ALL.len() {
        n += GgmlType::ALL[i].is_weight() as usize;
        i += 1;
    }
    n
}

const WEIGHTS: [GgmlType; weight_count()] = {
    let mut list = [GgmlType::F32; weight_count()];
    let (mut i, mut n) = (0, 0);
    while i < GgmlType::ALL.len() {
        if GgmlType::ALL[i].is_weight() {
            list[n] = GgmlType::ALL[i];
            n += 1;
        }
        i += 1;
    }
    list
};

impl GgmlType {
    /// The types that decode to f32, in the order of their ids.
    pub const WEIGHTS: &[GgmlType] = &WEIGHTS;

    /// The id in a GGUF file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The type of this name in any case, e.g. `q4_k` or `Q4_K`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Values in a block; 1 for plain types.
    pub const fn block_len(self) -> usize {
        self.format().block_len
    }

    /// Bytes of a block; the size of a value for plain types.
    pub const fn block_bytes(self) -> usize {
        self.format().block_bytes
    }

    /// Whether the type decodes to f32.
    pub const fn is_weight(self) -> bool {
        !matches!(self.format().codec, Codec::Stored)
    }

    /// Whether the type is a block format (a weight that is not F32, F16 or BF16).
    pub const fn is_quantized(self) -> bool {
        matches!(self.format().codec, Codec::Quantized(_))
    }

    /// Bytes of a row of `cols` values; `None` if `cols` is not a whole number of blocks, or on
    /// overflow.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_find_their_type() {
        for &ty in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(ty.id()), Some(ty));
            assert_eq!(GgmlType::parse(ty.name()), Some(ty));
            assert_eq!(GgmlType::parse(&ty.name().to_uppercase()), Some(ty));
        }
        assert!(GgmlType::ALL.is_sorted_by_key(|ty| ty.id()));
        // 4 and 5 are retired in ggml, 9 is an activation format.
        for id in [4, 5, 9, 31, 36, 1000, u32::MAX] {
            assert_eq!(GgmlType::from_id(id), None);
        }
        assert_eq!(GgmlType::parse("q4"), None);
    }

    #[test]
    fn row_bytes_refuses_part_blocks_and_overflow() {
        assert_eq!(GgmlType::Q4K.row_bytes(512), Some(288));
        assert_eq!(GgmlType::Q4K.row_bytes(0), Some(0));
        assert_eq!(GgmlType::Q4K.row_bytes(511), None);
        assert_eq!(GgmlType::F64.row_bytes(usize::MAX), None);
        assert_eq!(GgmlType::F16.row_bytes(3), Some(6));
    }

    #[test]
    fn weights_are_the_types_that_decode() {
        assert_eq!(GgmlType::WEIGHTS.len() + 5, GgmlType::ALL.len());
        assert!(!GgmlType::WEIGHTS.contains(&GgmlType::I32));
        assert!(GgmlType::WEIGHTS.contains(&GgmlType::Nvfp4));
    }

    #[test]
    fn fields_cover_every_block_in_whole_units() {
        for &ty in GgmlType::WEIGHTS {
            let format = ty.format();
            let mut end = 0;
            for field in format.fields {
                assert_eq!(field.offset, end, "{ty}");
                assert_eq!(field.len % field.unit, 0, "{ty}");
                assert!(matches!(field.unit, 1 | 2 | 4), "{ty}");
                end += field.len;
            }
            assert_eq!(end, format.pack_blocks * format.block_bytes, "{ty}");
        }
    }
}
