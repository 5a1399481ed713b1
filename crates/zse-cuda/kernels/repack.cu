// From ggml's blocks to the planes of layouts.cuh, one thread a group of 32 weights. Reads and writes
// each byte once; runs at load, behind the copy from the host (floor: the copy).
#include "layouts.cuh"

__device__ __forceinline__ uint8_t nibble(const uint8_t* p, int shift) { return (*p >> shift) & 15; }

struct Planes {
    uint8_t* q;
    uint8_t* h;
    uint8_t* s;
    uint8_t* d;
};

// Blocks of 18 bytes: d, 16 bytes of nibbles in the order of the plane.
extern "C" __global__ void repack_q4_0(const uint8_t* src, Planes to, size_t groups) {
    size_t g = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    const uint8_t* b = src + 18 * g;
    to.d[2 * g] = b[0];
    to.d[2 * g + 1] = b[1];
    for (int i = 0; i < 16; i++) to.q[16 * g + i] = b[2 + i];
}

// Blocks of 34 bytes: d, 32 signed bytes.
extern "C" __global__ void repack_q8_0(const uint8_t* src, Planes to, size_t groups) {
    size_t g = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    const uint8_t* b = src + 34 * g;
    to.d[2 * g] = b[0];
    to.d[2 * g + 1] = b[1];
    for (int i = 0; i < 16; i++) {
        to.q[16 * g + i] = b[2 + i];
        to.h[16 * g + i] = b[18 + i];
    }
}

// Blocks of 22 bytes: d, 32 fifth bits, 16 bytes of nibbles. To the planes of q8_0, whose bytes hold what the five bits
// mean.
extern "C" __global__ void repack_q5_0(const uint8_t* src, Planes to, size_t groups) {
    size_t g = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    const uint8_t* b = src + 22 * g;
    to.d[2 * g] = b[0];
    to.d[2 * g + 1] = b[1];
    uint32_t high = uint32_t(b[2]) | uint32_t(b[3]) << 8 | uint32_t(b[4]) << 16 | uint32_t(b[5]) << 24;
    for (int i = 0; i < 16; i++) {
        to.q[16 * g + i] = uint8_t((nibble(b + 6 + i, 0) | (high >> i & 1) << 4) - 16);
        to.h[16 * g + i] = uint8_t((nibble(b + 6 + i, 4) | (high >> (i + 16) & 1) << 4) - 16);
    }
}

// The scales of a superblock, by its first group.
__device__ void repack_scales(const uint8_t* b, uint8_t* to) {
    uint32_t words[4] = {uint32_t(b[0]) | uint32_t(b[1]) << 8 | uint32_t(b[2]) << 16 | uint32_t(b[3]) << 24, 0, 0, 0};
    const uint8_t* s = b + 4;
    for (int j = 0; j < 8; j++) {
        uint32_t scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        uint32_t min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
        words[1] |= (scale & 15) << (4 * j);
        words[2] |= (min & 15) << (4 * j);
        words[3] |= (scale >> 4 | (min >> 4) << 2) << (4 * j);
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// Superblocks of 144 bytes: d, dmin, 12 bytes of scales, 128 bytes of which each 32 hold two groups.
extern "C" __global__ void repack_q4_k(const uint8_t* src, Planes to, size_t groups) {
    size_t g = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    const uint8_t* b = src + 144 * (g / 8);
    int j = g % 8, shift = 4 * (j % 2);
    const uint8_t* qs = b + 16 + 32 * (j / 2);
    for (int i = 0; i < 16; i++) to.q[16 * g + i] = nibble(qs + i, shift) | nibble(qs + i + 16, shift) << 4;
    if (j == 0) repack_scales(b, to.s + 16 * (g / 8));
}

// Superblocks of 176 bytes: as q4_k, with 32 bytes of fifth bits before the nibbles.
extern "C" __global__ void repack_q5_k(const uint8_t* src, Planes to, size_t groups) {
    size_t g = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    const uint8_t* b = src + 176 * (g / 8);
    int j = g % 8, shift = 4 * (j % 2);
    const uint8_t* qs = b + 48 + 32 * (j / 2);
    uint32_t high = 0;
    for (int i = 0; i < 32; i++) high |= uint32_t((b[16 + i] >> j) & 1) << i;
    reinterpret_cast<uint32_t*>(to.h)[g] = high;
    for (int i = 0; i < 16; i++) to.q[16 * g + i] = nibble(qs + i, shift) | nibble(qs + i + 16, shift) << 4;
    if (j == 0) repack_scales(b, to.s + 16 * (g / 8));
}

// Superblocks of 210 bytes: 128 of low nibbles, 64 of upper bit pairs, 16 scales, d.
extern "C" __global__ void repack_q6_k(const uint8_t* src, Planes to, size_t groups) {
    size_t g = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    const uint8_t* b = src + 210 * (g / 8);
    int j = g % 8, shift = 4 * (j / 2 % 2);
    const uint8_t* ql = b + 64 * (j / 4) + 32 * (j % 2);
    const uint8_t* qh = b + 128 + 32 * (j / 4);
    for (int i = 0; i < 16; i++) to.q[16 * g + i] = nibble(ql + i, shift) | nibble(ql + i + 16, shift) << 4;
    for (int i = 0; i < 8; i++) {
        uint8_t byte = 0;
        for (int k = 0; k < 4; k++) byte |= ((qh[i + 8 * k] >> (2 * (j % 4))) & 3) << (2 * k);
        to.h[8 * g + i] = byte;
    }
    for (int i = 0; i < 2; i++) to.s[2 * g + i] = b[192 + 2 * j + i];
    if (j == 0) {
        to.d[g / 4] = b[208];
        to.d[g / 4 + 1] = b[209];
    }
}
