// Products of an FP8 matrix [rows, cols] with 1 to 8 columns of unrounded f32 activations, summed in f32. A warp takes
// two rows (or one and its gate), and lanes words of four neighbouring weights: so the activations that they read lie
// beside one another too, four numbers a lane, and no banks of the cache are in each other's way.
// Floor: the bytes of the matrix over bandwidth.
#include "fp8.cuh"
#include "gemv.cuh"

__device__ __forceinline__ uint32_t stream4(const void* p) {
    uint32_t v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

// Sums of rows `first` of `a` and `second` of `b`, without their scales; see gemv_quant.cu.
template <int NC>
__device__ __forceinline__ void sums(const Product& p, const Matrix& a, const Matrix& b, int first, int second,
                                     int column, const Share& share, float (&acc)[2][NC]) {
    constexpr int UNROLL = NC <= 2 ? 8 : 4;
    using Words = uint32_t[UNROLL][2];
    int words = a.cols / 4, stride = share.parts * WARP, step = UNROLL * stride;
    int lane = share.part * WARP + threadIdx.x % WARP;
    const uint32_t* rows[2] = {reinterpret_cast<const uint32_t*>(a.q) + size_t(first) * words,
                               reinterpret_cast<const uint32_t*>(b.q) + size_t(second) * words};
    auto fetch = [&](Words& raw, int base) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int at = min(base + u * stride + lane, words - 1);
            raw[u][0] = stream4(rows[0] + at);
            raw[u][1] = stream4(rows[1] + at);
        }
    };
    auto take = [&](const Words& raw, int base) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int at = base + u * stride + lane;
            if (at >= words) break;
            float2 w[2][2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                w[r][0] = two_floats(raw[u][r]);
                w[r][1] = two_floats(raw[u][r] >> 16);
            }
#pragma unroll
            for (int c = 0; c < NC; c++) {
                const float* x = p.x + size_t(column + min(c, p.n - 1 - column)) * a.cols;
                float4 v = reinterpret_cast<const float4*>(x)[at];
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    acc[r][c] = fmaf(w[r][0].x, v.x, acc[r][c]);
                    acc[r][c] = fmaf(w[r][0].y, v.y, acc[r][c]);
                    acc[r][c] = fmaf(w[r][1].x, v.z, acc[r][c]);
                    acc[r][c] = fmaf(w[r][1].y, v.w, acc[r][c]);
                }
            }
        }
    };
    Words even, odd;
    fetch(even, 0);
    fetch(odd, step);
    wait_for_inputs();
    for (int base = 0; base < words; base += 2 * step) {
        take(even, base);
        if (base + 2 * step < words) fetch(even, base + 2 * step);
        take(odd, base + step);
        if (base + 3 * step < words) fetch(odd, base + 3 * step);
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int c = 0; c < NC; c++) acc[r][c] = warp_sum(acc[r][c]);
    add_parts<NC>(share, acc);
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
    sums<NC>(p, p.w, other, row, second, column, share, acc);
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
