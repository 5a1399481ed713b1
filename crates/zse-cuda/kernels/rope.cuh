// A head's rotation by its token's position, as zse_model::rope defines the angles.
#pragma once
#include "common.cuh"

struct Rotation {
    const float* frequencies;  // [pairs]
    int pairs;
    int halves;  // 1: number i pairs with i + pairs; 0: 2i with 2i + 1
    float magnitude;
};

// Number `i` of the rotated head `x`.
__device__ __forceinline__ float rotated(const Rotation& r, const float* x, int i, uint32_t position) {
    if (i >= 2 * r.pairs) return x[i];
    int pair = r.halves ? i % r.pairs : i / 2;
    bool second = r.halves ? i >= r.pairs : i % 2;
    float a = r.halves ? x[pair] : x[2 * pair];
    float b = r.halves ? x[pair + r.pairs] : x[2 * pair + 1];
    // The angle is the product rounded to f32; sincosf then is good to an ulp or two.
    float sin, cos;
    sincosf(__fmul_rn(float(position), r.frequencies[pair]), &sin, &cos);
    sin *= r.magnitude;
    cos *= r.magnitude;
    return second ? a * sin + b * cos : a * cos - b * sin;
}
