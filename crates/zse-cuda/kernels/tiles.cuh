// Activations as warpgroups read them (gemm_hopper.cuh): for each 64 numbers along k the columns one behind
// another, 128 bytes each, their 16-byte chunks swizzled by column. Where weights come from registers, numbers
// are put in the order in which a warp's lanes hold those, so that a lane uses whole words that it loaded:
// within 128 along k, lane t of four takes for its step s of 8 the numbers
//     GROUPS: 32 t + 4 s + {0, 2, 1, 3}                 quantized: a group of 32 each, words of four levels
//     LANES:  32 (s / 2) + 8 t + 4 (s % 2) + {0 .. 3}   16-bit weights: 16 bytes each
// of which the first two are k = 2 t and 2 t + 1 of the instruction, the others those + 8. PLAIN is their own
// order, for weights in shared memory.
#pragma once
#include "common.cuh"

constexpr int STEP = 128;  // numbers along k that are multiplied at once

// BYTES: int8, for each 256 along k the columns in eights, as mma.sync takes them (gemm_bytes.cuh). Of groups 2 p and
// 2 p + 1, lane l of column l / 4 has numbers 4 (l % 4) + {0 .. 3} and those + 16: 16 bytes. Behind those, the scales
// of the groups: of groups 2 p and 2 p + 1 those of columns 2 i and 2 i + 1, 16 bytes; and the groups' sums times
// scale in bf16, of each column and groups j and j + 4 what they are, and what that lacks, 8 bytes.
constexpr int SCALES_OF_EIGHT = 2048, SUMS_OF_EIGHT = 2304, BYTES_OF_EIGHT = 2560;

enum Order : int { LANES, GROUPS, PLAIN, BYTES };

// Where numbers of columns go.
struct Tiles {
    uint8_t* at;  // or null
    int atoms;    // columns / 8, with those that nothing is written to
    Order order;
};

// Byte offset of 16-byte chunk 2 s + `half` of step `step` of column `n`; lane t has bytes 4 t to 4 t + 3.
__device__ __forceinline__ size_t tile_chunk(int n, int step, int s, int half, int atoms) {
    size_t atom = size_t(2 * step + s / 4) * atoms + n / 8;
    return atom * 1024 + n % 8 * 128 + (((2 * (s % 4) + half) ^ n % 8) << 4);
}

// Byte offset of number `k` of column `n`, and of the one that its word holds besides: `k` + 2 of GROUPS, else
// k + 1. `k` is the lower of the two.
__device__ __forceinline__ size_t tile_word(const Tiles& to, int n, int k) {
    int step = k / STEP;
    if (to.order == PLAIN) return tile_chunk(n, step, k / 16 % 8, k / 8 % 2, to.atoms) + k % 8 * 2;
    if (to.order == GROUPS) return tile_chunk(n, step, k / 4 % 8, k % 2, to.atoms) + k / 32 % 4 * 4;
    return tile_chunk(n, step, k / 32 % 4 * 2 + k / 4 % 2, k / 2 % 2, to.atoms) + k / 8 % 4 * 4;
}

__device__ __forceinline__ void store_word(const Tiles& to, int n, int k, float a, float b) {
    __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    *reinterpret_cast<__nv_bfloat162*>(to.at + tile_word(to, n, k)) = v;
}

// Four numbers from `k` on, a multiple of 4.
__device__ __forceinline__ void store_four(const Tiles& to, int n, int k, const float4& v) {
    bool groups = to.order == GROUPS;
    store_word(to, n, k, v.x, groups ? v.z : v.y);
    if (groups) store_word(to, n, k + 1, v.y, v.w);
    else store_word(to, n, k + 2, v.z, v.w);
}
