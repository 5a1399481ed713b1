//! Vectors on AVX2 with FMA and F16C: two registers each.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Kernel, LANES, Simd};

/// 64 bytes.
pub(super) type Bytes = [__m256i; 2];

/// Marks [`Avx2`] that sums products of bytes by pairs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByPairs;

/// Proof that the CPU has AVX2, FMA and F16C, and what `P` marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<P = ByPairs>(PhantomData<P>);

/// How products of bytes are summed: the methods of [`Simd`] of these names.
pub(crate) trait ByteProducts: Copy + Send + Sync + 'static {
    /// See [`Simd::WIDE_OFFSET`].
    const WIDE_OFFSET: i32;

    /// Runs `kernel` inside a function compiled for AVX2 and what this type marks.
    ///
    /// # Safety
    /// The CPU must have that, here and below.
    unsafe fn enter<K: Kernel>(s: Avx2<Self>, kernel: K) -> K::Output;

    /// See [`Simd::begin`].
    unsafe fn begin(start: Bytes) -> Bytes;
    /// See [`Simd::add_narrow`].
    unsafe fn add_narrow(sums: Bytes, w: Bytes, x: Bytes) -> Bytes;
    /// See [`Simd::total`].
    unsafe fn total(sums: Bytes, start: Bytes) -> Bytes;
    /// See [`Simd::wide`].
    unsafe fn wide(w: Bytes) -> Bytes;
    /// See [`Simd::dot_wide`].
    unsafe fn dot_wide(acc: Bytes, w: Bytes, x: Bytes) -> Bytes;
}

impl Avx2 {
    /// The proof, if the CPU has the features.
    pub(crate) fn detect() -> Option<Self> {
        Self::detect_with(true)
    }
}

impl<P> Avx2<P> {
    /// The proof, if the CPU has the features, and `has` what `P` marks.
    pub(super) fn detect_with(has: bool) -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        (found && has).then_some(Self(PhantomData))
    }
}

// `maddubs` adds the products of pairs of bytes in 16 bits, where a chain stays until it ends.
impl ByteProducts for ByPairs {
    const WIDE_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn enter<K: Kernel>(s: Avx2<Self>, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn inner<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the caller vouches for the features.
        unsafe { inner(s, kernel) }
    }

    #[inline(always)]
    unsafe fn begin(_start: Bytes) -> Bytes {
        // SAFETY: the caller vouches for AVX2; here and below.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn add_narrow(sums: Bytes, w: Bytes, x: Bytes) -> Bytes {
        // SAFETY: as above.
        unsafe {
            [
                _mm256_add_epi16(sums[0], _mm256_maddubs_epi16(w[0], x[0])),
                _mm256_add_epi16(sums[1], _mm256_maddubs_epi16(w[1], x[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn total(sums: Bytes, start: Bytes) -> Bytes {
        // SAFETY: as above.
        unsafe {
            let one = _mm256_set1_epi16(1);
            [
                _mm256_add_epi32(start[0], _mm256_madd_epi16(sums[0], one)),
                _mm256_add_epi32(start[1], _mm256_madd_epi16(sums[1], one)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn wide(w: Bytes) -> Bytes {
        w
    }

    #[inline(always)]
    unsafe fn dot_wide(acc: Bytes, w: Bytes, x: Bytes) -> Bytes {
        // |w| * sign(w) x: the first factor is unsigned as `maddubs` wants, and at most 128, so
        // that the sum of two products, at most 2 * 128 * 127, does not saturate.
        // SAFETY: as above.
        unsafe {
            let x = [_mm256_sign_epi8(x[0], w[0]), _mm256_sign_epi8(x[1], w[1])];
            let w = [_mm256_abs_epi8(w[0]), _mm256_abs_epi8(w[1])];
            Self::total(Self::add_narrow(Self::begin(acc), w, x), acc)
        }
    }
}

/// The halves of an array of 16 numbers.
#[inline(always)]
fn halves<T, const N: usize, const H: usize>(x: &[T; N]) -> [&[T; H]; 2] {
    let (low, high) = (x.first_chunk(), x.last_chunk());
    [
        low.expect("a half of the array"),
        high.expect("a half of the array"),
    ]
}

impl<P: ByteProducts> Simd for Avx2<P> {
    type F = [__m256; 2];
    type I = Bytes;
    type Sums = Bytes;

    const COLUMNS: usize = 4;
    const TILES: usize = 1;
    const DIRECT: usize = 2;
    const FLOAT_COLUMNS: usize = 6;
    const WIDE_OFFSET: i32 = P::WIDE_OFFSET;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { P::enter(self, kernel) }
    }

    #[inline(always)]
    fn lookup(self, table: &[[u8; 4]], i: Self::I) -> Self::I {
        assert!(table.len().is_power_of_two());
        let i = self.and(i, self.splat_i32((table.len() - 1) as i32));
        let table = table.as_ptr().cast();
        // SAFETY: `self` proves that the CPU has the instruction, which reads four bytes for each
        // lane; no lane is above the last index, as the length is a power of two.
        unsafe {
            [
                _mm256_i32gather_epi32::<4>(table, i[0]),
                _mm256_i32gather_epi32::<4>(table, i[1]),
            ]
        }
    }

    methods! {
        fn splat(self, x: f32) -> Self::F { [_mm256_set1_ps(x); 2] }
        fn load(self, x: &[f32; LANES]) -> Self::F {
            let [low, high] = halves::<_, LANES, 8>(x);
            [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())]
        }
        fn store(self, v: Self::F, to: &mut [f32; LANES]) {
            let (low, high) = to.split_at_mut(8);
            _mm256_storeu_ps(low.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), v[1]);
        }
        fn add(self, a: Self::F, b: Self::F) -> Self::F {
            [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
        }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F {
            [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])]
        }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F {
            [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
        }
        fn div(self, a: Self::F, b: Self::F) -> Self::F {
            [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]
        }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
        }
        fn max(self, a: Self::F, b: Self::F) -> Self::F {
            [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
        }
        fn min(self, a: Self::F, b: Self::F) -> Self::F {
            [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])]
        }
        fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
            [
                _mm256_blendv_ps(y[0], x[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
                _mm256_blendv_ps(y[1], x[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
            ]
        }
        fn round(self, v: Self::F) -> Self::I {
            // Explicitly to nearest even, whatever the control register says.
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            [
                _mm256_cvttps_epi32(_mm256_round_ps::<NEAREST>(v[0])),
                _mm256_cvttps_epi32(_mm256_round_ps::<NEAREST>(v[1])),
            ]
        }
        fn to_f32(self, v: Self::I) -> Self::F {
            [_mm256_cvtepi32_ps(v[0]), _mm256_cvtepi32_ps(v[1])]
        }
        fn to_bits(self, v: Self::F) -> Self::I {
            [_mm256_castps_si256(v[0]), _mm256_castps_si256(v[1])]
        }
        fn from_bits(self, v: Self::I) -> Self::F {
            [_mm256_castsi256_ps(v[0]), _mm256_castsi256_ps(v[1])]
        }

        fn splat_i32(self, x: i32) -> Self::I { [_mm256_set1_epi32(x); 2] }
        fn splat_u8(self, x: u8) -> Self::I { [_mm256_set1_epi8(x as i8); 2] }
        fn load_bytes(self, x: &[u8; 64]) -> Self::I {
            let [low, high] = halves::<_, 64, 32>(x);
            [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())]
        }
        fn store_bytes(self, v: Self::I, to: &mut [u8; 64]) {
            let (low, high) = to.split_at_mut(32);
            _mm256_storeu_si256(low.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(high.as_mut_ptr().cast(), v[1]);
        }
        fn widen_u8(self, x: &[u8; LANES]) -> Self::I {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            [_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))]
        }
        fn widen_i8(self, x: &[u8; LANES]) -> Self::I {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))]
        }
        fn widen_u16(self, x: &[u8; 2 * LANES]) -> Self::I {
            let [low, high] = halves::<_, 32, 16>(x);
            [
                _mm256_cvtepu16_epi32(_mm_loadu_si128(low.as_ptr().cast())),
                _mm256_cvtepu16_epi32(_mm_loadu_si128(high.as_ptr().cast())),
            ]
        }
        fn widen_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
            let [low, high] = halves::<_, 32, 16>(x);
            [
                _mm256_cvtph_ps(_mm_loadu_si128(low.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(high.as_ptr().cast())),
            ]
        }
        fn f16_of_low(self, v: Self::I) -> Self::F {
            let low = _mm256_set1_epi32(0xffff);
            // Packs within each 128 bits: [v0 low, v1 low, v0 high, v1 high] of 4 lanes each.
            let packed = _mm256_packus_epi32(_mm256_and_si256(v[0], low), _mm256_and_si256(v[1], low));
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            [
                _mm256_cvtph_ps(_mm256_castsi256_si128(packed)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(packed)),
            ]
        }

        fn and(self, a: Self::I, b: Self::I) -> Self::I {
            [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])]
        }
        fn or(self, a: Self::I, b: Self::I) -> Self::I {
            [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])]
        }
        fn xor(self, a: Self::I, b: Self::I) -> Self::I {
            [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
        }
        fn shl<const N: u32>(self, v: Self::I) -> Self::I {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_sll_epi32(v[0], n), _mm256_sll_epi32(v[1], n)]
        }
        fn shr<const N: u32>(self, v: Self::I) -> Self::I {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_srl_epi32(v[0], n), _mm256_srl_epi32(v[1], n)]
        }
        fn max_i32(self, a: Self::I, b: Self::I) -> Self::I {
            [_mm256_max_epi32(a[0], b[0]), _mm256_max_epi32(a[1], b[1])]
        }
        fn store_low_bytes(self, v: Self::I, to: &mut [u8; LANES]) {
            let bytes = _mm_unpacklo_epi64(low_bytes(v[0]), low_bytes(v[1]));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes)
        }
        fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
            [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
        }
        fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I {
            [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])]
        }
        fn lookup16(self, table: &[u8; 16], i: Self::I) -> Self::I {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [_mm256_shuffle_epi8(table, i[0]), _mm256_shuffle_epi8(table, i[1])]
        }

        fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
            let mut out = rows;
            for (half, upper) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let quarter = array!(rows[0][0]; i => rows[8 * upper + i][half]);
                let quarter = transpose8(quarter);
                for i in 0..8 {
                    out[8 * half + i][upper] = quarter[i];
                }
            }
            out
        }

        fn begin(self, start: Self::I) -> Self::Sums { P::begin(start) }
        fn add_narrow(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums {
            P::add_narrow(sums, w, x)
        }
        fn total(self, sums: Self::Sums, start: Self::I) -> Self::I { P::total(sums, start) }
        fn wide(self, w: Self::I) -> Self::I { P::wide(w) }
        fn dot_wide(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I { P::dot_wide(acc, w, x) }
    }
}

/// The low bytes of eight lanes, in the lowest eight bytes.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn low_bytes(v: __m256i) -> __m128i {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        // To the lowest four bytes of each 128 bits.
        let v = _mm256_shuffle_epi8(v, _mm256_set1_epi32(0x0c08_0400));
        _mm_unpacklo_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
    }
}

/// The transpose of 8 by 8 numbers.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn transpose8(rows: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        let mut out = rows;
        // Within each 128 bits: vector `4 i + k` gets column k of rows 4 i .. 4 i + 4.
        for i in [0, 4] {
            let [a, b] = [rows[i], rows[i + 1]];
            let [c, d] = [rows[i + 2], rows[i + 3]];
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            out[i] = _mm256_shuffle_ps::<0x44>(ab, cd);
            out[i + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
            let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            out[i + 2] = _mm256_shuffle_ps::<0x44>(ab, cd);
            out[i + 3] = _mm256_shuffle_ps::<0xee>(ab, cd);
        }
        // Then the 128-bit parts of vectors k and 4 + k.
        for k in 0..4 {
            let (a, b) = (out[k], out[4 + k]);
            out[k] = _mm256_permute2f128_ps::<0x20>(a, b);
            out[4 + k] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
        out
    }
}
