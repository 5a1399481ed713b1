//! Products of bytes on AVX-VNNI, which CPUs have that lack AVX-512 but are not old: one instruction
//! for four products a lane, in vectors of [`Avx2`].

use std::arch::x86_64::*;

use super::Kernel;
use super::avx2::{Avx2, ByteProducts, Bytes};

/// Marks [`Avx2`] with AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni;

impl Avx2<Vnni> {
    /// The proof, if the CPU has the features.
    pub(crate) fn detect_vnni() -> Option<Self> {
        Self::detect_with(is_x86_feature_detected!("avxvnni"))
    }
}

impl ByteProducts for Vnni {
    const WIDE_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn enter<K: Kernel>(s: Avx2<Self>, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn inner<K: Kernel>(s: Avx2<Vnni>, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the caller vouches for the features.
        unsafe { inner(s, kernel) }
    }

    #[inline(always)]
    unsafe fn begin(start: Bytes) -> Bytes {
        start
    }

    #[inline(always)]
    unsafe fn add_narrow(sums: Bytes, w: Bytes, x: Bytes) -> Bytes {
        // SAFETY: as of `dot_wide`.
        unsafe { Self::dot_wide(sums, w, x) }
    }

    #[inline(always)]
    unsafe fn total(sums: Bytes, _start: Bytes) -> Bytes {
        sums
    }

    #[inline(always)]
    unsafe fn wide(w: Bytes) -> Bytes {
        // SAFETY: the caller vouches for AVX2.
        unsafe {
            let sign = _mm256_set1_epi8(-128);
            [_mm256_xor_si256(w[0], sign), _mm256_xor_si256(w[1], sign)]
        }
    }

    #[inline(always)]
    unsafe fn dot_wide(acc: Bytes, w: Bytes, x: Bytes) -> Bytes {
        // SAFETY: the caller vouches for AVX-VNNI.
        unsafe {
            [
                _mm256_dpbusd_avx_epi32(acc[0], w[0], x[0]),
                _mm256_dpbusd_avx_epi32(acc[1], w[1], x[1]),
            ]
        }
    }
}
