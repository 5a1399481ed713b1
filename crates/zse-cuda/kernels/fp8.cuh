// FP8 weights (E4M3): rows of bytes, and one f32 scale a row (plane `d`) by which sums of products are multiplied.
// Bytes become f16, which holds every E4M3 number exactly, but where they meet FP8 activations. Rows are whole groups
// of 32.
#pragma once
#include "layouts.cuh"
#include <cuda_fp8.h>

// The layout, as a type.
struct Fp8;

// Whether sums with weights of a layout lack the scales of their rows.
template <class L>
constexpr bool ROW_SCALED = false;
template <>
constexpr bool ROW_SCALED<Fp8> = true;

constexpr float LARGEST_FP8 = 448.0f;

__device__ __forceinline__ const float* row_scales(const Matrix& m) { return reinterpret_cast<const float*>(m.d); }

// The lower two bytes of a word as f16.
__device__ __forceinline__ uint32_t two_halves(uint32_t word) {
#if __CUDA_ARCH__ >= 890
    uint32_t v;
    asm("{ .reg .b16 two; cvt.u16.u32 two, %1; cvt.rn.f16x2.e4m3x2 %0, two; }" : "=r"(v) : "r"(word));
    return v;
#else
    // Sign, exponent and mantissa as those of f16 numbers 2^8 times smaller: exact, of subnormal ones too.
    uint32_t spread = __byte_perm(word, 0, 0x1404);
    uint32_t bits = (spread & 0x80008000u) | ((spread & 0x7f007f00u) >> 1), factor = 0x5c005c00u;
    __half2 v = __hmul2(reinterpret_cast<__half2&>(bits), reinterpret_cast<__half2&>(factor));
    return reinterpret_cast<uint32_t&>(v);
#endif
}

__device__ __forceinline__ float2 two_floats(uint32_t word) {
    uint32_t v = two_halves(word);
    return __half22float2(reinterpret_cast<__half2&>(v));
}

// Rounded to nearest, ties to even; what is too large becomes the largest, and what is no number stays none.
__device__ __forceinline__ uint32_t four_bytes(const float4& v) {
    uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(v.x, v.y), __NV_SATFINITE, __NV_E4M3);
    uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(v.z, v.w), __NV_SATFINITE, __NV_E4M3);
    return low | high << 16;
}

// The factor that brings a row whose largest magnitude is `top` to the range of E4M3; 0 of rows too small for one.
__device__ __forceinline__ float factor_of(float top) {
    float factor = LARGEST_FP8 / top;
    return isinf(factor) ? 0.0f : factor;
}

__device__ __forceinline__ float scale_of(float top) { return isinf(LARGEST_FP8 / top) ? 0.0f : top / LARGEST_FP8; }

__device__ __forceinline__ float4 times(const float4& v, float by) {
    return make_float4(v.x * by, v.y * by, v.z * by, v.w * by);
}

__device__ __forceinline__ float largest(const float4& v) {
    return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}
