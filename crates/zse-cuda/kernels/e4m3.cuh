// FP8 numbers (E4M3): from and to what is computed with. f16 holds every one exactly.
#pragma once
#include "common.cuh"
#include <cuda_fp8.h>

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
