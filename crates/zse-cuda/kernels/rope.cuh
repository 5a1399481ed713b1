// A head's rotation by its token's position, as zse_model::rope defines the angles.
#pragma once
#include "common.cuh"

struct Rotation {
    const float* frequencies;  // [pairs]
    int pairs;
    int halves;  // 1: number i pairs with i + pairs; 0: 2i with 2i + 1
    float magnitude;
};

// What pair `pair` is turned by: cosine and sine.
__device__ __forceinline__ float2 turn(const Rotation& r, int pair, uint32_t position) {
    // The angle is the product rounded to f32; sincosf then is good to an ulp or two.
    float sin, cos;
    sincosf(__fmul_rn(float(position), r.frequencies[pair]), &sin, &cos);
    return make_float2(cos * r.magnitude, sin * r.magnitude);
}

// Number `i` of the rotated head `x`; `turns(pair)` as of `turn`.
template <class Turns>
__device__ __forceinline__ float rotated(const Rotation& r, const float* x, int i, const Turns& turns) {
    if (i >= 2 * r.pairs) return x[i];
    bool second = r.halves ? i >= r.pairs : i % 2;
    int pair = r.halves ? (second ? i - r.pairs : i) : i / 2;
    float a = r.halves ? x[pair] : x[2 * pair];
    float b = r.halves ? x[pair + r.pairs] : x[2 * pair + 1];
    float2 by = turns(pair);
    return second ? a * by.y + b * by.x : a * by.x - b * by.y;
}
