//! What every block format declares: its byte layout and how its table row is made.

/// A run of bytes inside a block that packs as one: `len / unit` units of `unit` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// First byte, from the start of the block.
    pub offset: usize,
    /// Bytes of the field, a multiple of `unit`.
    pub len: usize,
    /// Bytes that stay together when 16 rows are interleaved: 1, 2 or 4.
    pub unit: usize,
}

/// Byte layout of a block. Made by [`block!`] only.
///
/// # Safety
/// The type is made of byte arrays alone: alignment 1, no padding, every bit pattern valid.
pub(crate) unsafe trait Layout: Copy + Default {
    /// Values in a block.
    const LEN: usize;
    /// Fields in order; together they cover the block.
    const FIELDS: &'static [Field];
}

/// Declares a block of `$len` values as a `repr(C)` struct of byte arrays, each field with the
/// unit it packs in, and asserts its size.
macro_rules! block {
    (
        $(#[$doc:meta])*
        $name:ident: $len:literal values, $size:literal bytes {
            $($(#[$field_doc:meta])* $field:ident: [u8; $n:literal] / $unit:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: [u8; $n],)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: [0; $n],)* }
            }
        }

        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);

        // SAFETY: `repr(C)` over byte arrays: alignment 1, no padding, any bits are a value.
        unsafe impl crate::block::Layout for $name {
            const LEN: usize = $len;
            const FIELDS: &'static [crate::block::Field] = &[
                $(crate::block::Field {
                    offset: std::mem::offset_of!($name, $field),
                    len: $n,
                    unit: $unit,
                },)*
            ];
        }
    };
}
pub(crate) use block;

/// The whole blocks of `bytes`; a shorter rest is left out.
pub(crate) fn blocks<B: Layout>(bytes: &[u8]) -> &[B] {
    // SAFETY: `Layout` promises alignment 1, no padding and no invalid bits, and the length
    // covers whole blocks inside `bytes`, whose lifetime the result keeps.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<B>()) }
}

/// As [`blocks`], for writing.
pub(crate) fn blocks_mut<B: Layout>(bytes: &mut [u8]) -> &mut [B] {
    let len = bytes.len() / size_of::<B>();
    // SAFETY: as in `blocks`; the exclusive borrow of `bytes` passes to the result.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) }
}

/// A little-endian f16 as f32.
#[inline]
pub(crate) fn f16(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// The nearest f16 (ties to even), little-endian.
#[inline]
pub(crate) fn f16_bytes(x: f32) -> [u8; 2] {
    half::f16::from_f32(x).to_le_bytes()
}
