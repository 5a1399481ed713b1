// Products of an F16, BF16 or F32 matrix [rows, pitch] (zeros behind `cols`) with 1 to 8 columns of
// unrounded f32 activations, summed in f32. A warp takes two rows (or one and its gate); lanes take
// 16 bytes of a row. Floor: the bytes of the matrix over bandwidth.
#include "gemv.cuh"

template <class T>
struct Chunk;

template <>
struct Chunk<float> {
    static constexpr int LEN = 4;
    __device__ __forceinline__ static void widen(const uint4& v, float* to) {
        to[0] = __uint_as_float(v.x);
        to[1] = __uint_as_float(v.y);
        to[2] = __uint_as_float(v.z);
        to[3] = __uint_as_float(v.w);
    }
};

template <>
struct Chunk<__half> {
    static constexpr int LEN = 8;
    __device__ __forceinline__ static void widen(const uint4& v, float* to) {
        const __half2* h = reinterpret_cast<const __half2*>(&v);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 f = __half22float2(h[i]);
            to[2 * i] = f.x;
            to[2 * i + 1] = f.y;
        }
    }
};

template <>
struct Chunk<__nv_bfloat16> {
    static constexpr int LEN = 8;
    __device__ __forceinline__ static void widen(const uint4& v, float* to) {
        const uint32_t* w = reinterpret_cast<const uint32_t*>(&v);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            to[2 * i] = __uint_as_float(w[i] << 16);
            to[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
        }
    }
};

// Sums of two rows with columns from `column` on; see gemv_quant.cu.
template <class T, int NC, bool WAIT>
__device__ __forceinline__ void sums(const Product& p, const Matrix& a, const Matrix& b, size_t first,
                                     size_t second, int column, const Share& share, float (&acc)[2][NC]) {
    constexpr int LEN = Chunk<T>::LEN, UNROLL = NC <= 2 ? 4 : 2;
    using Raws = uint4[UNROLL][2];
    int cols = a.cols, chunks = (cols + LEN - 1) / LEN;
    int lane = share.part * WARP + threadIdx.x % WARP, stride = share.parts * WARP, step = UNROLL * stride;
    // Rows of an f32 column begin where they can be read 16 bytes at a time, or they do not.
    bool aligned = cols % 4 == 0;
    const uint8_t* rows[2] = {a.q + first * chunks * 16, b.q + second * chunks * 16};
    auto fetch = [&](Raws& raw, int base) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int at = min(base + u * stride + lane, chunks - 1);
            raw[u][0] = stream16(rows[0] + size_t(at) * 16);
            raw[u][1] = stream16(rows[1] + size_t(at) * 16);
        }
    };
    auto take = [&](const Raws& raw, int base) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int k = (base + u * stride + lane) * LEN;
            if (k >= cols) break;
            float w[2][LEN];
            Chunk<T>::widen(raw[u][0], w[0]);
            Chunk<T>::widen(raw[u][1], w[1]);
#pragma unroll
            for (int c = 0; c < NC; c++) {
                const float* x = p.x + size_t(column + min(c, p.n - 1 - column)) * cols + k;
                float v[LEN];
                if (aligned && k + LEN <= cols) {
#pragma unroll
                    for (int i = 0; i < LEN; i += 4)
                        *reinterpret_cast<float4*>(v + i) = *reinterpret_cast<const float4*>(x + i);
                } else {
#pragma unroll
                    for (int i = 0; i < LEN; i++) v[i] = k + i < cols ? x[i] : 0.0f;
                }
#pragma unroll
                for (int i = 0; i < LEN; i++) {
                    acc[0][c] = fmaf(w[0][i], v[i], acc[0][c]);
                    acc[1][c] = fmaf(w[1][i], v[i], acc[1][c]);
                }
            }
        }
    };
    Raws even, odd;
    fetch(even, 0);
    fetch(odd, step);
    if (WAIT) wait_for_inputs();
    for (int base = 0; base < chunks; base += 2 * step) {
        take(even, base);
        if (base + 2 * step < chunks) fetch(even, base + 2 * step);
        take(odd, base + step);
        if (base + 3 * step < chunks) fetch(odd, base + 3 * step);
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int c = 0; c < NC; c++) acc[r][c] = warp_sum(acc[r][c]);
    add_parts<NC>(share, acc);
}

// Columns from blockIdx.y * NC on.
template <class T, int NC, bool GATED>
__device__ __forceinline__ void gemv(const Product& p) {
    let_next_start();
    Share share = share_of<GATED>(p, blockIdx.x);
    int row = min(share.row, p.w.rows - 1), column = blockIdx.y * NC;
    float acc[2][NC] = {};
    sums<T, NC, true>(p, p.w, GATED ? p.up : p.w, row, GATED ? row : min(row + 1, p.w.rows - 1), column, share, acc);
    if (threadIdx.x % WARP || share.part || share.row >= p.w.rows) return;
#pragma unroll
    for (int c = 0; c < NC; c++)
        if (column + c < p.n) store<GATED>(p, row, column + c, acc[0][c], acc[1][c]);
}

// Of a mixture: each pair of a token and an expert (blockIdx.y) by itself.
template <class T, bool GATED>
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
    sums<T, 1, false>(one, p.w, GATED ? p.up : p.w, first + row,
                      first + (GATED ? row : min(row + 1, p.w.rows - 1)), pair.column, share, acc);
    if (threadIdx.x % WARP || share.part || share.row >= p.w.rows) return;
    store<GATED>(p, row, blockIdx.y, acc[0][0], acc[1][0]);
}

#define KERNEL(T, NAME, NC)                                                                          \
    extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_##NC(const __grid_constant__ Product p) { \
        gemv<T, NC, false>(p);                                                                       \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) gated_##NAME##_##NC(const __grid_constant__ Product p) { \
        gemv<T, NC, true>(p);                                                                        \
    }
#define KERNELS(T, NAME)                                                                             \
    KERNEL(T, NAME, 1)                                                                               \
    KERNEL(T, NAME, 2)                                                                               \
    KERNEL(T, NAME, 4)                                                                               \
    KERNEL(T, NAME, 8)                                                                               \
    extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_experts(const __grid_constant__ Product p) { \
        gemv_experts<T, false>(p);                                                                   \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) gated_##NAME##_experts(const __grid_constant__ Product p) { \
        gemv_experts<T, true>(p);                                                                    \
    }
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
KERNELS(float, f32)
