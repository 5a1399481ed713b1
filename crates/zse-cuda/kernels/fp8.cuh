// FP8 weights (E4M3): rows of bytes, and one f32 scale a row (plane `d`) by which sums of products are multiplied.
// Bytes become f16, which holds every E4M3 number exactly, but where they meet FP8 activations. Rows are whole groups
// of 32.
#pragma once
#include "e4m3.cuh"
#include "layouts.cuh"

// The layout, as a type.
struct Fp8;

// Whether sums with weights of a layout lack the scales of their rows.
template <class L>
constexpr bool ROW_SCALED = false;
template <>
constexpr bool ROW_SCALED<Fp8> = true;

constexpr float LARGEST_FP8 = 448.0f;

__device__ __forceinline__ const float* row_scales(const Matrix& m) { return reinterpret_cast<const float*>(m.d); }

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
