// Rounds activations by groups of 32 to int8, as zse_quant::contract defines it.
#pragma once
#include "tiles.cuh"

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

// Four numbers rounded, and of all 32 of their group the scale and the sums of its halves.
struct Quarter {
    uint32_t bytes;
    float scale;
    int sum;   // of the half that the lane is of
    int other;
};

// The same with four numbers `v` a lane: eight lanes hold a group. All lanes of the warp take part.
__device__ __forceinline__ Quarter round_quarter(const float4& v) {
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
    Quarter quarter;
    quarter.bytes = (l[0] & 255) | (l[1] & 255) << 8 | (l[2] & 255) << 16 | uint32_t(l[3]) << 24;
    quarter.scale = bad ? NAN : tiny ? 0.0f : top / 127.0f;
    int sum = l[0] + l[1] + l[2] + l[3];
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    sum += __shfl_xor_sync(ALL_LANES, sum, 2);
    quarter.sum = sum;
    quarter.other = __shfl_xor_sync(ALL_LANES, sum, 4);
    return quarter;
}

// Rounds four numbers a lane to a column; `chunk` counts fours along it. Lanes not `inside` write nothing.
__device__ __forceinline__ void quantize_quarter(const float4& v, bool inside, uint8_t* q, float2* s, int chunk, int groups) {
    Quarter r = round_quarter(v);
    if (!inside) return;
    int g = chunk / 8, part = chunk % 8;
    *reinterpret_cast<uint32_t*>(q + (part < 4 ? 0 : groups * 16) + g * 16 + part % 4 * 4) = r.bytes;
    if (part == 0) s[g] = make_float2(r.scale, __int_as_float((r.sum & 0xffff) | (r.other << 16)));
}

// The same to column `n` of tiles of bytes.
__device__ __forceinline__ void tile_quarter(const float4& v, bool inside, const Tiles& to, int n, int chunk) {
    Quarter r = round_quarter(v);
    if (!inside) return;
    int g = chunk / 8 % 8, part = chunk % 8, column = n % 8;
    uint8_t* at = to.at + (size_t(chunk / 64) * to.atoms + n / 8) * BYTES_OF_EIGHT;
    *reinterpret_cast<uint32_t*>(at + (g / 2 * 32 + column * 4 + part % 4) * 16 + g % 2 * 8 + part / 4 * 4) = r.bytes;
    if (part) return;
    *reinterpret_cast<float*>(at + SCALES_OF_EIGHT + (g / 2 * 4 + column / 2) * 16 + g % 2 * 8 + column % 2 * 4) = r.scale;
    // The sum of what the bytes stand for, in two parts.
    float sum = float(r.sum + r.other) * r.scale;
    __nv_bfloat16 high = __float2bfloat16(sum), low = __float2bfloat16(sum - __bfloat162float(high));
    __nv_bfloat16* sums = reinterpret_cast<__nv_bfloat16*>(at + SUMS_OF_EIGHT + (column * 4 + g % 4) * 8) + g / 4;
    sums[0] = high;
    sums[2] = low;
}
