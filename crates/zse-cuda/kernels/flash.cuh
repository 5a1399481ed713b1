// Attention on tensor cores with heads of D = 64, 128 or 256, for caches of 16 bits, or of 8 (packed.cuh): 16 rows of queries a
// warp (a row is a head of a token), 16 keys at a time from shared memory, running maxima and sums in
// registers (Dao 2023, arXiv:2307.08691). Scores are in base 2: scaled by log2(e).
#pragma once
#include "attention.cuh"
#include "packed.cuh"

template <int D>
__device__ __forceinline__ uint32_t slab_offset(int row, int chunk) {
    return row * D * 2 + ((chunk ^ (row & 7)) << 4);
}

template <class T, int D>
struct Rows {
    uint32_t q[D / 16][4];
    float o[D / 8][4];
    float top[2], total[2];
    Range range[2];

    // Rows `lane / 4` and that + 8: null for rows that are none.
    __device__ __forceinline__ void init(const float* row0, const float* row1, float scale) {
        int at = threadIdx.x % 4 * 2;
#pragma unroll
        for (int k = 0; k < D / 16; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float* row = i % 2 ? row1 : row0;
                const float* p = row + k * 16 + at + i / 2 * 8;
                q[k][i] = row ? Mma<T>::pack(p[0] * scale, p[1] * scale) : 0;
            }
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[j][i] = 0.0f;
        top[0] = top[1] = -INFINITY;
        total[0] = total[1] = 0.0f;
    }

    // Takes 16 keys from `first` on, whose rows of keys and values are in shared memory.
    __device__ __forceinline__ void take(uint32_t keys, uint32_t values, int first, float softcap) {
        int lane = threadIdx.x % WARP;
        float s[2][4] = {};
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            uint32_t b[4];
            load_matrices(b, keys + slab_offset<D>(lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            Mma<T>::run(s[0], q[k], b[0], b[1]);
            Mma<T>::run(s[1], q[k], b[2], b[3]);
        }
        float next[2] = {top[0], top[1]};
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int key = first + j * 8 + lane % 4 * 2 + i % 2;
                const Range& r = range[i / 2];
                if (softcap > 0.0f) s[j][i] = softcap * tanhf(s[j][i] / softcap) * LOG2E;
                if (key < r.begin || key >= r.end) s[j][i] = -INFINITY;
                next[i / 2] = fmaxf(next[i / 2], s[j][i]);
            }
        float base[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            next[r] = fmaxf(next[r], __shfl_xor_sync(ALL_LANES, next[r], 1));
            next[r] = fmaxf(next[r], __shfl_xor_sync(ALL_LANES, next[r], 2));
            base[r] = next[r] == -INFINITY ? 0.0f : next[r];
            float keep = exp2f(top[r] - base[r]);
            top[r] = next[r];
            total[r] *= keep;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                o[j][2 * r] *= keep;
                o[j][2 * r + 1] *= keep;
            }
        }
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[j][i] = exp2f(s[j][i] - base[i / 2]);
                total[i / 2] += s[j][i];
            }
        uint32_t p[4] = {Mma<T>::pack(s[0][0], s[0][1]), Mma<T>::pack(s[0][2], s[0][3]),
                         Mma<T>::pack(s[1][0], s[1][1]), Mma<T>::pack(s[1][2], s[1][3])};
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            uint32_t b[4];
            load_matrices_transposed(b, values + slab_offset<D>(lane % 16, 2 * j + lane / 16));
            Mma<T>::run(o[2 * j], p, b[0], b[1]);
            Mma<T>::run(o[2 * j + 1], p, b[2], b[3]);
        }
    }

    // The lanes of a row have parts of its total.
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            total[r] += __shfl_xor_sync(ALL_LANES, total[r], 1);
            total[r] += __shfl_xor_sync(ALL_LANES, total[r], 2);
        }
    }

    static constexpr float LOG2E = 1.4426950408889634f;
};

// Copies 16-byte chunk `e` of a slab of 16 keys from `first` on, which lie in one block; zeros from `end`
// on, because what is masked is multiplied all the same.
template <int D>
__device__ __forceinline__ void copy_chunk(const Plane& p, const uint32_t* table, int head, int first, int end,
                                           uint32_t to, int e) {
    int row = e / (D / 8), chunk = e % (D / 8);
    const uint8_t* from = kv_row(p, table[first / p.block_len], head, first % p.block_len + row);
    copy16(to + slab_offset<D>(row, chunk), from + chunk * 16, first + row < end);
}
