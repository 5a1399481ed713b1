// Products of an FP8 matrix [rows, cols] with 1 to 8 columns of unrounded f32 activations, summed in f32. A warp takes
// two rows (or one and its gate), and lanes words of four neighbouring weights: so the activations that they read lie
// beside one another too, four numbers a lane, and no banks of the cache are in each other's way.
// Floor: the bytes of the matrix over bandwidth.
#include "fp8.cuh"
#include "gemv.cuh"

__device__ __forceinline__ uint32_t stream4(const void* p) {
    uint32_t v;
    asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

// Sums of rows `first` of `a` and `second` of `b`, without their scales, by PARTS warps each; see gemv_quant.cu. Steps lie
// at fixed places behind pointers that move on, and are whole; what is left of a row comes last.
template <int NC, int PARTS>
__device__ __forceinline__ void sums(const Product& p, const Matrix& a, const Matrix& b, int first, int second,
                                     int column, int part, float (&acc)[2][NC]) {
    constexpr int UNROLL = NC <= 2 ? 4 : 2, STRIDE = PARTS * WARP, STEP = UNROLL * STRIDE;
    using Words = uint32_t[UNROLL][2];
    int words = a.cols / 4, lane = part * WARP + threadIdx.x % WARP, steps = words / STEP, whole = steps * STEP;
    const uint32_t* rows[2] = {reinterpret_cast<const uint32_t*>(a.q) + size_t(first) * words + lane,
                               reinterpret_cast<const uint32_t*>(b.q) + size_t(second) * words + lane};
    const float4* columns[NC];
#pragma unroll
    for (int c = 0; c < NC; c++)
        columns[c] = reinterpret_cast<const float4*>(p.x + size_t(column + min(c, p.n - 1 - column)) * a.cols) + lane;
    auto fetch = [&](Words& raw, int step) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int r = 0; r < 2; r++) raw[u][r] = stream4(rows[r] + step * STEP + u * STRIDE);
    };
    auto add = [&](const uint32_t (&raw)[2], const float4 (&v)[NC]) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float2 low = two_floats(raw[r]), high = two_floats(raw[r] >> 16);
#pragma unroll
            for (int c = 0; c < NC; c++) {
                acc[r][c] = fmaf(low.x, v[c].x, acc[r][c]);
                acc[r][c] = fmaf(low.y, v[c].y, acc[r][c]);
                acc[r][c] = fmaf(high.x, v[c].z, acc[r][c]);
                acc[r][c] = fmaf(high.y, v[c].w, acc[r][c]);
            }
        }
    };
    auto take = [&](const Words& raw, int step) {
        float4 v[UNROLL][NC];
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int c = 0; c < NC; c++) v[u][c] = columns[c][step * STEP + u * STRIDE];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) add(raw[u], v[u]);
    };
    Words even, odd, rest;
    // All but the shortest rows are on their way before the wait.
    int second_step = steps > 1 ? 1 : 0;
    if (steps == 0) {
        wait_for_inputs();
    } else {
        fetch(even, 0);
        fetch(odd, second_step);
        wait_for_inputs();
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            rest[u][r] = whole + u * STRIDE + lane < words ? stream4(rows[r] + whole + u * STRIDE) : 0;
    for (int left = steps; left > 0; left -= 2) {
        take(even, 0);
        if (left > 2) fetch(even, 2);
        if (left > 1) take(odd, 1);
        if (left > 3) fetch(odd, 3);
#pragma unroll
        for (int r = 0; r < 2; r++) rows[r] += 2 * STEP;
#pragma unroll
        for (int c = 0; c < NC; c++) columns[c] += 2 * STEP;
    }
    // The pointers have moved on by whole pairs.
    int done = (steps + 1) / 2 * 2 * STEP;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        if (whole + u * STRIDE + lane >= words) continue;
        float4 v[NC];
#pragma unroll
        for (int c = 0; c < NC; c++) v[c] = columns[c][whole - done + u * STRIDE];
        add(rest[u], v);
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int c = 0; c < NC; c++) acc[r][c] = warp_sum(acc[r][c]);
}

// Columns from blockIdx.y * NC on.
template <int NC, bool GATED>
__device__ __forceinline__ void gemv(const Product& p, int block) {
    let_next_start();
    Share share = share_of<GATED>(p, block);
    int row = min(share.row, p.w.rows - 1), column = blockIdx.y * NC;
    const Matrix& other = GATED ? p.up : p.w;
    int second = GATED ? row : min(row + 1, p.w.rows - 1);
    float scales[2] = {row_scales(p.w)[row], row_scales(other)[second]}, acc[2][NC] = {};
    if (share.parts == 1) {
        sums<NC, 1>(p, p.w, other, row, second, column, 0, acc);
    } else {
        sums<NC, 4>(p, p.w, other, row, second, column, share.part, acc);
        add_parts<NC>(share, acc);
    }
    if (threadIdx.x % WARP || share.part || share.row >= p.w.rows) return;
#pragma unroll
    for (int c = 0; c < NC; c++)
        if (column + c < p.n) store<GATED>(p, row, column + c, acc[0][c] * scales[0], acc[1][c] * scales[1]);
}

// Up to three products of one column, such as those of queries, keys and values, in one launch.
struct Products {
    Product p[3];
    int layout[3];  // not used: all are FP8
    int end[3];     // the block behind the last of each
};

extern "C" __global__ void __launch_bounds__(128) gemv_several_fp8(const __grid_constant__ Products all) {
    int part = blockIdx.x < all.end[0] ? 0 : blockIdx.x < all.end[1] ? 1 : 2;
    gemv<1, false>(all.p[part], blockIdx.x - (part ? all.end[part - 1] : 0));
}

#define KERNEL(NC)                                                                                       \
    extern "C" __global__ void __launch_bounds__(128) gemv_fp8_##NC(const __grid_constant__ Product p) {  \
        gemv<NC, false>(p, blockIdx.x);                                                                  \
    }                                                                                                    \
    extern "C" __global__ void __launch_bounds__(128) gated_fp8_##NC(const __grid_constant__ Product p) { \
        gemv<NC, true>(p, blockIdx.x);                                                                   \
    }
KERNEL(1)
KERNEL(2)
KERNEL(4)
KERNEL(8)
