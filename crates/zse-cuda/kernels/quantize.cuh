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
