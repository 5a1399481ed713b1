//! Vectors on NEON: four registers each. Every function for AArch64 is compiled for NEON, so
//! closures are as good as loops here.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;
use std::marker::PhantomData;

use super::neon_asm::{sdot, widen_f16};
use super::{Kernel, LANES, Simd};

/// Marks [`Neon`] without dot product instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoDot;

/// Marks [`Neon`] with dot product instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dot;

/// Proof that the CPU has NEON and, for [`Neon<Dot>`], the dot product instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon<D = NoDot>(PhantomData<D>);

/// How four products of bytes are summed.
pub(crate) trait DotProduct: Copy + Send + Sync + 'static {
    /// To each lane of `acc`, the dot product of four signed bytes each.
    ///
    /// # Safety
    /// The CPU must have NEON and what the implementing type marks.
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
}

impl DotProduct for NoDot {
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller vouches for NEON.
        unsafe {
            // Products of bytes fit 16 bits; pairs are added in 32.
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
            let high = vpaddlq_s16(vmull_high_s8(w, x));
            vaddq_s32(acc, vpaddq_s32(low, high))
        }
    }
}

impl DotProduct for Dot {
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller vouches for the dot product instructions.
        unsafe { sdot(acc, w, x) }
    }
}

impl Neon {
    /// The proof, if the CPU has NEON.
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(PhantomData))
    }
}

impl Neon<Dot> {
    /// The proof, if the CPU has NEON and the dot product instructions.
    pub(crate) fn detect_dot() -> Option<Self> {
        let found = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
        found.then_some(Self(PhantomData))
    }
}

/// `f` of each pair of registers.
#[inline(always)]
fn pairs<A: Copy, B: Copy, C>(a: [A; 4], b: [B; 4], f: impl Fn(A, B) -> C) -> [C; 4] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl<D: DotProduct> Simd for Neon<D> {
    type F = [float32x4_t; 4];
    type I = [uint32x4_t; 4];
    type Sums = Self::I;

    const COLUMNS: usize = 2;
    const TILES: usize = 1;
    const DIRECT: usize = 2;
    const FLOAT_COLUMNS: usize = 4;
    const WIDE_OFFSET: i32 = 0;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn inner<S: Simd, K: Kernel>(s: S, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` proves that the CPU has NEON.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn wide(self, w: Self::I) -> Self::I {
        w
    }

    #[inline(always)]
    fn begin(self, start: Self::I) -> Self::Sums {
        start
    }

    #[inline(always)]
    fn add_narrow(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums {
        // At most 127: the same as a signed byte.
        self.dot_wide(sums, w, x)
    }

    #[inline(always)]
    fn total(self, sums: Self::Sums, _start: Self::I) -> Self::I {
        sums
    }

    methods! {
        fn splat(self, x: f32) -> Self::F { [vdupq_n_f32(x); 4] }
        fn load(self, x: &[f32; LANES]) -> Self::F {
            let parts = x.as_chunks::<4>().0;
            std::array::from_fn(|i| vld1q_f32(parts[i].as_ptr()))
        }
        fn store(self, v: Self::F, to: &mut [f32; LANES]) {
            for (to, v) in to.as_chunks_mut::<4>().0.iter_mut().zip(v) {
                vst1q_f32(to.as_mut_ptr(), v);
            }
        }
        fn add(self, a: Self::F, b: Self::F) -> Self::F { pairs(a, b, |a, b| vaddq_f32(a, b)) }
        fn sub(self, a: Self::F, b: Self::F) -> Self::F { pairs(a, b, |a, b| vsubq_f32(a, b)) }
        fn mul(self, a: Self::F, b: Self::F) -> Self::F { pairs(a, b, |a, b| vmulq_f32(a, b)) }
        fn div(self, a: Self::F, b: Self::F) -> Self::F { pairs(a, b, |a, b| vdivq_f32(a, b)) }
        fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
            std::array::from_fn(|i| vfmaq_f32(c[i], a[i], b[i]))
        }
        fn max(self, a: Self::F, b: Self::F) -> Self::F {
            pairs(a, b, |a, b| vbslq_f32(vcgtq_f32(a, b), a, b))
        }
        fn min(self, a: Self::F, b: Self::F) -> Self::F {
            pairs(a, b, |a, b| vbslq_f32(vcltq_f32(a, b), a, b))
        }
        fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
            std::array::from_fn(|i| vbslq_f32(vcltq_f32(a[i], b[i]), x[i], y[i]))
        }
        fn round(self, v: Self::F) -> Self::I {
            v.map(|v| vreinterpretq_u32_s32(vcvtnq_s32_f32(v)))
        }
        fn to_f32(self, v: Self::I) -> Self::F {
            v.map(|v| vcvtq_f32_s32(vreinterpretq_s32_u32(v)))
        }
        fn to_bits(self, v: Self::F) -> Self::I { v.map(|v| vreinterpretq_u32_f32(v)) }
        fn from_bits(self, v: Self::I) -> Self::F { v.map(|v| vreinterpretq_f32_u32(v)) }

        fn splat_i32(self, x: i32) -> Self::I { [vdupq_n_u32(x as u32); 4] }
        fn splat_u8(self, x: u8) -> Self::I { [vreinterpretq_u32_u8(vdupq_n_u8(x)); 4] }
        fn load_bytes(self, x: &[u8; 64]) -> Self::I {
            let parts = x.as_chunks::<16>().0;
            std::array::from_fn(|i| vreinterpretq_u32_u8(vld1q_u8(parts[i].as_ptr())))
        }
        fn store_bytes(self, v: Self::I, to: &mut [u8; 64]) {
            for (to, v) in to.as_chunks_mut::<16>().0.iter_mut().zip(v) {
                vst1q_u8(to.as_mut_ptr(), vreinterpretq_u8_u32(v));
            }
        }
        fn widen_u8(self, x: &[u8; LANES]) -> Self::I {
            let x = vld1q_u8(x.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
            [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ]
        }
        fn widen_i8(self, x: &[u8; LANES]) -> Self::I {
            let x = vreinterpretq_s8_u8(vld1q_u8(x.as_ptr()));
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            let parts = [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ];
            parts.map(|v| vreinterpretq_u32_s32(v))
        }
        fn widen_u16(self, x: &[u8; 2 * LANES]) -> Self::I {
            let parts = x.as_chunks::<8>().0;
            std::array::from_fn(|i| vmovl_u16(vreinterpret_u16_u8(vld1_u8(parts[i].as_ptr()))))
        }
        fn widen_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
            let parts = x.as_chunks::<8>().0;
            std::array::from_fn(|i| widen_f16(vreinterpret_u16_u8(vld1_u8(parts[i].as_ptr()))))
        }
        fn f16_of_low(self, v: Self::I) -> Self::F { v.map(|v| widen_f16(vmovn_u32(v))) }

        fn and(self, a: Self::I, b: Self::I) -> Self::I { pairs(a, b, |a, b| vandq_u32(a, b)) }
        fn or(self, a: Self::I, b: Self::I) -> Self::I { pairs(a, b, |a, b| vorrq_u32(a, b)) }
        fn xor(self, a: Self::I, b: Self::I) -> Self::I { pairs(a, b, |a, b| veorq_u32(a, b)) }
        fn shl<const N: u32>(self, v: Self::I) -> Self::I {
            v.map(|v| vshlq_u32(v, vdupq_n_s32(N as i32)))
        }
        fn shr<const N: u32>(self, v: Self::I) -> Self::I {
            v.map(|v| vshlq_u32(v, vdupq_n_s32(-(N as i32))))
        }
        fn max_i32(self, a: Self::I, b: Self::I) -> Self::I {
            pairs(a, b, |a, b| {
                let max = vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b));
                vreinterpretq_u32_s32(max)
            })
        }
        fn store_low_bytes(self, v: Self::I, to: &mut [u8; LANES]) {
            let low = vcombine_u16(vmovn_u32(v[0]), vmovn_u32(v[1]));
            let high = vcombine_u16(vmovn_u32(v[2]), vmovn_u32(v[3]));
            vst1q_u8(to.as_mut_ptr(), vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
        }
        fn add_i32(self, a: Self::I, b: Self::I) -> Self::I { pairs(a, b, |a, b| vaddq_u32(a, b)) }
        fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I { pairs(a, b, |a, b| vmulq_u32(a, b)) }
        fn lookup16(self, table: &[u8; 16], i: Self::I) -> Self::I {
            let table = vld1q_u8(table.as_ptr());
            i.map(|i| vreinterpretq_u32_u8(vqtbl1q_u8(table, vreinterpretq_u8_u32(i))))
        }

        fn dot_wide(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
            std::array::from_fn(|i| {
                let (w, x) = (vreinterpretq_s8_u32(w[i]), vreinterpretq_s8_u32(x[i]));
                vreinterpretq_u32_s32(D::dot(vreinterpretq_s32_u32(acc[i]), w, x))
            })
        }
    }
}
