//! One vocabulary of 16-lane vectors, one file for each instruction set.
//!
//! A kernel is written once, generic over [`Simd`], and run through
//! [`Arch::run`](crate::isa::Arch::run), which enters a function compiled for the instruction set.
//! A vector is always 16 lanes of 32 bits, whatever the registers: one on AVX-512, two on AVX2,
//! four on NEON, an array in [`Scalar`]. All instruction sets therefore add in the same order and
//! give the same bits, and every one of them is tested against [`Scalar`], lane by lane.
//!
//! Proof of an instruction set is a value: [`Avx2`] and the like can only be had from a
//! detection that succeeded, and methods on them may use its intrinsics.
//!
//! All methods are `#[inline(always)]`: an intrinsic that does not end up inside a function
//! compiled for its instruction set would be a call. Kernels are too, see [`Kernel`], and they use
//! [`array!`] and loops where other code would use closures.

/// Declares methods of [`Simd`] whose bodies use the intrinsics that `self` proves to be there.
macro_rules! methods {
    ($(fn $name:ident$(<const $n:ident: u32>)?(self $(, $arg:ident: $ty:ty)*) $(-> $out:ty)? $body:block)*) => {$(
        #[inline(always)]
        fn $name$(<const $n: u32>)?(self $(, $arg: $ty)*) $(-> $out)? {
            // SAFETY: `self` proves that the CPU has the features of the intrinsics; loads and
            // stores are unaligned and stay within the arrays that they are given.
            unsafe { $body }
        }
    )*};
}

/// The array whose element `i` is the value of an expression: `array!(start; i => expression)`,
/// where `start` is any value of the element's type.
///
/// Kernels use it, and loops, in place of `std::array::from_fn` and `map`: a closure is a function
/// of its own, which is not compiled for the kernel's instruction set, so that each intrinsic in
/// it may become a call.
macro_rules! array {
    ($start:expr; $i:pat => $element:expr) => {{
        let mut array = [$start; _];
        for (index, element) in array.iter_mut().enumerate() {
            let $i = index;
            *element = $element;
        }
        array
    }};
}
pub(crate) use array;

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "aarch64")]
pub(crate) mod i8mm;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_asm;
pub(crate) mod panel;
mod scalar;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx_vnni::Vnni;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Dot, Neon};
pub(crate) use scalar::Scalar;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Code that runs under an instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What it gives back.
    type Output;

    /// Runs on the vectors of `s`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Vectors of 16 lanes under one instruction set.
///
/// Floating-point operations are IEEE single precision, rounded to nearest; [`Simd::fma`] rounds
/// once. Integer operations wrap.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// 16 lanes of f32.
    type F: Copy;
    /// 64 bytes: 16 lanes of 4 bytes.
    type I: Copy;
    /// Sums of products of bytes: 16 lanes, or pairs of lanes half as wide where those are added
    /// faster.
    type Sums: Copy;

    /// Columns that a matrix product keeps in registers at a time: 1, 2, 4 or 8.
    const COLUMNS: usize;

    /// Tiles of weights that a matrix product multiplies with each of them: 1 or 2.
    const TILES: usize;

    /// Columns that weights are multiplied with as they are unpacked, at most: 1, 2 or 8. Their sums
    /// share the registers with what unpacking takes.
    const DIRECT: usize;

    /// As [`Simd::COLUMNS`], for weights that are numbers themselves: 4, 6 or 8.
    const FLOAT_COLUMNS: usize;

    /// What [`Simd::wide`] adds to a byte.
    const WIDE_OFFSET: i32;

    /// Runs `kernel` inside a function compiled for this instruction set.
    fn enter<K: Kernel>(self, kernel: K) -> K::Output;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// 16 numbers.
    fn load(self, x: &[f32; LANES]) -> Self::F;
    /// Writes 16 numbers.
    fn store(self, v: Self::F, to: &mut [f32; LANES]);
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`: the second where one is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: the second where one is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? x : y`, lane by lane.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// The nearest integers, ties to even; any value where there is none.
    fn round(self, v: Self::F) -> Self::I;
    /// Integer lanes as numbers.
    fn to_f32(self, v: Self::I) -> Self::F;
    /// The bits of the numbers.
    fn to_bits(self, v: Self::F) -> Self::I;
    /// Numbers by their bits.
    #[expect(
        clippy::wrong_self_convention,
        reason = "`self` is the proof of the instruction set"
    )]
    fn from_bits(self, v: Self::I) -> Self::F;

    /// All lanes `x`.
    fn splat_i32(self, x: i32) -> Self::I;
    /// All bytes `x`.
    fn splat_u8(self, x: u8) -> Self::I;
    /// 64 bytes.
    fn load_bytes(self, x: &[u8; 64]) -> Self::I;
    /// Writes 64 bytes.
    fn store_bytes(self, v: Self::I, to: &mut [u8; 64]);
    /// 16 unsigned bytes, each widened to a lane.
    fn widen_u8(self, x: &[u8; LANES]) -> Self::I;
    /// 16 signed bytes, each widened to a lane.
    fn widen_i8(self, x: &[u8; LANES]) -> Self::I;
    /// 16 little-endian 16-bit numbers, each widened to a lane without its sign.
    fn widen_u16(self, x: &[u8; 2 * LANES]) -> Self::I;
    /// 16 little-endian f16.
    fn widen_f16(self, x: &[u8; 2 * LANES]) -> Self::F;
    /// The f16 in the low half of each lane; the upper half is ignored.
    fn f16_of_low(self, v: Self::I) -> Self::F;

    /// Bitwise and.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise exclusive or.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Lanes of 32 bits shifted left.
    fn shl<const N: u32>(self, v: Self::I) -> Self::I;
    /// Lanes of 32 bits shifted right, zeros in.
    fn shr<const N: u32>(self, v: Self::I) -> Self::I;
    /// The greater of signed lanes.
    fn max_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// Writes the low byte of each lane.
    fn store_low_bytes(self, v: Self::I, to: &mut [u8; LANES]);
    /// Sum of lanes of 32 bits.
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// Product of lanes of 32 bits.
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `table[i]` for each byte `i` below 16.
    fn lookup16(self, table: &[u8; 16], i: Self::I) -> Self::I;
    /// `table[i % table.len()]` for each lane `i`.
    ///
    /// # Panics
    /// If the length of the table is no power of two.
    #[inline(always)]
    fn lookup(self, table: &[[u8; 4]], i: Self::I) -> Self::I {
        assert!(table.len().is_power_of_two());
        let i = self.to_i32_array(i);
        let mut bytes = [0; 4 * LANES];
        for (to, i) in bytes.as_chunks_mut().0.iter_mut().zip(i) {
            *to = table[i as usize % table.len()];
        }
        self.load_bytes(&bytes)
    }

    /// The sums of a chain of [`Simd::add_narrow`] that begins with `start`; [`Simd::total`] ends it.
    fn begin(self, start: Self::I) -> Self::Sums;
    /// To each lane of `sums`, the dot product of four bytes of `w` with four signed bytes of `x`,
    /// none of them -128. Exact, for a chain of [`chain`]`(bits)` with bytes of `w` of at most
    /// `bits` bits, without sign.
    fn add_narrow(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums;
    /// The sums of a chain that began with `start`.
    fn total(self, sums: Self::Sums, start: Self::I) -> Self::I;
    /// Signed bytes in the form that [`Simd::dot_wide`] takes: with [`Simd::WIDE_OFFSET`] added.
    fn wide(self, w: Self::I) -> Self::I;
    /// To each lane of `acc`, the dot product of four bytes of `w` as [`Simd::wide`] makes them
    /// with four signed bytes of `x`, none of them -128. Exact, the offset included.
    fn dot_wide(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I;

    /// Lane `i` of vector `j` of the result is lane `j` of vector `i` of `rows`.
    #[inline(always)]
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        let rows: [[f32; LANES]; LANES] = array!([0.0; LANES]; i => self.to_array(rows[i]));
        array!(self.zero(); j => {
            let column: [f32; LANES] = array!(0.0; i => rows[i][j]);
            self.load(&column)
        })
    }

    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    /// The numbers of the lanes.
    #[inline(always)]
    fn to_array(self, v: Self::F) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes
    }

    /// The integers of the lanes.
    #[inline(always)]
    fn to_i32_array(self, v: Self::I) -> [i32; LANES] {
        let mut bytes = [0; 64];
        self.store_bytes(v, &mut bytes);
        let lanes = bytes.as_chunks().0;
        std::array::from_fn(|i| i32::from_le_bytes(lanes[i]))
    }

    /// Up to 16 numbers, the rest `fill`.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// Writes the first `to.len()` lanes, up to 16.
    #[inline(always)]
    fn store_part(self, v: Self::F, to: &mut [f32]) {
        to.copy_from_slice(&self.to_array(v)[..to.len()]);
    }

    /// Sum of the lanes by a fixed tree: halves are added until one lane is left.
    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        let mut lanes = self.to_array(v);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }

    /// The greatest lane; any lane if one is NaN.
    #[inline(always)]
    fn greatest(self, v: Self::F) -> f32 {
        let mut lanes = self.to_array(v);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] = if lanes[i] > lanes[i + half] {
                    lanes[i]
                } else {
                    lanes[i + half]
                };
            }
        }
        lanes[0]
    }
}

/// How many dot products with bytes of `w` of at most `bits` bits, without sign, a chain of
/// [`Simd::add_narrow`] may have: the sums of pairs fit 16 bits with their sign.
pub(crate) const fn chain(bits: u32) -> usize {
    match bits {
        0..=4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    }
}

const _: () = {
    let mut bits = 4;
    while bits < 8 {
        assert!(chain(bits) as i32 * 2 * ((1 << bits) - 1) * 127 <= i16::MAX as i32);
        bits += 1;
    }
};

/// How far ahead of its use memory is asked for: further than the hardware's prefetchers dare to
/// go, which stop at the end of a small page.
pub(crate) const AHEAD: usize = 4096;

/// Asks for the memory that lies [`AHEAD`] bytes behind `bytes`, which may be nobody's.
#[inline(always)]
pub(crate) fn fetch_ahead(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        fetch_line(line.as_ptr().wrapping_add(AHEAD));
    }
}

/// Asks for the line of memory at `at`, which may be any address, to come into the first-level cache.
#[inline(always)]
pub(crate) fn fetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 CPU has the instruction; it reads nothing that a program sees
        // and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// As [`fetch_line`], but into the second-level cache.
#[inline(always)]
pub(crate) fn fetch_line_later(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `fetch_line`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `place`, with its address in one register. Left alone, the compiler adds an index to each access
/// to an element of an array, and then an access and the arithmetic that takes its value are two
/// operations to x86-64 CPUs rather than one.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        clippy::pointers_in_nomem_asm_block,
        reason = "nothing follows the pointer"
    )
)]
pub(crate) fn in_place<T>(place: &T) -> &T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut address = std::ptr::from_ref(place);
        // SAFETY: no instruction is added, so the address stays what it is: that of `place`, which is
        // borrowed for as long as what is returned.
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(reg) address,
                options(pure, nomem, nostack, preserves_flags)
            );
            &*address
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    place
}
