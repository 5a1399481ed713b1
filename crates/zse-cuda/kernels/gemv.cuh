// What the products of few columns share: arguments, and where results go.
#pragma once
#include "layouts.cuh"

// y[c, r] = sum_k w[r, k] x[c, k] + bias[r] + add[c, r], or for gated products
// act(w x + bias) * (up x + up_bias). Rows of y and add have w.rows numbers.
struct Product {
    Matrix w;
    Matrix up;
    const uint8_t* xq;      // q8 columns (quantize.cu), for quantized weights
    const float2* xs;       // their scales and sums
    const float* x;         // f32 columns, for float weights
    const float* bias;      // or null
    const float* up_bias;   // or null
    const float* add;       // or null
    const float* route;     // of a mixture, or null: [n, 2 * top_k], expert numbers first
    float* y;
    int n;                  // columns of x; of a mixture: pairs of a token and an expert
    int act;
    int top_k;              // of a mixture
    int x_per_pair;         // of a mixture: whether each pair has a column of its own
    int parts;              // warps that share a row: 1 or 4, all of a block
};

// The expert of pair `pair` and the column it reads.
struct Pair {
    int expert;
    int column;
};

__device__ __forceinline__ Pair pair_of(const Product& p, int pair) {
    int token = pair / p.top_k, slot = pair % p.top_k;
    return {int(p.route[size_t(token) * 2 * p.top_k + slot]), p.x_per_pair ? pair : token};
}

// Where a warp works: its row, and which part of the groups it takes.
struct Share {
    int row;
    int part;
    int parts;
};

// Long rows are shared by the warps of a block, `p.parts` of them.
template <bool GATED>
__device__ __forceinline__ Share share_of(const Product& p, int block) {
    int unit = (block * (blockDim.x / WARP) + threadIdx.x / WARP) / p.parts;
    return {GATED ? unit : 2 * unit, int(threadIdx.x / WARP) % p.parts, p.parts};
}

// Puts the sums of the warps that share rows together, in their order, in the first of them.
template <int NC>
__device__ __forceinline__ void add_parts(const Share& share, float (&acc)[2][NC]) {
    if (share.parts == 1) return;
    __shared__ float sums[4][2][NC];
    if (threadIdx.x % WARP == 0)
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int c = 0; c < NC; c++) sums[share.part][r][c] = acc[r][c];
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int c = 0; c < NC; c++) acc[r][c] = sums[0][r][c] + sums[1][r][c] + sums[2][r][c] + sums[3][r][c];
}

// Stores the sums of a warp's two rows (`GATED`: of one row and its gate) for column `c`.
template <bool GATED>
__device__ __forceinline__ void store(const Product& p, int row, int c, float a, float b) {
    size_t at = size_t(c) * p.w.rows + row;
    if (GATED) {
        a += p.bias ? p.bias[row] : 0.0f;
        b += p.up_bias ? p.up_bias[row] : 0.0f;
        p.y[at] = activate(p.act, a) * b;
        return;
    }
    float sum[2] = {a, b};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row + i >= p.w.rows) break;
        float v = sum[i] + (p.bias ? p.bias[row + i] : 0.0f);
        p.y[at + i] = p.add ? v + p.add[at + i] : v;
    }
}
