// Products of a quantized matrix [rows, cols] with 1 to 8 columns of int8 activations: each weight is
// read once, 16 bytes a lane, straight to registers. A warp takes two rows (or one and its gate);
// lanes take groups of 32 along k. The first loads are issued before the kernel waits for the
// activations. Floor: the bytes of the matrix over bandwidth.
#include "gemv.cuh"

// Adds the products of group `g` with group `at` of column `c` (of `groups` groups).
template <class L>
__device__ __forceinline__ float multiply(const Group& g, const Product& p, int c, int at, int groups, float acc) {
    const uint8_t* q = p.xq + size_t(c) * groups * 32 + at * 16;
    uint4 lo = *reinterpret_cast<const uint4*>(q);
    uint4 hi = *reinterpret_cast<const uint4*>(q + groups * 16);
    float2 s = p.xs[size_t(c) * groups + at];
    int p0 = dp4a(g.q[0], lo.x, dp4a(g.q[1], lo.y, dp4a(g.q[2], lo.z, dp4a(g.q[3], lo.w, 0))));
    int p1 = dp4a(g.q[4], hi.x, dp4a(g.q[5], hi.y, dp4a(g.q[6], hi.z, dp4a(g.q[7], hi.w, 0))));
    int sums = __float_as_int(s.y);
    int s0 = int(int16_t(sums & 0xffff)), s1 = sums >> 16;
    float t;
    if (L::SPLIT) {
        t = float(p0 - L::ZERO * s0) * g.w[0];
        t = fmaf(float(p1 - L::ZERO * s1), g.w[1], t);
        if (L::MIN) t = fmaf(float(s1), g.m[1], fmaf(float(s0), g.m[0], t));
    } else {
        t = float(p0 + p1 - L::ZERO * (s0 + s1)) * g.w[0];
        if (L::MIN) t = fmaf(float(s0 + s1), g.m[0], t);
    }
    return fmaf(t, s.x, acc);
}

// Sums of rows `first` and `second` (numbers of rows in all experts) with columns from `column` on. Two
// sets of loads are in flight: one is multiplied while the other arrives.
template <class L, int NC, bool WAIT>
__device__ __forceinline__ void sums(const Product& p, const Matrix& a, const Matrix& b, size_t first,
                                     size_t second, int column, const Share& share, float (&acc)[2][NC]) {
    constexpr int UNROLL = NC <= 2 ? 2 : 1;
    using Raws = typename L::Raw[UNROLL][2];
    int groups = a.cols / 32, lane = share.part * WARP + threadIdx.x % WARP;
    int stride = share.parts * WARP, step = UNROLL * stride;
    auto fetch = [&](Raws& raw, int base) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int g = min(base + u * stride + lane, groups - 1);
            raw[u][0] = L::load(a, first * groups + g);
            raw[u][1] = L::load(b, second * groups + g);
        }
    };
    auto take = [&](const Raws& raw, int base) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int at = base + u * stride + lane;
            if (at >= groups) break;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                Group g;
                L::group(raw[u][r], at, g);
#pragma unroll
                for (int c = 0; c < NC; c++)
                    acc[r][c] = multiply<L>(g, p, column + min(c, p.n - 1 - column), at, groups, acc[r][c]);
            }
        }
    };
    Raws even, odd;
    fetch(even, 0);
    fetch(odd, step);
    if (WAIT) wait_for_inputs();
    for (int base = 0; base < groups; base += 2 * step) {
        take(even, base);
        if (base + 2 * step < groups) fetch(even, base + 2 * step);
        take(odd, base + step);
        if (base + 3 * step < groups) fetch(odd, base + 3 * step);
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int c = 0; c < NC; c++) acc[r][c] = warp_sum(acc[r][c]);
    add_parts<NC>(share, acc);
}

template <class L, int NC, bool GATED>
__device__ __forceinline__ void gemv(const Product& p, int block) {
    let_next_start();
    Share share = share_of<GATED>(p, block);
    int row = min(share.row, p.w.rows - 1);
    float acc[2][NC] = {};
    sums<L, NC, true>(p, p.w, GATED ? p.up : p.w, row, GATED ? row : min(row + 1, p.w.rows - 1), 0, share, acc);
    if (threadIdx.x % WARP || share.part || share.row >= p.w.rows) return;
#pragma unroll
    for (int c = 0; c < NC; c++)
        if (c < p.n) store<GATED>(p, row, c, acc[0][c], acc[1][c]);
}

// Of a mixture: each pair of a token and an expert (blockIdx.y) by itself.
template <class L, bool GATED>
__device__ __forceinline__ void gemv_experts(const Product& p) {
    let_next_start();
    wait_for_inputs();
    Share share = share_of<GATED>(p, blockIdx.x);
    int row = min(share.row, p.w.rows - 1);
    Pair pair = pair_of(p, blockIdx.y);
    size_t first = size_t(pair.expert) * p.w.rows;
    Product one = p;
    one.n = pair.column + 1;
    float acc[2][1] = {};
    sums<L, 1, false>(one, p.w, GATED ? p.up : p.w, first + row,
                      first + (GATED ? row : min(row + 1, p.w.rows - 1)), pair.column, share, acc);
    if (threadIdx.x % WARP || share.part || share.row >= p.w.rows) return;
    store<GATED>(p, row, blockIdx.y, acc[0][0], acc[1][0]);
}

// Up to three products of one column, such as those of queries, keys and values, in one launch.
struct Products {
    Product p[3];
    int layout[3];  // 0: q4_0, 1: q8_0, 2: q4_k, 3: q5_k, 4: q6_k
    int end[3];     // the block behind the last of each
};

extern "C" __global__ void __launch_bounds__(128) gemv_several(const __grid_constant__ Products all) {
    int part = blockIdx.x < all.end[0] ? 0 : blockIdx.x < all.end[1] ? 1 : 2;
    int block = blockIdx.x - (part ? all.end[part - 1] : 0);
    const Product& p = all.p[part];
    switch (all.layout[part]) {
        case 0: return gemv<Q4_0, 1, false>(p, block);
        case 1: return gemv<Q8_0, 1, false>(p, block);
        case 2: return gemv<Q4_K, 1, false>(p, block);
        case 3: return gemv<Q5_K, 1, false>(p, block);
        default: return gemv<Q6_K, 1, false>(p, block);
    }
}

#define KERNEL(L, NAME, NC)                                                                          \
    extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_##NC(const __grid_constant__ Product p) { \
        gemv<L, NC, false>(p, blockIdx.x);                                                           \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) gated_##NAME##_##NC(const __grid_constant__ Product p) { \
        gemv<L, NC, true>(p, blockIdx.x);                                                            \
    }
#define KERNELS(L, NAME)                                                                             \
    KERNEL(L, NAME, 1)                                                                               \
    KERNEL(L, NAME, 2)                                                                               \
    KERNEL(L, NAME, 4)                                                                               \
    KERNEL(L, NAME, 8)                                                                               \
    extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_experts(const __grid_constant__ Product p) { \
        gemv_experts<L, false>(p);                                                                   \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) gated_##NAME##_experts(const __grid_constant__ Product p) { \
        gemv_experts<L, true>(p);                                                                    \
    }
FOR_QUANTIZED(KERNELS)
