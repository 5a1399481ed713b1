// Rounds activations by groups of 32 to int8, as zse_quant::contract defines it.
#pragma once
#include "common.cuh"

// The 32 lanes of a warp hold a group's numbers `v`; writes group `g` of `groups` of a column.
__device__ __forceinline__ void quantize_group(float v, int lane, uint8_t* q, float2* s, int g, int groups) {
    float top = warp_max(fabsf(v));
    bool bad = __any_sync(ALL_LANES, isnan(v)) || isinf(top);
    float inverse = 127.0f / top;
    bool tiny = isinf(inverse);
    int level = bad || tiny ? 0 : __float2int_rn(__fmul_rn(v, inverse));
    int sum = level;
#pragma unroll
    for (int i = 8; i > 0; i /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, i);
    int sum1 = __shfl_sync(ALL_LANES, sum, 16);
    q[(lane < 16 ? 0 : groups * 16) + g * 16 + lane % 16] = uint8_t(level);
    if (lane == 0) {
        float scale = bad ? NAN : tiny ? 0.0f : top / 127.0f;
        s[g] = make_float2(scale, __int_as_float((sum & 0xffff) | (sum1 << 16)));
    }
}

// The same with four numbers `v` a lane: eight lanes hold a group, `chunk` counts fours along the column.
// All lanes of the warp take part; those not `inside` write nothing.
__device__ __forceinline__ void quantize_quarter(const float4& v, bool inside, uint8_t* q, float2* s, int chunk, int groups) {
    float top = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
    int nan = isnan(v.x) || isnan(v.y) || isnan(v.z) || isnan(v.w);
#pragma unroll
    for (int i = 1; i < 8; i *= 2) {
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, i));
        nan |= __shfl_xor_sync(ALL_LANES, nan, i);
    }
    bool bad = nan || isinf(top);
    float inverse = 127.0f / top;
    bool tiny = isinf(inverse);
    auto level = [&](float x) { return bad || tiny ? 0 : __float2int_rn(__fmul_rn(x, inverse)); };
    int l[4] = {level(v.x), level(v.y), level(v.z), level(v.w)};
    int sum = l[0] + l[1] + l[2] + l[3];
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    sum += __shfl_xor_sync(ALL_LANES, sum, 2);
    int sum1 = __shfl_xor_sync(ALL_LANES, sum, 4);
    if (!inside) return;
    int g = chunk / 8, part = chunk % 8;
    uint32_t bytes = (l[0] & 255) | (l[1] & 255) << 8 | (l[2] & 255) << 16 | uint32_t(l[3]) << 24;
    *reinterpret_cast<uint32_t*>(q + (part < 4 ? 0 : groups * 16) + g * 16 + part % 4 * 4) = bytes;
    if (part == 0) {
        float scale = bad ? NAN : tiny ? 0.0f : top / 127.0f;
        s[g] = make_float2(scale, __int_as_float((sum & 0xffff) | (sum1 << 16)));
    }
}
