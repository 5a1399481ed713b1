// Products of an F32 matrix [rows, pitch] (zeros behind `cols`) with many f32 columns, such as the routers of
// mixtures meet: y[t, r] = sum_k w[r, k] x[t, k] + bias[r] + add[t, r]. A block takes 32 rows by 32 columns; four
// groups of 64 threads take turns along k, 4 by 4 results a thread, and are put together in their order.
// Floor: 2 * n * rows * cols over the rate of f32.
#include "gemv.cuh"

constexpr int TILE = 32, GROUPS = 4, GROUP = 64, DEEP = 32;

extern "C" __global__ void __launch_bounds__(GROUPS* GROUP) gemm_f32(const __grid_constant__ Product p) {
    // Numbers of one k lie behind one another; of the sums, those of a group.
    __shared__ __align__(16) float w[GROUPS][DEEP][TILE + 4], x[GROUPS][DEEP][TILE + 4];
    let_next_start();
    wait_for_inputs();
    int group = threadIdx.x / GROUP, thread = threadIdx.x % GROUP, cols = p.w.cols, pitch = (cols + 3) / 4 * 4;
    int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
    int row = thread / 8 * 4, column = thread % 8 * 4;
    const float* weights = reinterpret_cast<const float*>(p.w.q);
    float acc[4][4] = {};
    for (int base = group * DEEP; base - group * DEEP < cols; base += GROUPS * DEEP) {
        __syncthreads();
        // Eight threads take a row's or a column's 32 numbers.
#pragma unroll
        for (int i = 0; i < TILE / 8; i++) {
            int at = thread / 8 + 8 * i, k = base + thread % 8 * 4;
            const float* from = weights + size_t(min(first_row + at, p.w.rows - 1)) * pitch;
            const float* column_of = p.x + size_t(min(first_column + at, p.n - 1)) * cols;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                bool inside = k + j < cols;
                w[group][thread % 8 * 4 + j][at] = inside ? from[k + j] : 0.0f;
                x[group][thread % 8 * 4 + j][at] = inside ? column_of[k + j] : 0.0f;
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < DEEP; k++) {
            float4 a = *reinterpret_cast<const float4*>(&w[group][k][row]);
            float4 b = *reinterpret_cast<const float4*>(&x[group][k][column]);
            float r[4] = {a.x, a.y, a.z, a.w}, c[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(r[i], c[j], acc[i][j]);
        }
    }
    float(*sums)[TILE][TILE + 4] = w;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[group][column + j][row + i] = acc[i][j];
    __syncthreads();
    for (int at = threadIdx.x; at < TILE * TILE; at += GROUPS * GROUP) {
        int r = first_row + at % TILE, t = first_column + at / TILE;
        if (r >= p.w.rows || t >= p.n) continue;
        float v = 0.0f;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) v += sums[g][at / TILE][at % TILE];
        size_t to = size_t(t) * p.w.rows + r;
        v += p.bias ? p.bias[r] : 0.0f;
        p.y[to] = p.add ? v + p.add[to] : v;
    }
}
