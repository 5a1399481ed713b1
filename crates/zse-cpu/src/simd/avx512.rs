//! Vectors on AVX-512 with VNNI: one register each.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// Proof that the CPU has AVX-512 F, BW, VL, DQ and VNNI, and AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, if the CPU has the features.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type Sums = __m512i;

    const COLUMNS: usize = 8;
    const TILES: usize = 2;
    const DIRECT: usize = 8;
    const FLOAT_COLUMNS: usize = 8;
    const WIDE_OFFSET: i32 = 128;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn inner<K: Kernel>(s: Avx512, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` proves that the CPU has these features.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn lookup(self, table: &[[u8; 4]], i: Self::I) -> Self::I {
        assert!(table.len().is_power_of_two());
        let i = self.and(i, self.splat_i32((table.len() - 1) as i32));
        // SAFETY: `self` proves that the CPU has the instruction, which reads four bytes for each
        // lane; no lane is above the last index, as the length is a power of two.
        unsafe { _mm512_i32gather_epi32::<4>(i, table.as_ptr().cast()) }
    }

    #[inline(always)]
    fn begin(self, start: Self::I) -> Self::Sums {
        start
    }

    #[inline(always)]
    fn total(self, sums: Self::Sums, _start: Self::I) -> Self::I {
        sums
    }

    methods! {
        fn splat(self, x: f32) -> Self::F { _mm512_set1_ps(x) }
        fn load(self, x: &[f32; LANES]) -> Self::F { _mm512_loadu_ps(x.as_ptr()) }
        fn store(self, v: Self::F, to: &mut [f32; LANES]) { _mm512_storeu_ps(to.as_mut_ptr(), v) }
        fn add(self, a: Self::F, b: Self::F) -> Self::F { _mm512_add_ps(a, b) }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F { _mm512_sub_ps(a, b) }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F { _mm512_mul_ps(a, b) }
        fn div(self, a: Self::F, b: Self::F) -> Self::F { _mm512_div_ps(a, b) }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F { _mm512_fmadd_ps(a, b, c) }
        fn max(self, a: Self::F, b: Self::F) -> Self::F { _mm512_max_ps(a, b) }
        fn min(self, a: Self::F, b: Self::F) -> Self::F { _mm512_min_ps(a, b) }
        fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x)
        }
        fn round(self, v: Self::F) -> Self::I {
            _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        }
        fn to_f32(self, v: Self::I) -> Self::F { _mm512_cvtepi32_ps(v) }
        fn to_bits(self, v: Self::F) -> Self::I { _mm512_castps_si512(v) }
        fn from_bits(self, v: Self::I) -> Self::F { _mm512_castsi512_ps(v) }

        fn splat_i32(self, x: i32) -> Self::I { _mm512_set1_epi32(x) }
        fn splat_u8(self, x: u8) -> Self::I { _mm512_set1_epi8(x as i8) }
        fn load_bytes(self, x: &[u8; 64]) -> Self::I { _mm512_loadu_si512(x.as_ptr().cast()) }
        fn store_bytes(self, v: Self::I, to: &mut [u8; 64]) {
            _mm512_storeu_si512(to.as_mut_ptr().cast(), v)
        }
        fn widen_u8(self, x: &[u8; LANES]) -> Self::I {
            _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))
        }
        fn widen_i8(self, x: &[u8; LANES]) -> Self::I {
            _mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))
        }
        fn widen_u16(self, x: &[u8; 2 * LANES]) -> Self::I {
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()))
        }
        fn widen_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
            _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast()))
        }
        fn f16_of_low(self, v: Self::I) -> Self::F { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)) }

        fn and(self, a: Self::I, b: Self::I) -> Self::I { _mm512_and_si512(a, b) }
        fn or(self, a: Self::I, b: Self::I) -> Self::I { _mm512_or_si512(a, b) }
        fn xor(self, a: Self::I, b: Self::I) -> Self::I { _mm512_xor_si512(a, b) }
        fn shl<const N: u32>(self, v: Self::I) -> Self::I { _mm512_slli_epi32::<N>(v) }
        fn shr<const N: u32>(self, v: Self::I) -> Self::I { _mm512_srli_epi32::<N>(v) }
        fn max_i32(self, a: Self::I, b: Self::I) -> Self::I { _mm512_max_epi32(a, b) }
        fn store_low_bytes(self, v: Self::I, to: &mut [u8; LANES]) {
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(v))
        }
        fn add_i32(self, a: Self::I, b: Self::I) -> Self::I { _mm512_add_epi32(a, b) }
        fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I { _mm512_mullo_epi32(a, b) }
        fn lookup16(self, table: &[u8; 16], i: Self::I) -> Self::I {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), i)
        }

        fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
            let mut out = rows;
            // Within each 128 bits: vector `4 i + k` gets column k of rows 4 i .. 4 i + 4.
            for i in (0..LANES).step_by(4) {
                let [a, b] = [rows[i], rows[i + 1]];
                let [c, d] = [rows[i + 2], rows[i + 3]];
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                out[i] = _mm512_shuffle_ps::<0x44>(ab, cd);
                out[i + 1] = _mm512_shuffle_ps::<0xee>(ab, cd);
                let (ab, cd) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                out[i + 2] = _mm512_shuffle_ps::<0x44>(ab, cd);
                out[i + 3] = _mm512_shuffle_ps::<0xee>(ab, cd);
            }
            // Then the 128-bit parts of vectors k, 4 + k, 8 + k and 12 + k.
            for k in 0..4 {
                let [a, b] = [out[k], out[4 + k]];
                let [c, d] = [out[8 + k], out[12 + k]];
                let even = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
                let odd = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
                out[k] = _mm512_shuffle_f32x4::<0x88>(even.0, even.1);
                out[4 + k] = _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1);
                out[8 + k] = _mm512_shuffle_f32x4::<0xdd>(even.0, even.1);
                out[12 + k] = _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1);
            }
            out
        }

        fn add_narrow(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums {
            _mm512_dpbusd_epi32(sums, w, x)
        }
        fn wide(self, w: Self::I) -> Self::I { _mm512_xor_si512(w, _mm512_set1_epi8(-128)) }
        fn dot_wide(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
            _mm512_dpbusd_epi32(acc, w, x)
        }
    }
}
